"""Do 90% intervals cover the truth nine times in ten? 200 synthetic truths for each kind of noise, by method."""

import collections
import dataclasses
import itertools
import os

import joblib
import numpy as np
import pytest

from calibrate.fitting import covariance as uncertainty
from calibrate.fitting.identifiability import choose_free, sensitivity
from calibrate.fitting.objective import build_dataset
from calibrate.fitting.problem import Problem
from calibrate.fitting.solver import at_bound, fit_staged
from calibrate.trust import bootstrap, profile
from sim import load_hardware
from sim.models.roofline_v1.model import RooflineV1
from tests.calibrate.test_fit import random_truth, truth_campaign
from tests.conftest import GUIDE_H100

TRUTHS = 200
BOOTSTRAP_TRUTHS, SAMPLES = 60, 100
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


def fitted_to(truth, noise, seed):
    """The problem at its solution, and the parameters inside their bounds there."""
    hardware = load_hardware({"H100": GUIDE_H100})
    model = RooflineV1()
    campaign = truth_campaign(truth, seed)
    latency = campaign.steps["latency_us"] * noise(
        campaign.steps, np.random.default_rng(5000 + seed)
    )
    data = build_dataset(
        [dataclasses.replace(campaign, steps=campaign.steps.assign(latency_us=latency))]
    )
    choice = choose_free(sensitivity(model, hardware, data), model.parameters(hardware), [], [])
    problem = Problem(model, hardware, data, choice.free, "soft_l1")
    fitted = fit_staged(problem).values
    values = {name: value for name, value in fitted.items() if not at_bound(name, value)}
    return dataclasses.replace(problem, hardware=hardware.with_values(fitted)), values


def one_truth(noise, seed):
    """Whether each interval covers the truth, as (method, parameter, covered)."""
    truth = random_truth(load_hardware({"H100": GUIDE_H100}), seed)
    problem, values = fitted_to(truth, noise, seed)
    known = uncertainty.sandwich(problem, values)
    ends = {
        (uncertainty.METHOD, n): (values[n] - half, values[n] + half)
        for n, half in known.half_width.items()
    }
    profiles = profile.profile_likelihood(problem, values, known)
    ends |= {(profile.METHOD, name): (found.low, found.high) for name, found in profiles.items()}
    if seed < BOOTSTRAP_TRUTHS:
        drawn = bootstrap.bootstrap(problem, values, SAMPLES, seed)
        ends |= {(bootstrap.METHOD, name): drawn.interval(name) for name in values}
    return [
        (
            method,
            name,
            (low is None or low <= truth.values[name])
            and (high is None or truth.values[name] <= high),
        )
        for (method, name), (low, high) in ends.items()
    ]


@pytest.mark.parametrize(
    "noise", [gaussian, outliers, correlated_runs], ids=lambda noise: noise.__name__
)
def test_coverage_of_the_90_percent_intervals(benchmark, noise):
    def all_truths():
        return joblib.Parallel(n_jobs=os.cpu_count())(
            joblib.delayed(one_truth)(noise, s) for s in range(TRUTHS)
        )

    covered = collections.Counter()
    seen = collections.Counter()
    for method, name, inside in itertools.chain.from_iterable(
        benchmark.pedantic(all_truths, rounds=1)
    ):
        seen[method, name] += 1
        covered[method, name] += inside
    for method in dict.fromkeys(method for method, _ in seen):
        names = [name for m, name in seen if m == method]
        count = sum(seen[method, name] for name in names)
        overall = sum(covered[method, name] for name in names) / count
        by_parameter = ", ".join(
            f"{name} {covered[method, name] / seen[method, name]:.0%}" for name in names
        )
        print(
            f"\n{noise.__name__}, {method}: {overall:.1%} of {count} intervals cover ({by_parameter})"
        )
        assert LOW <= overall <= HIGH, method
