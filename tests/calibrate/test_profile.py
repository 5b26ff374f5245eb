"""Profile likelihood: the textbook's where the textbook holds, and open where the data is."""

import dataclasses

import lmfit
import numpy as np
import pytest
from scipy import stats

from calibrate.fitting.covariance import Covariance, sandwich
from calibrate.fitting.objective import Objective, build_dataset
from calibrate.fitting.problem import Problem
from calibrate.fitting.search import fit_staged
from calibrate.fitting.solver import snap
from calibrate.trust import profile
from calibrate.trust.profile import profile_likelihood
from sim.models.roofline_v1.model import RooflineV1
from tests.calibrate.test_fit import random_truth, truth_campaign

NAMES = ("BwEffConstant", "mfuPrefill", "mfuDecode", "tpScalingExponent")


def solved(hardware, campaign, free, loss="soft_l1", unit_weights=False):
    data = build_dataset([campaign])
    if unit_weights:
        data = dataclasses.replace(data, weight=np.ones(len(data)))
    problem = Problem(RooflineV1(), hardware, data, tuple(free), loss)
    values = {name: snap(name, value) for name, value in fit_staged(problem).values.items()}
    return dataclasses.replace(problem, hardware=hardware.with_values(values)), values


def textbook(problem, values):
    """The intervals of independent Gaussian rows: (JᵀJ)⁻¹ times the residual variance."""
    objective = Objective(problem.model, problem.hardware, problem.data)
    residual = objective.residuals(values)
    jacobian = objective.jacobian(values)
    freedom = len(residual) - len(values)
    curvature = jacobian.T @ jacobian
    covariance = np.linalg.inv(curvature) * (residual @ residual) / freedom
    stderr = dict(zip(values, np.sqrt(np.diag(covariance)).tolist(), strict=True))
    half_width = {name: stats.t.ppf(0.95, freedom) * error for name, error in stderr.items()}
    return Covariance(stderr, half_width, covariance, curvature)


def test_it_agrees_with_lmfit_where_rows_are_independent_and_the_loss_is_linear(h100):
    """Few noisy rows, so that the profiles bend away from the textbook's straight intervals."""
    campaign = truth_campaign(h100, noise=0.3, tps=(1, 2))
    problem, values = solved(h100, campaign, NAMES, "linear", unit_weights=True)
    intervals = textbook(problem, values)
    found = profile_likelihood(problem, values, intervals)
    objective = Objective(problem.model, problem.hardware, problem.data)
    parameters = lmfit.create_params(**values)
    minimiser = lmfit.Minimizer(lambda p: objective.residuals(p.valuesdict()), parameters)
    fitted = minimiser.minimize(method="leastsq", xtol=1e-12, ftol=1e-12)
    expected = lmfit.conf_interval(minimiser, fitted, sigmas=[0.9])
    straight = []
    for name in NAMES:
        (_, low), _, (_, high) = expected[name]
        width = high - low
        assert found[name].low == pytest.approx(low, abs=0.01 * width), name
        assert found[name].high == pytest.approx(high, abs=0.01 * width), name
        straight.append(abs(values[name] - intervals.half_width[name] - low) / width)
    assert max(straight) > 0.02


def test_a_well_determined_parameter_has_the_interval_of_the_sandwich(h100):
    problem, values = solved(h100, truth_campaign(h100, noise=0.01), NAMES)
    intervals = sandwich(problem, values)
    for name, found in profile_likelihood(problem, values, intervals).items():
        half_width = intervals.half_width[name]
        assert found.low == pytest.approx(values[name] - half_width, abs=0.1 * half_width)
        assert found.high == pytest.approx(values[name] + half_width, abs=0.1 * half_width)


def test_the_rise_is_one_at_the_ends_and_zero_at_the_solution(h100):
    problem, values = solved(h100, truth_campaign(h100), NAMES)
    for name, found in profile_likelihood(problem, values, sandwich(problem, values)).items():
        assert list(found.values) == sorted(found.values)
        rise = dict(zip(found.values, found.rise, strict=True))
        assert rise[values[name]] == 0.0
        assert min(found.rise) > -1e-3
        for end in (found.low, found.high):
            assert np.interp(end, found.values, found.rise) == pytest.approx(1.0, abs=0.02)


def test_a_side_without_an_end_says_so(h100):
    """Attention that is fast enough takes no time that noisy steps would show, however much faster it is."""
    names = (*NAMES, "vectorPeakFraction")
    campaign = truth_campaign(h100.with_values({"vectorPeakFraction": 0.4}), tps=(1, 2), noise=0.3)
    problem, values = solved(h100, campaign, names)
    found = profile_likelihood(problem, values, sandwich(problem, values))["vectorPeakFraction"]
    assert 0.001 < found.low < values["vectorPeakFraction"]
    assert found.high is None
    assert found.values[-1] == 1.0
    assert found.rise[-1] < 1.0


def test_a_parameter_at_its_bound_has_the_other_side(h100):
    truth = h100.with_values({"allReduceLatency": 0.0})
    names = (*NAMES, "allReduceLatency")
    problems = [solved(h100, truth_campaign(truth, seed), names) for seed in range(4)]
    problem, values = next((p, v) for p, v in problems if v["allReduceLatency"] == 0.0)
    inside = {name: value for name, value in values.items() if name != "allReduceLatency"}
    found = profile_likelihood(problem, inside, sandwich(problem, inside))
    assert found["allReduceLatency"].low is None
    assert 0.0 < found["allReduceLatency"].high < 5.0
    assert found.keys() == set(names)


def test_too_few_runs_have_no_profile(h100):
    campaign = truth_campaign(h100)
    steps = campaign.steps.assign(run_id=(np.arange(len(campaign.steps)) % 4).astype(str))
    problem, values = solved(h100, dataclasses.replace(campaign, steps=steps), NAMES)
    assert profile_likelihood(problem, values, sandwich(problem, values)) == {}


def test_a_thinned_profile_has_the_width_of_the_whole(h100, monkeypatch):
    problem, values = solved(h100, truth_campaign(random_truth(h100, 3)), NAMES)
    intervals = sandwich(problem, values)
    whole = profile_likelihood(problem, values, intervals)
    monkeypatch.setattr(profile, "_ROWS", 200)
    thinned = profile_likelihood(problem, values, intervals)
    for name in NAMES:
        width = whole[name].high - whole[name].low
        assert thinned[name].low == pytest.approx(whole[name].low, abs=0.15 * width)
        assert thinned[name].high == pytest.approx(whole[name].high, abs=0.15 * width)
        assert len(thinned[name].values) == len(thinned[name].rise)


def test_a_single_parameter_needs_no_others(h100):
    problem, values = solved(h100, truth_campaign(h100), ("BwEffConstant",))
    half_width = sandwich(problem, values).half_width["BwEffConstant"]
    found = profile_likelihood(problem, values, sandwich(problem, values))["BwEffConstant"]
    assert found.high - found.low == pytest.approx(2 * half_width, rel=0.1)


def test_data_without_noise_has_no_profile(h100):
    problem, values = solved(h100, truth_campaign(h100, noise=0.0), NAMES)
    assert profile_likelihood(problem, values, sandwich(problem, values)) == {}
