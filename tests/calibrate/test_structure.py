"""Lack of fit and residual structure: silent on data that the model made, right about what was put in."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from calibrate import fit
from calibrate.fitting.objective import build_dataset
from calibrate.trust.structure import lack_of_fit, residual_structure
from sim import StepTable
from tests.calibrate.test_fit import MODEL, truth_campaign


def data_of(hardware, factor_of=lambda steps: 1.0, replicates=1, noise=0.01, seed=0):
    """Steps that take what the model says, times a factor by row, and the model's predictions of them."""
    campaign = truth_campaign(hardware, noise=0.0)
    steps = pd.concat([campaign.steps] * replicates, ignore_index=True)
    spread = np.exp(noise * np.random.default_rng(seed).standard_normal(len(steps)))
    steps = steps.assign(
        latency_us=steps["latency_us"] * spread * factor_of(steps),
        run_id=np.arange(len(steps)).astype(str),
    )
    data = build_dataset(
        [dataclasses.replace(campaign, steps=steps, table=StepTable.from_columns(steps))]
    )
    return data, MODEL.predict_us(data.table, hardware)


def test_p_is_uniform_where_the_model_is_right(h100):
    p = [
        lack_of_fit(MODEL, *data_of(h100, replicates=3, seed=seed), n_free=0).p
        for seed in range(40)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_f_by_hand(h100):
    """Two points of three replicates: spreads are those of analysis of variance."""
    data, predicted = data_of(h100, replicates=3)
    rows = np.flatnonzero(
        (data.frame["line"] == 2) | (data.frame["line"] == 9) | (data.frame["line"] == 20)
    )
    few = data.take(rows)
    residual = np.log(predicted[rows] / few.measured_us)
    groups = [residual[few.frame["line"] == line] for line in (2, 9, 20)]
    within = sum(((g - g.mean()) ** 2).sum() for g in groups) / 6
    between = sum(3 * g.mean() ** 2 for g in groups) / 3
    found = lack_of_fit(MODEL, few, predicted[rows], n_free=0)
    assert found.f == pytest.approx(between / within)
    assert (found.dof_model, found.dof_replicates) == (3, 6)
    assert found.p == pytest.approx(stats.f.sf(between / within, 3, 6))
    assert found.spread_replicates == pytest.approx(within**0.5)


def test_a_model_that_misses_the_points_is_found_at_fault(h100):
    data, predicted = data_of(
        h100, lambda s: 1 + 0.1 * (s.index.to_numpy() % 240 % 2), replicates=3
    )
    found = lack_of_fit(MODEL, data, predicted, n_free=9)
    assert found.p < 1e-6
    assert found.text.startswith(
        "The model, not the data, is at fault: replicates in different runs agree to 1.0%"
    )


def test_without_replicates_there_is_no_test(h100):
    assert lack_of_fit(MODEL, *data_of(h100), n_free=9) is None


def of_runs(h100, points, runs, residual_of):
    """Rows of some points, each measured twice in every run, and predictions that are off by ``residual_of``.

    It is given the number of point, of run and of replicate.
    """
    campaign = truth_campaign(h100, tps=(1,))
    places = [(point, run, twin) for point in points for run in runs for twin in (0, 1)]
    steps = campaign.steps.iloc[[point for point, _, _ in places]].reset_index(drop=True)
    steps = steps.assign(run_id=[f"run-{run}" for _, run, _ in places])
    data = build_dataset(
        [dataclasses.replace(campaign, steps=steps, table=StepTable.from_columns(steps))]
    )
    return data, data.measured_us * np.exp([residual_of(*place) for place in places])


def test_runs_are_the_replicates_by_hand(h100):
    """Three points off by 2%, 0 and -2% in seven runs that differ by 1% from one to the next.

    Point means: 7·(0.02² + 0 + 0.02²)/3 = 0.0056/3. Pure error: 3·(9 + 4 + 1 + 0 + 1 + 4 + 9)·10⁻⁴/18 = 0.0084/18.
    The ratio is 4. Seven runs over the same points make six contrasts, not eighteen.
    """
    points = [0, 8, 20]

    def residual(point, run, twin):
        return 0.02 * (points.index(point) - 1) + 0.01 * (run - 3) + 0.001 * (2 * twin - 1)

    data, predicted = of_runs(h100, points, range(7), residual)
    found = lack_of_fit(MODEL, data, predicted, n_free=0)
    assert found.f == pytest.approx(4.0)
    assert (found.dof_model, found.dof_replicates) == (3, 6)
    assert found.p == pytest.approx(stats.f.sf(4.0, 3, 6))
    assert found.spread_replicates == pytest.approx((0.0084 / 18) ** 0.5)


def test_replicates_of_one_run_do_not_put_the_model_at_fault(h100):
    """A perfect model, runs that differ by 5% as a whole, replicates of a run that agree to a thousandth."""
    campaign = truth_campaign(h100, tps=(1, 2), noise=0.0)
    steps = pd.concat([campaign.steps] * 3, ignore_index=True)
    rng = np.random.default_rng(0)
    runs = steps["run_id"].unique()
    shift = dict(zip(runs, 0.05 * rng.standard_normal(len(runs)), strict=True))
    noise = 0.001 * rng.standard_normal(len(steps))
    steps = steps.assign(
        latency_us=steps["latency_us"] * np.exp(steps["run_id"].map(shift) + noise)
    )
    data = build_dataset(
        [dataclasses.replace(campaign, steps=steps, table=StepTable.from_columns(steps))]
    )
    assert lack_of_fit(MODEL, data, MODEL.predict_us(data.table, h100), n_free=9) is None


def test_no_structure_is_seen_in_noise(h100):
    found = [residual_structure(MODEL, *data_of(h100, noise=0.05, seed=seed)) for seed in range(20)]
    assert sum(map(len, found)) <= 1


def test_a_trend_with_tokens_at_one_tp_is_named_with_the_missing_term(h100):
    """Steps at TP 8 take longer as they grow, as with an all-reduce whose time grows with the bytes."""

    def grows(steps):
        tokens = np.maximum(steps["sum_prefill_tokens"], 1)
        return np.where((steps["tp"] == 8) & (tokens > 1), (tokens / 32) ** 0.06, 1.0)

    found = residual_structure(MODEL, *data_of(h100, grows))
    assert found[0].phase == "prefill"
    assert found[0].where == "tp 8"
    assert found[0].along == "tokens"
    assert found[0].slope == pytest.approx(-0.06 * np.log(2), rel=0.2)
    assert "too fast at the largest" in found[0].text
    assert "all-reduce takes the same time for any number of bytes in roofline-v1" in found[0].text


def test_a_trend_over_all_rows_of_a_phase_is_said_once(h100):
    found = residual_structure(
        MODEL, *data_of(h100, lambda s: np.maximum(s["num_decode_requests"], 1) ** 0.05)
    )
    assert [(one.phase, one.where, one.along) for one in found if one.phase == "decode"] == [
        ("decode", "", "batch")
    ]
    assert found[0].text.startswith("Decode steps are predicted")
    assert "all-reduce" not in found[0].text


def test_an_effect_too_small_to_matter_is_not_said(h100):
    assert (
        residual_structure(
            MODEL, *data_of(h100, lambda s: np.maximum(s["num_decode_requests"], 1) ** 0.005)
        )
        == []
    )


@pytest.mark.usefixtures("no_profiles")
def test_a_fit_says_both(h100):
    campaign = truth_campaign(h100, noise=0.0, tps=(1, 2))
    steps = pd.concat([campaign.steps] * 3, ignore_index=True)
    noise = np.exp(0.005 * np.random.default_rng(0).standard_normal(len(steps)))
    bent = np.maximum(steps["num_decode_requests"], 1) ** np.where(steps["tp"] == 2, 0.08, 0.0)
    again = "-" + (np.arange(len(steps)) // len(campaign.steps)).astype(str)
    steps = steps.assign(
        latency_us=steps["latency_us"] * noise * bent, run_id=steps["run_id"] + again
    )
    bent_campaign = dataclasses.replace(campaign, steps=steps, table=StepTable.from_columns(steps))
    result = fit([bent_campaign], h100, starts=2, cv=["2"])
    assert result.lack_of_fit.p < 1e-6
    assert result.lack_of_fit.text in result.warnings
    assert any(one.phase == "decode" and one.along == "batch" for one in result.structure)
    assert all(one.text in result.warnings for one in result.structure)
