"""Priors: what they pull, how hard, and that the result says so."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from calibrate import fit
from calibrate.fitting.covariance import Covariance
from calibrate.fitting.objective import Dataset
from calibrate.fitting.problem import Problem, Pull
from calibrate.fitting.solver import cost, minimise
from calibrate.job.priors import Prior, pulls, read_priors, with_priors
from calibrate.records.errors import CalibrateError
from sim.models.registry import PARAMETERS
from sim.models.roofline_v1.model import RooflineV1
from sim.steps.batch import StepTable
from tests.calibrate.test_fit import truth_campaign
from tests.synthetic import synthetic_steps

NAMES = ("BwEffConstant", "mfuPrefill", "TOverheadMicros")


def by_name(result):
    return {p.name: p for p in result.parameters}


def test_the_guides_ranges_hold_nine_tenths_of_the_prior():
    priors = read_priors("guide", 1.0, NAMES)
    assert priors["BwEffConstant"] == Prior(
        "guide", pytest.approx(0.7), pytest.approx(0.1 / 1.6449)
    )
    assert read_priors("guide", 4.0, NAMES)["BwEffConstant"].sd == pytest.approx(0.05 / 1.6449)


def test_precisions_add_up():
    data = Covariance(
        {"BwEffConstant": 0.02}, {"BwEffConstant": 0.04}, np.array([[0.0004]]), np.array([[100.0]])
    )
    prior = {"BwEffConstant": Prior("guide", 0.7, 0.02)}
    pulled = pulls(prior, data)
    assert pulled["BwEffConstant"] == Pull(0.7, pytest.approx(0.0004 / 0.01 / 0.0004))
    both = with_priors(data, prior, pulled, {"BwEffConstant": 0.7})
    assert both.stderr["BwEffConstant"] == pytest.approx(0.02 / 2**0.5)
    assert both.half_width["BwEffConstant"] == pytest.approx(0.04 / 2**0.5)


def correlated_problem(h100):
    """A fit with two parameters that a prior couples, from where the data puts neither."""
    table = StepTable.from_columns(synthetic_steps(h100, 60))
    model = RooflineV1()
    measured = model.predict_us(table, h100)
    frame = pd.DataFrame({"set_aside": np.zeros(60, dtype=bool)})
    data = Dataset(table, measured, np.full(60, 0.05), np.ones(60), frame)
    names = ("BwEffConstant", "mfuPrefill")
    covariance = np.array([[4e-4, 2.7e-4], [2.7e-4, 9e-4]])
    precision = np.linalg.inv(covariance)
    pulls = {
        name: Pull(mean, precision[i, i], {names[1 - i]: precision[i, 1 - i]})
        for i, (name, mean) in enumerate(zip(names, (0.6, 0.5), strict=True))
    }
    return Problem(model, h100, data, names, "linear", pulls), precision


def test_a_coupled_prior_is_the_quadratic_form_of_its_precision(h100):
    problem, precision = correlated_problem(h100)
    values = {"BwEffConstant": 0.65, "mfuPrefill": 0.45}
    off = np.array([0.05, -0.05])
    bare = dataclasses.replace(problem, pulls={})
    assert cost(problem, values) - cost(bare, values) == pytest.approx(off @ precision @ off / 2)
    best = minimise(problem, problem.start).values
    for name in best:
        for step in (-1e-4, 1e-4):
            assert cost(problem, {**best, name: best[name] + step}) > cost(problem, best)


def test_of_coupled_parameters_one_is_fitted_given_the_other(h100):
    problem, _ = correlated_problem(h100)
    alone = dataclasses.replace(problem, free=("mfuPrefill",))
    best = minimise(alone, {"mfuPrefill": 0.6}).values["mfuPrefill"]
    for step in (-1e-4, 1e-4):
        assert cost(alone, {"mfuPrefill": best + step}) > cost(alone, {"mfuPrefill": best})


def test_correlated_precisions_add_up():
    names = ("BwEffConstant", "mfuPrefill")
    matrix = np.array([[4e-4, -1e-4], [-1e-4, 9e-4]])
    stderr = dict(zip(names, (0.02, 0.03), strict=True))
    data = Covariance(stderr, {name: 2 * error for name, error in stderr.items()}, matrix, matrix)
    prior = {
        "BwEffConstant": Prior("p", 0.7, 0.02, {"mfuPrefill": 0.5}),
        "mfuPrefill": Prior("p", 0.6, 0.03, {"BwEffConstant": 0.5}),
    }
    known = np.array([[4e-4, 3e-4], [3e-4, 9e-4]])
    both = with_priors(data, prior, pulls(prior, data), dict.fromkeys(names, 0.6))
    expected = np.linalg.inv(np.linalg.inv(matrix) + np.linalg.inv(known))
    assert both.matrix == pytest.approx(expected)
    assert both.stderr["mfuPrefill"] == pytest.approx(expected[1, 1] ** 0.5)


def test_a_prior_as_sure_as_the_data_meets_it_halfway(h100):
    campaign = truth_campaign(h100, noise=0.03, tps=(1, 2))
    others = dict.fromkeys(set(RooflineV1.parameter_names) - {"mfuPrefill"})
    alone = by_name(fit([campaign], h100, fix=others, starts=2, cv=["2"]))["mfuPrefill"]
    low, high = PARAMETERS["mfuPrefill"].guide
    strength = ((high - low) / 2 / 1.6449 / alone.stderr) ** 2
    result = fit(
        [campaign], h100, fix=others, starts=2, cv=["2"], prior="guide", prior_strength=strength
    )
    both = by_name(result)["mfuPrefill"]
    assert both.prior.sd == pytest.approx(alone.stderr)
    assert both.prior.data == alone.value
    assert both.prior.pull == pytest.approx(0.5, abs=0.05)
    assert both.stderr == pytest.approx(alone.stderr / 2**0.5, rel=0.05)
    assert (both.value - alone.value) / (both.prior.mean - alone.value) == pytest.approx(
        0.5, abs=0.1
    )


@pytest.mark.usefixtures("no_profiles")
def test_a_weak_prior_changes_nothing_and_a_strong_one_everything(h100):
    campaign = truth_campaign(h100, noise=0.02, tps=(1, 2))
    alone = by_name(fit([campaign], h100, starts=2, cv=["2"]))
    weak = by_name(fit([campaign], h100, starts=2, cv=["2"], prior="guide", prior_strength=1e-6))
    strong = by_name(fit([campaign], h100, starts=2, cv=["2"], prior="guide", prior_strength=1e8))
    for name in NAMES:
        assert weak[name].value == pytest.approx(alone[name].value, rel=1e-3)
        assert weak[name].prior.pull < 1e-3
        assert strong[name].value == pytest.approx(strong[name].prior.mean, rel=1e-2)
        assert strong[name].prior.pull > 0.99


@pytest.mark.slow
def test_every_interval_narrows_with_the_prior(h100):
    campaign = truth_campaign(h100, noise=0.03, tps=(1, 2))
    alone = by_name(fit([campaign], h100, starts=2, cv=["2"]))["TOverheadMicros"]
    both = by_name(fit([campaign], h100, starts=2, cv=["2"], prior="guide", prior_strength=4.0))[
        "TOverheadMicros"
    ]
    for method in ("sandwich by run", "profile likelihood"):
        low, high = both.intervals[method]
        assert high - low < 0.9 * (alone.intervals[method][1] - alone.intervals[method][0])


@pytest.mark.parametrize(
    ("source", "strength", "message"),
    [
        ("guide", 0.0, "positive"),
        ("guide", float("nan"), "positive"),
        ("gide", 1.0, "give guide, or the folder"),
    ],
)
def test_a_prior_that_makes_no_sense_is_refused(source, strength, message):
    with pytest.raises(CalibrateError, match=message):
        read_priors(source, strength, NAMES)
