"""Covariance: whole runs are the observations."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from calibrate import fit
from calibrate.fitting.covariance import METHOD, sandwich
from calibrate.fitting.objective import Objective, build_dataset
from calibrate.fitting.problem import Problem
from calibrate.fitting.solver import minimise
from sim import StepTable
from sim.models.roofline_v1.model import RooflineV1
from tests.calibrate.test_fit import truth_campaign

NAMES = ("BwEffConstant", "mfuPrefill", "tpScalingExponent", "decodeTpScalingExponent")


def problem_of(hardware, campaign, loss="linear"):
    problem = Problem(RooflineV1(), hardware, build_dataset([campaign]), NAMES, loss)
    values = minimise(problem, problem.start).values
    return dataclasses.replace(problem, hardware=hardware.with_values(values)), values


def each_row_a_run(campaign):
    runs = np.arange(len(campaign.steps)).astype(str)
    return dataclasses.replace(campaign, steps=campaign.steps.assign(run_id=runs))


def test_with_independent_noise_they_agree_with_the_textbook_covariance(h100):
    problem, values = problem_of(h100, each_row_a_run(truth_campaign(h100, tps=(1, 2, 4, 8))))
    problem = dataclasses.replace(
        problem, data=dataclasses.replace(problem.data, weight=np.ones(len(problem.data)))
    )
    objective = Objective(problem.model, problem.hardware, problem.data)
    residual = objective.residuals(values)
    jacobian = objective.jacobian(values)
    covariance = (
        np.linalg.inv(jacobian.T @ jacobian) * (residual @ residual) / (len(residual) - len(values))
    )
    found = sandwich(problem, values).stderr
    for name, expected in zip(values, np.sqrt(np.diag(covariance)), strict=True):
        assert found[name] == pytest.approx(expected, rel=0.25)


def test_repeating_the_rows_of_every_run_teaches_nothing(h100):
    campaign = truth_campaign(h100)
    steps = pd.concat([campaign.steps] * 3, ignore_index=True)
    thrice = dataclasses.replace(campaign, steps=steps, table=StepTable.from_columns(steps))
    once, many = (sandwich(*problem_of(h100, c, "soft_l1")).half_width for c in (campaign, thrice))
    for name in NAMES:
        assert many[name] == pytest.approx(once[name], rel=0.02)


def test_rows_that_err_together_widen_them(h100):
    campaign = truth_campaign(h100, noise=0.0)
    run = campaign.steps["model"] + campaign.steps["tp"].astype(str)
    together = dict(
        zip(run.unique(), np.random.default_rng(0).normal(0, 0.05, run.nunique()), strict=True)
    )
    latency = campaign.steps["latency_us"] * np.exp(run.map(together))
    off = dataclasses.replace(campaign, steps=campaign.steps.assign(latency_us=latency, run_id=run))
    by_run = sandwich(*problem_of(h100, off)).half_width
    by_row = sandwich(*problem_of(h100, each_row_a_run(off))).half_width
    assert by_run["BwEffConstant"] > 1.5 * by_row["BwEffConstant"]


def test_too_few_runs_give_no_interval(h100):
    campaign = truth_campaign(h100)
    four = campaign.steps.assign(run_id=(np.arange(len(campaign.steps)) % 4).astype(str))
    result = fit([dataclasses.replace(campaign, steps=four)], h100, starts=1)
    assert all(
        p.ci90 is None and p.stderr is None and p.ci90_method is None for p in result.parameters
    )


def test_the_result_says_how_they_were_made(h100):
    result = fit([truth_campaign(h100)], h100, starts=1)
    for p in result.parameters:
        if p.status == "fitted":
            assert p.ci90_method == "profile likelihood"
            assert p.intervals.keys() == {"profile likelihood", METHOD}
            assert p.intervals[p.ci90_method] == p.ci90
            assert p.ci90[0] < p.value < p.ci90[1]
            assert p.lower <= p.ci90[0]
            assert p.ci90[1] <= p.upper
        else:
            assert p.ci90 is p.ci90_method is p.stderr is None
