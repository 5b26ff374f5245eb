"""Profiles of a model so simple that their ends are known in closed form."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from calibrate.campaign.campaign import Campaign, CampaignInfo
from calibrate.fitting.covariance import sandwich
from calibrate.fitting.objective import build_dataset
from calibrate.fitting.problem import Problem
from calibrate.fitting.solver import minimise
from calibrate.trust import profile
from calibrate.trust.profile import profile_likelihood
from sim import Hardware, LatencyModel, Parameter, StepTable, register
from sim.models import registry
from tests.conftest import ROOT

BATCHES = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0])
NOISE = np.array([0.05, -0.02, 0.04, -0.06, 0.01, 0.03, -0.07, 0.02])


def parameter(name, lower, upper):
    return Parameter(name, "–", lower, upper, (1.0, 2.0), "bandwidth", name, "any", default=1.0)


class Power(LatencyModel):
    """A step of batch n takes factor · e^level · n^slope µs: a straight line in ln, but for the factor."""

    name = "power"
    parameter_set = (
        parameter("powerLevel", -50.0, 50.0),
        parameter("powerSlope", -50.0, 50.0),
        parameter("powerFactor", 0.001, 2.5),
    )

    def predict_us(self, table, hardware):
        values = self.parameters(hardware)
        line = values["powerLevel"] + values["powerSlope"] * np.log(table.moments[6])
        return values["powerFactor"] * np.exp(line)

    def predict_with_jacobian_us(self, table, hardware, names):
        predicted = self.predict_us(table, hardware)
        slopes = {
            "powerLevel": predicted,
            "powerSlope": predicted * np.log(table.moments[6]),
            "powerFactor": predicted / self.parameters(hardware)["powerFactor"],
        }
        return predicted, np.column_stack([slopes[name] for name in names])

    def regimes(self, table, hardware):
        return np.full(len(table), "memory")


@pytest.fixture(autouse=True)
def power():
    """The model, registered for one test."""
    models, parameters = dict(registry.LATENCY_MODELS), dict(registry.PARAMETERS)
    register(Power)
    yield
    for known, before in ((registry.LATENCY_MODELS, models), (registry.PARAMETERS, parameters)):
        known.clear()
        known.update(before)


def solved(free, times=1, noise=NOISE):
    """The problem at its solution: eight batches, each a run of its own, ``times`` rows each, about 2·n^0.5 µs."""
    batches = np.tile(BATCHES, times)
    steps = pd.DataFrame(
        {
            "model": "llama-3.1-8b",
            "tp": 1,
            "num_decode_requests": batches,
            "sum_decode_kv_tokens": batches * np.repeat(np.arange(1, times + 1), 8),
            "latency_us": 2 * batches**0.5 * np.exp(np.tile(noise, times)),
            "run_id": [f"batch {batch}" for batch in batches],
            "line": np.arange(len(batches)),
        }
    )
    table = StepTable.from_columns(steps)
    campaign = Campaign("power", "H100", ROOT, CampaignInfo(), steps, table, (), ())
    values = {"powerLevel": 0.0, "powerSlope": 0.5, "powerFactor": 1.0}
    hardware = Hardware("H100", {"TFlopsPeak": 1.0, "BwPeakTBs": 1.0, **values})
    problem = Problem(Power(), hardware, build_dataset([campaign]), tuple(free), "linear")
    found = minimise(problem, problem.start).values
    return dataclasses.replace(problem, hardware=hardware.with_values(found)), found


def profiled(free, **options):
    problem, values = solved(free, **options)
    joint = sandwich(problem, values)
    return profile_likelihood(problem, values, joint), values, joint.half_width


def test_of_a_straight_line_they_are_parabolas_with_the_ends_of_the_sandwich():
    """Level and slope hang together: held fast, either would seem known far better."""
    profiles, values, half = profiled(["powerLevel", "powerSlope"])
    for name, found in profiles.items():
        assert found.low == pytest.approx(values[name] - half[name], abs=0.01 * half[name])
        assert found.high == pytest.approx(values[name] + half[name], abs=0.01 * half[name])
        moved = (np.array(found.values) - values[name]) / half[name]
        assert found.rise == pytest.approx(moved**2, rel=1e-3, abs=1e-6)
        assert len(found.values) >= 5


def test_of_a_factor_they_are_parabolas_in_its_logarithm():
    """The cost is n·ln²(θ/θ̂)/2σ²: with the sandwich's half-width h the ends are θ̂·e^(±h/θ̂)."""
    profiles, values, half = profiled(["powerFactor"])
    (found,), (value,), (half,) = profiles.values(), values.values(), half.values()
    assert found.low == pytest.approx(value * np.exp(-half / value), abs=0.005 * half)
    assert found.high == pytest.approx(value * np.exp(half / value), abs=0.005 * half)
    rise = (np.log(np.array(found.values) / value) * value / half) ** 2
    assert found.rise == pytest.approx(rise, rel=1e-3, abs=1e-6)


def test_a_bound_before_the_end_leaves_it_open():
    """2.5 is nearer to 2 than the end of eight rows that spread by half."""
    profiles, values, half = profiled(["powerFactor"], noise=10 * NOISE)
    found = profiles["powerFactor"]
    assert values["powerFactor"] + half["powerFactor"] > 2.3
    assert found.high is None
    assert found.values[-1] == 2.5
    assert found.rise[-1] < 1
    assert found.low == pytest.approx(
        values["powerFactor"] * np.exp(-half["powerFactor"] / values["powerFactor"]), rel=0.01
    )


def test_a_parameter_at_its_bound_has_the_end_of_the_other_side():
    """Measured 1.4 times 2, the factor stops at 2.5. Its cost is a parabola in ln about the L of a straight line.

    From ln 2.5 it rises by the threshold, h² of such a parabola, at (L - ln θ)² = (L - ln 2.5)² + h².
    """
    noise = NOISE + np.log(1.4)
    problem, values = solved(["powerFactor", "powerSlope"], noise=noise)
    assert values["powerFactor"] == pytest.approx(2.5)
    at_bound = {**values, "powerFactor": 2.5}
    problem = dataclasses.replace(problem, hardware=problem.hardware.with_values(at_bound))
    inside = {"powerSlope": values["powerSlope"]}
    found = profile_likelihood(problem, inside, sandwich(problem, inside))["powerFactor"]
    assert found.high is None
    best = np.log(2) + np.polyfit(np.log(BATCHES), noise, 1)[1]
    half = sandwich(problem, at_bound).half_width["powerFactor"] / 2.5
    low = np.exp(best - np.hypot(best - np.log(2.5), half))
    assert 2.5 - found.low == pytest.approx(2.5 - low, rel=0.02)


def test_without_noise_there_is_none():
    assert profiled(["powerLevel", "powerSlope"], noise=np.zeros(8))[0] == {}


def test_thinned_rows_give_the_shape_about_the_estimate_of_all(monkeypatch):
    """A parabola again, about the estimate from all rows, wide as the sandwich of all rows has it."""
    monkeypatch.setattr(profile, "_ROWS", 40)
    profiles, values, half = profiled(["powerLevel", "powerSlope"], times=8)
    for name, found in profiles.items():
        assert found.low == pytest.approx(values[name] - half[name], abs=0.01 * half[name])
        assert found.high == pytest.approx(values[name] + half[name], abs=0.01 * half[name])
        moved = (np.array(found.values) - values[name]) / half[name]
        assert found.rise == pytest.approx(moved**2, rel=1e-2, abs=1e-3)
