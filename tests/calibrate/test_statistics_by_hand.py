"""Losses, the covariance over runs and lack of fit against numbers worked out by hand."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from calibrate.fitting import covariance
from calibrate.fitting.covariance import NO_COVARIANCE, sandwich_by_run
from calibrate.fitting.objective import (
    build_dataset,
    loss_curvature,
    row_influence,
    weighted_loss,
)
from calibrate.fitting.thresholds import FEWEST_RUNS
from calibrate.trust.structure import lack_of_fit
from sim import StepTable
from tests.calibrate.test_fit import MODEL, truth_campaign

ROOT_3 = 3**0.5


@pytest.fixture
def three_runs_do(monkeypatch):
    """Three runs give an interval, so that it can be worked out by hand."""
    monkeypatch.setattr(covariance, "FEWEST_RUNS", 3)


def by_run(residual, jacobian, loss="linear", weight=None, runs=None):
    """The sandwich of rows of which each is a run, unless ``runs`` names one a row."""
    residual = np.array(residual, dtype=float)
    jacobian = np.array(jacobian, dtype=float).reshape(len(residual), -1)
    weight = np.ones(len(residual)) if weight is None else np.array(weight, dtype=float)
    runs = np.arange(len(residual)) if runs is None else np.array(runs)
    rows = [np.flatnonzero(runs == run) for run in np.unique(runs)]
    names = [f"p{i}" for i in range(jacobian.shape[1])]
    return sandwich_by_run(names, residual, jacobian, weight, loss, rows)


@pytest.mark.parametrize(
    ("loss", "squared", "influence", "curvature"),
    [
        ("linear", 3, 1, 1),
        ("soft_l1", 3, 1 / 2, 1 / 8),
        ("soft_l1", 8, 1 / 3, 1 / 27),
        ("huber", 1 / 4, 1, 1),
        ("huber", 4, 1 / 2, 0),
        ("cauchy", 1, 1 / 2, 0),
        ("cauchy", 3, 1 / 4, -1 / 8),
    ],
)
def test_influence_and_curvature_of_a_loss(loss, squared, influence, curvature):
    """ρ′ and ρ′ + 2zρ″ at z = r²: soft_l1 has (1 + z)^(-1/2) and (1 + z)^(-3/2)."""
    residual = np.array([squared**0.5, -(squared**0.5)])
    assert row_influence(loss, residual) == pytest.approx([influence] * 2)
    assert loss_curvature(loss, residual) == pytest.approx([curvature] * 2, abs=1e-15)


@pytest.mark.parametrize("loss", ["linear", "soft_l1", "huber", "cauchy"])
def test_influence_and_curvature_are_the_derivatives_of_the_loss(loss):
    step, residual = 1e-4, np.array([-3.0, -0.4, 0.3, 2.5])
    below, at, above = (
        0.5 * weighted_loss(loss, np.ones(4))((residual + move) ** 2)[0]
        for move in (-step, 0.0, step)
    )
    slope = (above - below) / (2 * step)
    assert slope == pytest.approx(row_influence(loss, residual) * residual, rel=1e-6)
    bend = (above - 2 * at + below) / step**2
    assert bend == pytest.approx(loss_curvature(loss, residual), abs=1e-6)


def test_three_runs_of_one_parameter(three_runs_do):
    """Gradients 2, -1, -1; curvatures 1, 4, 2, so without each run 6, 3, 5: shifts of 1/3, -1/3 and -1/5."""
    found = by_run([2, -0.5, -0.5], [1, 2, 1], weight=[1, 1, 2])
    assert found.matrix == pytest.approx(np.array([[2 / 3 * (1 / 9 + 1 / 9 + 1 / 25)]]))
    assert found.curvature == pytest.approx(np.array([[7.0]]))
    error = (118 / 675) ** 0.5
    assert found.stderr == pytest.approx({"p0": error})
    assert found.half_width == pytest.approx({"p0": 2.919986 * error}, rel=1e-6)  # t, 2 degrees


def test_a_gradient_that_a_bound_holds_is_no_spread(three_runs_do):
    """One more for every run: their spread is what it was, and so is the covariance."""
    held = by_run([3, 0, 0], [1, 2, 1], weight=[1, 1, 2])
    free = by_run([2, -0.5, -0.5], [1, 2, 1], weight=[1, 1, 2])
    assert held.matrix == pytest.approx(free.matrix)


def test_nor_are_the_gradients_that_bounds_hold_two_parameters_against(three_runs_do):
    """(3, -1) more for every run of two parameters."""
    jacobian = [[1, 0], [0, 1], [1, 1], [1, -1], [1, 1], [1, 0]]
    runs = [0, 0, 1, 1, 2, 2]
    held = by_run([1 + 3, 2 - 1, 0 + 1, 1 + 2, -1 - 1, -1 + 4], jacobian, runs=runs)
    free = by_run([1, 2, 0, 1, -1, -1], jacobian, runs=runs)
    assert held.matrix == pytest.approx(free.matrix)


def test_rows_of_a_run_are_summed_first(three_runs_do):
    """The three runs again, the first of two rows: gradients 3 and -1, curvatures a half each."""
    found = by_run(
        [3 / 0.5**0.5, -1 / 0.5**0.5, -0.5, -0.5],
        [0.5**0.5, 0.5**0.5, 2, 1],
        weight=[1, 1, 1, 2],
        runs=[0, 0, 1, 2],
    )
    assert found.matrix == pytest.approx(np.array([[118 / 675]]))


@pytest.mark.parametrize("unit", [1.0, 1000.0, 1e-6])
def test_three_runs_of_two_parameters(three_runs_do, unit):
    """Curvatures 1, 2·1 and ((2, 1), (1, 1)); gradients (1, 2), (1, -1) and (-2, -1).

    Without each run the curvatures are ((4, 1), (1, 3)), ((3, 1), (1, 2)) and 3·1, the shifts (1, 7)/11, (3, -4)/5
    and (-2, -1)/3. Another unit of the second parameter divides its errors and changes nothing else.
    """
    jacobian = np.array([[1, 0], [0, 1], [1, 1], [1, -1], [1, 1], [1, 0]]) * [1, unit]
    found = by_run([1, 2, 0, 1, -1, -1], jacobian, runs=[0, 0, 1, 1, 2, 2])
    variances = [1 / 121 + 9 / 25 + 4 / 9, 49 / 121 + 16 / 25 + 1 / 9]
    shared = 7 / 121 - 12 / 25 + 2 / 9
    expected = 2 / 3 * np.array([[variances[0], shared], [shared, variances[1]]])
    sizes = np.outer([1, unit], [1, unit])
    assert found.matrix * sizes == pytest.approx(expected)
    assert found.curvature / sizes == pytest.approx(np.array([[5.0, 1.0], [1.0, 4.0]]))
    assert found.stderr == pytest.approx(
        {"p0": expected[0, 0] ** 0.5, "p1": expected[1, 1] ** 0.5 / unit}
    )


def test_a_robust_loss_counts_by_its_influence_and_bends_by_its_curvature(three_runs_do):
    """Residuals √3, -√3 and 0 of soft_l1: gradients ±√3/2 and 0, curvatures 1/8, 1/8 and 1.

    Without each of the first two the curvature is 9/8, the shift 4√3/9.
    """
    found = by_run([ROOT_3, -ROOT_3, 0], [1, 1, 1], "soft_l1")
    assert found.stderr == pytest.approx({"p0": 8 / 9})
    assert found.curvature == pytest.approx(np.array([[1.25]]))


def test_outliers_that_a_loss_forgets_take_no_curvature_away(three_runs_do):
    """Cauchy bends the other way at √3 (-1/8), which counts as 0; gradients are ±√3/4, the shifts √3/8."""
    found = by_run([ROOT_3, -ROOT_3, 0, 0], [1, 1, 1, 1], "cauchy")
    assert found.curvature == pytest.approx(np.array([[2.0]]))
    assert found.matrix == pytest.approx(np.array([[3 / 4 * 2 * 3 / 64]]))


@pytest.mark.parametrize("parameters", [1, 2, 6])
def test_runs_must_be_enough_and_more_than_parameters(parameters):
    fewest = max(FEWEST_RUNS, parameters + 1)
    rng = np.random.default_rng(0)
    residual, jacobian = rng.normal(size=fewest), rng.normal(size=(fewest, parameters))
    assert by_run(residual, jacobian).stderr.keys() == {f"p{i}" for i in range(parameters)}
    assert by_run(residual[1:], jacobian[1:]) is NO_COVARIANCE


def test_two_parameters_that_act_alike_have_no_covariance():
    column = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    residual = [1, -1, 1, -1, 1, -1]
    assert by_run(residual, np.column_stack([column, 5 * column])) is NO_COVARIANCE
    apart = column + np.array([0, 0, 0, 0, 0, 1e-3])
    assert by_run(residual, np.column_stack([column, 5 * apart])).stderr


def replicated(hardware, residuals, off=None):
    """Points with replicates, each a run of its own, that are predicted off by ``residuals`` (points, replicates).

    ``off`` more rows of the first point are far off, and set aside.
    """
    wanted = np.array(residuals, dtype=float)
    campaign = truth_campaign(hardware, noise=0.0)
    points = np.repeat(np.arange(len(wanted)), wanted.shape[1])
    extra = np.zeros(off or 0, dtype=int)
    steps = campaign.steps.iloc[np.append(points, extra)].reset_index(drop=True)
    residual = np.append(wanted.ravel(), np.full(len(extra), 3.0))
    steps = steps.assign(
        latency_us=steps["latency_us"] * np.exp(-residual),
        run_id=[f"run {i}" for i in range(len(steps))],
    )
    data = build_dataset(
        [dataclasses.replace(campaign, steps=steps, table=StepTable.from_columns(steps))]
    )
    data = data.setting_aside(np.arange(len(data)) >= wanted.size)
    return data, MODEL.predict_us(data.table, hardware)


THREE = [[0.07, 0.10, 0.13], [-0.07, -0.10, -0.13], [0.03, 0.00, -0.03]]


@pytest.mark.parametrize("aside", [0, 2])
def test_lack_of_fit_of_three_points_of_three_replicates(h100, aside):
    """Within: 3·0.0018 by 6 degrees, 3% each; between: 3·(0.01 + 0.01) by 3 - 1. With 2 degrees p is a power."""
    data, predicted = replicated(h100, THREE, aside)
    found = lack_of_fit(MODEL, data, predicted, n_free=1)
    assert (found.dof_model, found.dof_replicates) == (2, 6)
    assert found.spread_replicates == pytest.approx(0.03)
    assert found.spread_model == pytest.approx(0.03**0.5)
    assert found.f == pytest.approx(100 / 3)
    assert found.p == pytest.approx((1 + 2 * found.f / 6) ** -3)
    assert (
        "replicates in different runs agree to 3.0%, roofline-v1 misses their means by 6.7%"
        in found.text
    )


def test_a_point_counts_by_its_replicates(h100):
    """Two points, one of six replicates and 10% off, one of two and right: 6·0.01 over one degree."""
    six = [0.07, 0.10, 0.13, 0.07, 0.10, 0.13]
    data, predicted = replicated(h100, [six, [0.03, -0.03, np.nan, np.nan, np.nan, np.nan]])
    kept = np.isfinite(data.measured_us)
    found = lack_of_fit(MODEL, data.take(kept), predicted[kept], n_free=1)
    assert (found.dof_model, found.dof_replicates) == (1, 6)
    assert found.spread_model == pytest.approx(0.06**0.5)
    assert found.spread_replicates == pytest.approx((0.0054 / 6) ** 0.5)
    assert found.p == pytest.approx(2 * stats.t.sf(found.f**0.5, 6))  # F of one degree is t²


def test_points_that_are_met_as_well_as_replicates_agree_are_no_fault(h100):
    """Off by 1.8% where replicates spread by 3%: F is 1.08."""
    bent = np.array(THREE) - np.array([[0.1], [-0.1], [0.0]]) * 0.82
    found = lack_of_fit(MODEL, *replicated(h100, bent), n_free=1)
    assert found.f == pytest.approx(0.03 * 0.18**2 / 0.0009)
    assert found.text.startswith(
        "roofline-v1 fits the points as well as replicates in different runs agree"
    )


def test_fewer_than_six_degrees_of_replicates_or_none_of_the_model_are_no_test(h100):
    data, predicted = replicated(h100, THREE)
    assert lack_of_fit(MODEL, data, predicted, n_free=2) is not None
    assert lack_of_fit(MODEL, data, predicted, n_free=3) is None
    assert lack_of_fit(MODEL, data.take(np.arange(8)), predicted[:8], n_free=1) is None
