"""Do 90% intervals cover the truth nine times in ten? 200 synthetic truths for each kind of noise."""

import collections
import dataclasses

import numpy as np
import pytest

from calibrate.identifiability import choose_free, sensitivity
from calibrate.objective import build_dataset
from calibrate.solver import Problem, at_bound, fit_staged
from calibrate.uncertainty import sandwich
from sim import load_hardware
from sim.roofline_v1 import RooflineV1
from tests.calibrate.test_fit import random_truth, truth_campaign
from tests.conftest import GUIDE_H100

TRUTHS = 200
LOW, HIGH = 0.85, 0.95


def gaussian(steps, rng):
    return np.ones(len(steps))


def outliers(steps, rng):
    """A tenth of the rows off by a factor of 3, up or down."""
    return np.where(rng.random(len(steps)) < 0.1, 3.0 ** rng.choice([-1, 1], len(steps)), 1.0)


def correlated_runs(steps, rng):
    """Every run off as a whole, by 5%."""
    factors = {run: np.exp(0.05 * rng.standard_normal()) for run in steps["run_id"].unique()}
    return steps["run_id"].map(factors).to_numpy()


@pytest.mark.parametrize("noise", [gaussian, outliers, correlated_runs], ids=lambda noise: noise.__name__)
def test_coverage_of_the_90_percent_intervals(benchmark, noise):
    hardware, model = load_hardware({"H100": GUIDE_H100}), RooflineV1()
    covered, seen = collections.Counter(), collections.Counter()

    def one_truth(seed):
        truth = random_truth(hardware, seed)
        campaign = truth_campaign(truth, seed)
        latency = campaign.steps["latency_us"] * noise(campaign.steps, np.random.default_rng(5000 + seed))
        data = build_dataset([dataclasses.replace(campaign, steps=campaign.steps.assign(latency_us=latency))])
        choice = choose_free(sensitivity(model, hardware, data), model.parameters(hardware), [], [])
        problem = Problem(model, hardware, data, choice.free, "soft_l1")
        fitted = fit_staged(problem).values
        values = {name: value for name, value in fitted.items() if not at_bound(name, value)}
        at_solution = dataclasses.replace(problem, hardware=hardware.with_values(fitted))
        for name, half_width in sandwich(at_solution, values).half_width.items():
            seen[name] += 1
            covered[name] += abs(values[name] - truth.values[name]) <= half_width

    benchmark.pedantic(lambda: [one_truth(seed) for seed in range(TRUTHS)], rounds=1)
    overall = covered.total() / seen.total()
    by_parameter = ", ".join(f"{name} {covered[name] / seen[name]:.1%}" for name in seen)
    print(f"\n{noise.__name__}: {overall:.1%} of {seen.total()} intervals cover ({by_parameter})")
    assert LOW <= overall <= HIGH
