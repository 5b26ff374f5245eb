"""Prediction bands: nine new steps in ten lie within, whatever the noise and the model's own error."""

import dataclasses

import numpy as np
import pytest

from calibrate.fitting.covariance import NO_COVARIANCE, sandwich
from calibrate.fitting.solver import at_bound
from calibrate.trust.bands import bands_of, prediction_bands
from calibrate.trust.crossval import predict_held_out, splits
from tests.calibrate.test_fit import random_truth, truth_campaign
from tests.calibrate.test_profile import NAMES, solved

FREE = (*NAMES, "decodeTpScalingExponent", "TOverheadMicros", "vectorPeakFraction")


def run_errors(campaign, size, seed):
    """Every run off as a whole."""
    rng = np.random.default_rng(900 + seed)
    factors = {
        run: np.exp(size * rng.standard_normal()) for run in campaign.steps["run_id"].unique()
    }
    latency = campaign.steps["latency_us"] * campaign.steps["run_id"].map(factors)
    return dataclasses.replace(campaign, steps=campaign.steps.assign(latency_us=latency))


def banded(hardware, campaign, free=FREE):
    problem, values = solved(hardware, campaign, free)
    intervals = sandwich(problem, {n: v for n, v in values.items() if not at_bound(n, v)})
    folds = next(split for split in splits(problem.data, 0) if split.name == "folds")
    return problem, intervals, predict_held_out(problem, problem.start, folds, seed=0)


def inside(low_us, high_us, measured_us):
    return ((low_us <= measured_us) & (measured_us <= high_us)).mean()


@pytest.mark.parametrize(("noise", "run_error"), [(0.02, 0.0), (0.02, 0.05), (0.2, 0.1)])
@pytest.mark.slow
def test_nine_fresh_steps_in_ten_lie_within(h100, noise, run_error):
    shares, told = [], []
    for seed in range(2):
        truth = random_truth(h100, seed)
        problem, intervals, held_out = banded(
            truth, run_errors(truth_campaign(truth, seed, noise), run_error, seed)
        )
        found = prediction_bands(problem, intervals, held_out)
        assert (found.low_us < found.high_us).all()
        told.append(found.coverage["all"])
        for fresh in range(100, 105):
            new = run_errors(truth_campaign(truth, fresh, noise), run_error, fresh)
            shares.append(inside(found.low_us, found.high_us, new.steps["latency_us"].to_numpy()))
    assert 0.85 <= np.mean(shares) <= 0.95
    assert np.mean(told) == pytest.approx(np.mean(shares), abs=0.04)


def test_a_model_that_is_wrong_has_bands_as_wide_as_its_errors(h100):
    """Held-out errors of 30% widen bands that the noise of 2% would leave narrow."""
    campaign = truth_campaign(h100)
    wrong = campaign.steps["latency_us"] * np.where(
        campaign.steps["num_decode_requests"] > 50, 1.6, 1.0
    )
    off = dataclasses.replace(campaign, steps=campaign.steps.assign(latency_us=wrong))
    right, spoilt = (prediction_bands(*banded(h100, c)) for c in (campaign, off))
    assert spoilt.factor["decode"] > 3 * right.factor["decode"]
    assert 0.85 <= spoilt.coverage["all"] <= 0.95
    assert inside(spoilt.low_us, spoilt.high_us, wrong.to_numpy()) > 0.85


def test_coverage_is_told_by_slice(h100):
    found = prediction_bands(*banded(h100, truth_campaign(h100)))
    assert {
        "all",
        "phase:prefill",
        "phase:decode",
        "phase:mixed",
        "tp:8",
        "campaign:truth",
    } <= found.coverage.keys()
    assert all(
        0.8 <= found.coverage[f"phase:{phase}"] <= 1.0 for phase in ("prefill", "decode", "mixed")
    )


def test_a_phase_with_few_rows_takes_the_factor_of_all(h100):
    campaign = truth_campaign(h100, tps=(1,))
    problem, intervals, held_out = banded(h100, campaign, NAMES[:3])
    found = prediction_bands(problem, intervals, held_out)
    data = problem.data
    assert (data.frame["phase"] == "mixed").sum() < 20
    score = np.abs(np.log(held_out / data.measured_us))
    assert found.factor["mixed"] > 0
    wide = prediction_bands(problem, NO_COVARIANCE, held_out)
    rank = int(np.ceil((len(score) + 1) * 0.9))
    assert wide.factor["mixed"] == pytest.approx(np.sort(score / data.sigma)[rank - 1])


def test_uncertain_parameters_widen_the_band_where_they_matter(h100):
    problem, intervals, held_out = banded(h100, truth_campaign(h100, noise=0.3))
    found, plain = (
        prediction_bands(problem, known, held_out) for known in (intervals, NO_COVARIANCE)
    )
    width, level = (np.log(bands.high_us / bands.low_us) for bands in (found, plain))
    assert np.ptp(level[problem.data.table.phases == "decode"]) < 1e-9
    assert np.ptp(width[problem.data.table.phases == "decode"]) > 1e-3


def test_bands_of_other_steps_are_those_of_the_same_steps(h100):
    problem, intervals, held_out = banded(h100, truth_campaign(h100))
    found = prediction_bands(problem, intervals, held_out)
    low, high = bands_of(problem, intervals, found.factor, problem.data.table, problem.data.sigma)
    np.testing.assert_allclose(low, found.low_us)
    np.testing.assert_allclose(high, found.high_us)


def test_nothing_held_out_gives_no_band(h100):
    problem, values = solved(h100, truth_campaign(h100), NAMES)
    nothing = np.full(len(problem.data), np.nan)
    assert prediction_bands(problem, sandwich(problem, values), nothing) is None
    nothing[:8] = problem.data.measured_us[:8]
    assert prediction_bands(problem, sandwich(problem, values), nothing) is None


def test_nine_held_out_rows_are_enough_for_a_band_but_not_for_its_coverage(h100):
    problem, values = solved(h100, truth_campaign(h100), NAMES)
    few = np.full(len(problem.data), np.nan)
    few[:9] = problem.data.measured_us[:9] * 1.1
    found = prediction_bands(problem, sandwich(problem, values), few)
    assert found.coverage == {}
    assert (found.low_us < found.high_us).all()
