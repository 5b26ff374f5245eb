"""Held-out error: what each kind of split leaves out, and that it is really left out."""

import dataclasses

import numpy as np
import pytest

from calibrate import fit
from calibrate.fitting.objective import build_dataset
from calibrate.fitting.problem import Problem
from calibrate.fitting.solver import minimise
from calibrate.job.solution import Question, refit
from calibrate.records.errors import CalibrateError
from calibrate.trust.crossval import predict_held_out, splits
from sim.models.roofline_v1.model import RooflineV1
from tests.calibrate.test_fit import truth_campaign


@pytest.fixture
def data(h100):
    return build_dataset([truth_campaign(h100, noise=0.02, tps=(1, 2))])


def test_the_kinds(data):
    assert [split.name for split in splits(data, 0)] == ["folds", "model", "tp"]
    assert [split.name for split in splits(data, 0, ["tp"])] == ["folds", "tp"]
    assert [split.name for split in splits(data, 0, ["run", "tp", "tp"])] == ["run", "tp"]
    assert len(np.unique(splits(data, 0, ["7"])[0].labels)) == 7


def test_run_by_run_keeps_every_run_whole(data):
    labels = splits(data, 0, ["run"])[0].labels
    assert len(np.unique(labels)) == data.frame["run"].nunique()
    assert all(len(set(labels[rows])) == 1 for rows in data.frame.groupby("run").indices.values())


@pytest.mark.parametrize(
    "kinds", [["modle"], ["1"], ["0"], ["-3"], ["2.5"], ["5", "10"], ["5", "run"], ["²"]]
)
def test_a_kind_that_makes_no_sense_is_refused(data, kinds):
    with pytest.raises(CalibrateError, match="--cv"):
        splits(data, 0, kinds)


@pytest.mark.parametrize("kind", ["run", "tp"])
def test_a_part_is_predicted_by_a_fit_without_it(h100, data, kind):
    """Spoil one part: predictions of it stay as they were, for the fit that makes them never saw it."""
    names = ("BwEffConstant", "mfuPrefill")
    problem = Problem(RooflineV1(), h100, data, names, "linear")
    split = next(s for s in splits(data, 0, [kind]) if s.name == kind)
    part = split.labels == split.labels[0]
    spoilt = dataclasses.replace(
        data, measured_us=np.where(part, data.measured_us * 2, data.measured_us)
    )
    few = dataclasses.replace(split, labels=np.where(part, 0, 1))
    clean, other = (
        predict_held_out(p, minimise(p, p.start).values, few, 0)
        for p in (problem, dataclasses.replace(problem, data=spoilt))
    )
    assert other[part] == pytest.approx(clean[part], rel=1e-6)
    assert np.abs(other[~part] / clean[~part] - 1).max() > 0.02


@pytest.mark.usefixtures("no_profiles")
@pytest.mark.slow
def test_a_fit_held_out_run_by_run(h100):
    campaign = truth_campaign(h100, noise=0.03, tps=(1, 2))
    result = fit([campaign], h100, starts=2, cv=["run"])
    assert list(result.metrics.held_out) == ["run"]
    assert result.metrics.unseen["all"].n == len(campaign.steps)
    assert result.metrics.unseen["all"].mape >= result.metrics.after["all"].mape * 0.98
    assert np.isfinite(result.predictions["held_out_us"]).all()


@pytest.mark.usefixtures("no_profiles")
def test_a_part_knows_nothing_of_what_the_whole_fit_found(h100):
    """Rows at TP 2 take thrice as long, so that the whole fit ends elsewhere: fits without them stay to the letter."""
    campaign = truth_campaign(h100, noise=0.02, tps=(1, 2))
    factor = np.where(campaign.steps["tp"] == 2, 3.0, 1.0)
    slow = campaign.steps.assign(latency_us=campaign.steps["latency_us"] * factor)
    plain, other = (
        fit([dataclasses.replace(campaign, steps=steps)], h100, starts=2, cv=["tp"])
        for steps in (campaign.steps, slow)
    )
    assert other.values != plain.values
    part = (campaign.steps["tp"] == 2).to_numpy()
    column = "held_out_tp_us"
    assert other.predictions[column][part].tolist() == plain.predictions[column][part].tolist()


def test_a_part_sets_its_own_rows_aside_and_chooses_what_is_free(h100):
    """A row that took ten times as long goes; without rows at TP 2 nothing shows the time of an all-reduce."""
    campaign = truth_campaign(h100, noise=0.005, tps=(1, 2))
    off = np.ones(len(campaign.steps))
    off[7] = 10.0
    data = build_dataset([campaign])
    spoilt = dataclasses.replace(data, measured_us=data.measured_us * off)
    model = RooflineV1()
    asked = Question(starts=1)
    right, wrong = (
        refit(Problem(model, h100, one.take(rows), (), "soft_l1"), asked)
        for one, rows in ((data, off == 1), (spoilt, off > 0))
    )
    assert wrong == pytest.approx(right, rel=1e-4)
    alone = refit(Problem(model, h100, data.take(data.table.tp == 1), (), "soft_l1"), asked)
    assert {*right} - {*alone} >= {"allReduceLatency", "tpScalingExponent"}


def test_a_part_that_shows_nothing_keeps_the_configuration(h100):
    data = build_dataset([truth_campaign(h100, tps=(1,))])
    fixed = Question(fixed=RooflineV1().parameter_names)
    assert refit(Problem(RooflineV1(), h100, data, (), "soft_l1"), fixed) == {}
