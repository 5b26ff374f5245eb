"""Covariance: whole runs are the observations."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from calibrate import fit
from calibrate.campaign.campaign import CampaignInfo
from calibrate.fitting.covariance import (
    METHOD,
    NO_COVARIANCE,
    SLICES,
    Covariance,
    sandwich,
    sandwich_by_run,
    sandwich_by_slice,
    wider,
)
from calibrate.fitting.objective import Objective, build_dataset
from calibrate.fitting.problem import Problem
from calibrate.fitting.solver import minimise
from calibrate.trust.intervals import StandardErrors
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


def test_clusters_by_hand():
    """The mean of 0, 1, …, 9 less 4.5, two at a time: without a cluster of sum s the mean moves by s/8.

    Sums are ±8, ±4 and 0: variance 4/5·(2·1 + 2·1/4) = 2, and half of 90% is t(0.95, 4)·√2.
    """
    residual = np.arange(10.0) - 4.5
    clusters = [np.array([i, i + 1]) for i in range(0, 10, 2)]
    found = sandwich_by_run(["x"], residual, np.ones((10, 1)), np.ones(10), "linear", clusters)
    assert found.stderr["x"] == pytest.approx(2**0.5)
    assert found.half_width["x"] == pytest.approx(stats.t.ppf(0.95, 4) * 2**0.5)


def test_the_wider_of_two_by_hand():
    one = Covariance(
        {"a": 2.0, "b": 1.0}, {"a": 3.6, "b": 1.8}, np.array([[4.0, 1.0], [1.0, 1.0]]), np.eye(2)
    )
    other = Covariance({"a": 1.0, "b": 3.0}, {"a": 2.0, "b": 6.0}, np.eye(2), np.eye(2))
    both = wider(one, other)
    assert both.stderr == {"a": 2.0, "b": 3.0}
    assert both.half_width == {"a": 3.6, "b": 6.0}
    assert both.matrix.tolist() == [[4.0, 3.0], [3.0, 9.0]]
    assert wider(one, NO_COVARIANCE) is one


def bent(hardware, tps=(1, 2, 4, 8)):
    """Rows that a model and TP share an error of 10%, each run of its own an error of 0.5%."""
    campaign = truth_campaign(hardware, noise=0.005, tps=tps)
    group = campaign.steps["model"] + campaign.steps["tp"].astype(str)
    errors = np.random.default_rng(3).normal(0, 0.1, group.nunique())
    off = np.exp(group.map(dict(zip(group.unique(), errors, strict=True))))
    return dataclasses.replace(
        campaign, steps=campaign.steps.assign(latency_us=campaign.steps["latency_us"] * off)
    )


def test_misfit_by_model_and_tp_widens_what_runs_do_not_see(h100):
    problem, values = problem_of(h100, bent(h100))
    by_run = sandwich(problem, values)
    method, by_slice = sandwich_by_slice(problem, values)
    assert method == "sandwich by model and TP"
    assert by_slice.half_width["BwEffConstant"] > 1.5 * by_run.half_width["BwEffConstant"]
    (note,) = StandardErrors(by_run, by_slice, method).note
    assert "The model's misfit, not noise, moves the values" in note
    assert "times as wide" in note


def test_too_few_models_and_tp_take_phases_too_or_are_said_to_be_too_few(h100):
    """Two models at one TP: two slices by model and TP, six with the phase; four parameters want five."""
    problem, values = problem_of(h100, bent(h100, tps=(2,)))
    method, found = sandwich_by_slice(problem, values)
    assert (method, len(found.stderr)) == ("sandwich by phase, model and TP", 4)
    one_model = problem.on((problem.data.frame["model"] == "llama-2-13b").to_numpy())
    method, none = sandwich_by_slice(one_model, values)
    (note,) = StandardErrors(sandwich(problem, values), none, method).note
    assert "may be several times too narrow" in note


@pytest.mark.slow
def test_where_the_model_is_at_fault_the_wider_interval_is_shown_and_both_are_there(h100):
    campaign = bent(h100)
    composed = dataclasses.replace(campaign, info=CampaignInfo(kind="kernel-composed"))
    plain, wide = (fit([one], h100, starts=1, cv=["2"]) for one in (campaign, composed))
    assert wide.values == plain.values
    p = next(p for p in wide.parameters if p.name == "BwEffConstant")
    # Eight models × TP are too few for all parameters: with the phase there are 24 slices
    by_run, by_slice = p.intervals[METHOD], p.intervals[list(SLICES)[1]]
    assert by_slice[1] - by_slice[0] > 1.5 * (by_run[1] - by_run[0])
    assert p.ci90_method == "profile likelihood"
    assert p.ci90 == pytest.approx(by_slice, rel=0.05)
    assert sum("misfit, not noise" in text for text in wide.warnings) == 1
