"""Do 90% intervals cover the truth nine times in ten? 200 synthetic truths for each kind of noise, by method."""

import dataclasses
import itertools
import os

import joblib
import numpy as np
import pytest

from calibrate.fitting.identifiability import choose_free, sensitivity
from calibrate.fitting.objective import build_dataset
from calibrate.fitting.problem import Problem
from calibrate.trust import bootstrap
from sim import load_hardware
from sim.models.roofline_v1.model import RooflineV1
from tests.calibrate.test_fit import random_truth, truth_campaign
from tests.conftest import GUIDE_H100
from tests.coverage import (
    correlated_runs,
    coverages,
    covered,
    gaussian,
    intervals,
    outliers,
    solved,
)

TRUTHS = 200
BOOTSTRAP_TRUTHS, SAMPLES = 60, 100
LOW, HIGH = 0.85, 0.95


def problem_of(truth, noise, seed):
    """A fit of all that its steps can tell to a truth's steps with noise."""
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
    return Problem(model, hardware, data, choice.free, "soft_l1")


def one_truth(noise, seed):
    """Whether each interval covers the truth, as (method, parameter, covered)."""
    truth = random_truth(load_hardware({"H100": GUIDE_H100}), seed)
    problem, values = solved(problem_of(truth, noise, seed))
    ends = intervals(problem, values)
    if seed < BOOTSTRAP_TRUTHS:
        drawn = bootstrap.bootstrap(problem, values, SAMPLES, seed)
        ends |= {(bootstrap.METHOD, name): drawn.interval(name) for name in values}
    return covered(ends, truth.values)


@pytest.mark.parametrize(
    "noise", [gaussian, outliers, correlated_runs], ids=lambda noise: noise.__name__
)
def test_coverage_of_the_90_percent_intervals(benchmark, noise):
    def all_truths():
        return joblib.Parallel(n_jobs=os.cpu_count())(
            joblib.delayed(one_truth)(noise, s) for s in range(TRUTHS)
        )

    found = itertools.chain.from_iterable(benchmark.pedantic(all_truths, rounds=1))
    for one in coverages(found):
        print(f"\n{noise.__name__}, {one}")
        assert LOW <= one.hits / one.count <= HIGH, one.method
