"""Which rows are set aside and listed: the limits of each guard, row by row."""

import dataclasses

import numpy as np
import pytest

from calibrate.fitting.objective import build_dataset
from calibrate.fitting.outliers import isolated, list_outliers
from sim import StepTable
from tests.calibrate.test_fit import truth_campaign


def slices(hardware, rows=10, tps=(1, 2), runs=False):
    """A slice of ``rows`` prefills for each TP, all of one run, or each row one of its own."""
    campaign = truth_campaign(hardware, noise=0.0, tps=tps)
    steps = campaign.steps
    prefills = steps[(steps["model"] == "llama-3.1-8b") & (steps["num_decode_requests"] == 0)]
    steps = prefills.groupby("tp").head(rows).reset_index(drop=True)
    steps = steps.assign(run_id=steps.index.astype(str) if runs else "one")
    return build_dataset(
        [dataclasses.replace(campaign, steps=steps, table=StepTable.from_columns(steps))]
    )


def off(n, *rows, by=1.0):
    residual = np.zeros(n)
    residual[list(rows)] = by
    return residual


def aside(data, residual):
    return np.flatnonzero(isolated(data, residual)).tolist()


@pytest.mark.parametrize("by", [1.0, -1.0])
def test_three_rows_of_ten_are_set_aside_and_four_are_the_models_fault(h100, by):
    """Of one run, so that no rows of others speak for the model: the share of the slice alone decides."""
    data = slices(h100)
    assert aside(data, off(20, 0, 4, 8, by=by)) == [0, 4, 8]
    assert aside(data, off(20, 0, 4, 6, 8, by=by)) == []
    assert aside(data, off(20, 0, 4, 6, 8, 15, by=by)) == [15]  # the other slice has its own share


def test_a_row_must_be_off_by_half_as_much_again(h100):
    data = slices(h100)
    assert aside(data, off(20, 3, by=np.log(1.499))) == []
    assert aside(data, off(20, 3, by=np.log(1.501))) == [3]
    assert aside(data, off(20, 3, by=-np.log(1.501))) == [3]


def test_a_row_must_be_off_by_five_robust_deviations(h100):
    """Residuals of ±0.1 about 0.05 have a median deviation of 0.1: five robust ones are 5·1.4826·0.1 = 0.7413."""
    data = slices(h100)
    spread = 0.05 + np.tile([0.1, -0.1], 10)
    for by, expected in ((0.741, []), (0.742, [7]), (-0.742, [7])):
        residual = spread.copy()
        residual[7] = by
        residual[6] = -0.05 if by > 0 else 0.15  # the median stays
        assert aside(data, residual) == expected


def with_alike(h100, rows, bias):
    """The rows set aside of a slice whose first is off by 0.5 and all others by ``bias``; three slices are right."""
    data = slices(h100, rows, (1, 2, 4, 8), runs=True)
    residual = off(4 * rows, 0, by=0.5)
    residual[1:rows] = bias
    return aside(data, residual)


@pytest.mark.parametrize(("bias", "expected"), [(0.26, []), (0.24, [0]), (0.0, [0]), (-0.26, [0])])
def test_rows_alike_that_are_off_by_half_as_much_the_same_way_keep_a_row(h100, bias, expected):
    assert with_alike(h100, 15, bias) == expected


@pytest.mark.parametrize(("rows", "expected"), [(7, []), (6, [0])])
def test_six_rows_of_other_runs_must_speak_for_the_model(h100, rows, expected):
    assert with_alike(h100, rows, 0.3) == expected


def listed(data, residual, loss="soft_l1"):
    return list_outliers(data, data.measured_us * np.exp(residual), loss)


def test_a_row_is_listed_from_a_quarter_off_and_its_influence_said(h100):
    data = slices(h100)
    assert listed(data, off(20, 5, by=np.log(1.249)))[0] == []
    (one,), causes = listed(data, off(20, 5, by=np.log(1.251)))
    assert (causes != "").tolist() == [i == 5 for i in range(20)]
    influence = (1 + (np.log(1.251) / 0.05) ** 2) ** -0.5
    assert one.influence == pytest.approx(influence, abs=1e-4)
    assert one.predicted_us == pytest.approx(1.251 * one.measured_us, rel=1e-6)


def test_a_row_is_listed_from_three_robust_deviations(h100):
    """Median deviation 0.1 as above: three robust ones are 0.4448."""
    data = slices(h100)
    for by, found in ((0.4447, 0), (0.4449, 1)):
        residual = 0.05 + np.tile([0.1, -0.1], 10)
        residual[6:8] = -0.05, by
        assert len(listed(data, residual)[0]) == found


def test_rows_set_aside_are_listed_without_influence_the_worst_first(h100):
    data = slices(h100).setting_aside(off(20, 2, 9) > 0)
    found, _ = listed(data, off(20, 9, by=-0.6) + off(20, 12, by=0.7))
    assert [one.line for one in found] == [data.frame["line"][row] for row in (12, 9, 2)]
    assert [one.influence > 0 for one in found] == [True, False, False]
