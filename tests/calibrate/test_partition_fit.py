"""Fits by sums over partitions: what the same rows in memory give, to the last digit that is written."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest

from calibrate.campaign import dataset
from calibrate.campaign.campaign import load_campaign
from calibrate.fitting import exact, partitioned
from calibrate.fitting.covariance import sandwich, sandwich_of_sums
from calibrate.fitting.exact import as_rows, minimise_sums, side_by_side
from calibrate.fitting.objective import Objective, build_dataset, weighted_loss
from calibrate.fitting.pieces import pieces
from calibrate.fitting.problem import Problem, Pull
from calibrate.fitting.solver import least_squares
from calibrate.fitting.stand_in import minimise_with, stand_in
from calibrate.fitting.sums import Sums, Terms
from calibrate.job.calibration import fit
from calibrate.job.options import Options
from calibrate.job.priors import Prior
from calibrate.job.publish import publish
from calibrate.records import caches
from calibrate.records.errors import CalibrateError
from calibrate.trust.tallies import RESOLUTION
from calibrate.trust.unit_folds import unit_splits
from sim import latency_model, load_hardware
from tests.conftest import GUIDE_H100
from tests.datasets import write_dataset
from tests.synthetic import synthetic_steps

TRUTH = load_hardware({"H100": {**GUIDE_H100, "mfuPrefill": 0.5, "BwEffConstant": 0.65}})
START = load_hardware({"H100": GUIDE_H100})
FREE = (
    *("BwEffConstant", "mfuPrefill", "mfuDecode", "TOverheadMicros", "tpScalingExponent"),
    *("decodeTpScalingExponent", "allReduceLatency", "prefillOverheadMicros"),
)
MODEL = latency_model("roofline-v1")
FEW = Options(starts=2)


def steps():
    """Runs that err together, a slice of four rows, and three replicates of every point that lie in other files."""
    points = synthetic_steps(TRUTH, 400)
    small = synthetic_steps(TRUTH, 12, models=["qwen2.5-7b"], tps=[1])
    rng = np.random.default_rng(5)
    several = [points, points, points, small]
    frame = pd.concat(several, ignore_index=True)
    run = np.arange(len(frame)) // 20
    noise = 0.02 * rng.standard_normal(run[-1] + 1)[run] + 0.04 * rng.standard_normal(len(frame))
    return frame.assign(
        latency_us=frame["latency_us"] * np.exp(noise), run_id=[f"run-{one:03}" for one in run]
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_dataset(
        tmp_path_factory.mktemp("gt") / "H100" / "fleet", steps(), files=6, nodes=3
    )


@pytest.fixture(scope="module")
def whole(folder):
    """The steps in memory."""
    return load_campaign(folder, "H100", START)


@pytest.fixture(scope="module")
def campaign(folder):
    """The same steps, taken for more than memory holds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "IN_MEMORY_ROWS", 100)
        return load_campaign(folder, "H100", START)


@pytest.fixture(scope="module")
def data(campaign):
    return partitioned.partitioned([campaign], MODEL, START)


@pytest.fixture(scope="module")
def results(whole, campaign):
    """The fit in memory, and by partitions."""
    return fit([whole], START, FEW), fit([campaign], START, FEW)


def in_memory(whole, loss):
    problem = Problem(MODEL, START, build_dataset([whole]), FREE, loss)
    objective = Objective(MODEL, START, problem.data)
    weighted = weighted_loss(loss, problem.data.weight)
    return problem, least_squares(
        objective.residuals, objective.jacobian, problem.start, weighted, 1e-13
    )


def by_sums(data, problem):
    terms, weight = Terms(MODEL, START, problem.loss, 0.05), data.balanced()
    return minimise_sums(lambda values: data.sums(terms, [(values, weight)])[0], problem.start)


@pytest.mark.parametrize("loss", ["soft_l1", "linear", "huber", "cauchy"])
def test_the_optimum_is_that_of_the_rows_in_memory(whole, data, loss):
    problem, expected = in_memory(whole, loss)
    found = by_sums(data, problem)
    assert found.success
    assert found.values == pytest.approx(expected.values, rel=1e-6)
    assert found.cost == pytest.approx(expected.cost, rel=1e-9)


@pytest.mark.parametrize("loss", ["soft_l1", "linear", "huber", "cauchy"])
def test_few_rows_that_stand_for_all_lead_to_the_same_optimum_in_fewer_readings(whole, data, loss):
    problem, expected = in_memory(whole, loss)
    terms, weight = Terms(MODEL, START, loss, 0.05), data.balanced()
    few = stand_in(problem.on(np.arange(0, 1212, 4)), data)
    every = np.ones(len(data.units))
    found = minimise_with(
        lambda values: data.sums(terms, [(values, weight)])[0],
        lambda values: few.sums_at(terms, values, every),
        problem.start,
    )
    assert found.success
    assert found.values == pytest.approx(expected.values, rel=1e-6)
    assert found.cost == pytest.approx(expected.cost, rel=1e-9)
    assert found.evaluations < by_sums(data, problem).evaluations


def test_few_rows_that_mislead_are_left_behind(whole, data):
    problem, expected = in_memory(whole, "soft_l1")
    terms, weight = Terms(MODEL, START, "soft_l1", 0.05), data.balanced()

    def misleading(values):
        off = np.array([values[name] / 3 - 1 for name in FREE])
        return Sums(off @ off, off @ off, off, 1e-9 * np.eye(len(FREE)))

    found = minimise_with(
        lambda values: data.sums(terms, [(values, weight)])[0], misleading, problem.start
    )
    assert found.values == pytest.approx(expected.values, rel=1e-6)


def test_replicates_in_other_partitions_widen_the_noise_as_in_memory(whole, data):
    frame = build_dataset([whole]).frame
    sigma = build_dataset([whole]).sigma
    noise = {}
    for partition, of_pieces in zip(data.partitions, data.noise, strict=True):
        for piece, one in zip(pieces(partition, MODEL), of_pieces, strict=True):
            noise |= dict(zip(piece.log_measured, one.sigma(piece, 0.05), strict=True))
    assert [noise[np.log(one)] for one in frame["latency_us"]] == pytest.approx(sigma.tolist())
    assert sigma.max() > 0.06


def test_slices_are_balanced_and_small_ones_capped_as_in_memory(whole, data):
    expected = build_dataset([whole])
    unit = data.unit_of(expected.frame)
    assert data.balanced()[unit] == pytest.approx(expected.weight)


def test_weights_without_some_rows_are_those_of_the_others_in_memory(whole, data):
    every = build_dataset([whole])
    kept = (every.frame["model"] != "llama-2-13b").to_numpy()
    unit = data.unit_of(every.frame)
    weight = data.balanced((data.units["model"] != "llama-2-13b").to_numpy())
    assert weight[unit[kept]] == pytest.approx(every.take(kept).weight)
    assert not weight[unit[~kept]].any()


def test_standard_errors_by_run_are_those_of_the_rows_in_memory(whole, data):
    problem, found = in_memory(whole, "soft_l1")
    solved = dataclasses.replace(problem, hardware=START.with_values(found.values))
    expected = sandwich(solved, found.values)
    terms = Terms(MODEL, START, "soft_l1", 0.05)
    run = data.units.groupby("run", sort=False).ngroup().to_numpy()
    sums = data.sums_by_group(terms, found.values, data.balanced(), run)
    ours = sandwich_of_sums([*found.values], sums.gradient, sums.curvature)
    assert ours.stderr == pytest.approx(expected.stderr, rel=1e-8)
    assert ours.half_width == pytest.approx(expected.half_width, rel=1e-8)


@pytest.mark.slow
def test_the_result_is_that_of_the_rows_in_memory(results):
    memory, parts = results
    assert parts.values == memory.values
    assert [one.status for one in parts.parameters] == [one.status for one in memory.parameters]
    for ours, theirs in zip(parts.parameters, memory.parameters, strict=True):
        if ours.status == "fitted":
            name = "sandwich by run"
            assert ours.intervals[name] == pytest.approx(theirs.intervals[name], rel=1e-6)
    found, expected = (dataclasses.astuple(one.fit.statistics) for one in (parts, memory))
    assert found == pytest.approx(expected, rel=1e-9)
    assert "Fitted to all 1,212 rows, in 6 parts." in parts.warnings[0]


def test_errors_by_slice_are_those_of_the_rows_in_memory(results):
    memory, parts = results
    for ours, theirs in ((parts.metrics.after, memory.metrics.after),):
        assert set(theirs) <= set(ours)
        for name, errors in theirs.items():
            assert ours[name].n == errors.n
            assert ours[name].mape == pytest.approx(errors.mape, rel=1e-9)
            assert ours[name].bias == pytest.approx(errors.bias, rel=1e-9)
    assert {name for name in parts.metrics.after if name.startswith("node:")} == {
        f"node:{node}" for node in range(3)
    }


def test_medians_and_percentiles_are_as_good_as_is_said(results):
    memory, parts = (one.metrics.after["all"] for one in results)
    assert parts.median_ape == pytest.approx(memory.median_ape, rel=2 * RESOLUTION)
    assert parts.p90_ape == pytest.approx(memory.p90_ape, rel=2 * RESOLUTION)


def test_models_and_degrees_are_held_out_as_in_memory_and_nodes_too(results):
    memory, parts = (one.metrics.held_out for one in results)
    assert set(parts) == {"folds", "model", "tp", "node"}
    for kind in ("model", "tp"):
        assert parts[kind]["all"].mape == pytest.approx(memory[kind]["all"].mape, rel=1e-3)
    after = results[1].metrics.after["all"].mape
    assert after < parts["folds"]["all"].mape < 1.05 * after


def test_a_fold_is_fitted_to_its_rows_exactly(whole, campaign):
    data = build_dataset([whole])
    rows = data.frame["node"].to_numpy() != "1"
    problem, _ = in_memory(whole, "soft_l1")
    part = problem.on(rows)
    objective = Objective(MODEL, START, part.data)
    weighted = weighted_loss("soft_l1", part.data.weight)
    expected = least_squares(objective.residuals, objective.jacobian, part.start, weighted, 1e-13)
    parts = partitioned.partitioned([campaign], MODEL, START)
    terms = Terms(MODEL, START, "soft_l1", 0.05)
    weight = parts.balanced((parts.units["node"] != "1").to_numpy())
    found = minimise_sums(lambda values: parts.sums(terms, [(values, weight)])[0], part.start)
    assert found.values == pytest.approx(expected.values, rel=1e-5)


@pytest.mark.slow
def test_a_bootstrap_draws_runs_and_its_spread_is_that_of_the_sandwich(campaign):
    result = fit([campaign], START, FEW, bootstrap=40, fix=dict.fromkeys(FREE[3:]))
    (one,) = (p for p in result.parameters if p.name == "mfuPrefill")
    drawn = np.array(result.bootstrap.values["mfuPrefill"], dtype=float)
    assert result.bootstrap.failed == 0
    assert drawn.std() == pytest.approx(one.stderr, rel=0.35)


@pytest.mark.slow
def test_a_prior_pulls_as_in_memory(whole, campaign):
    asked = dataclasses.replace(FEW, prior="guide", fix=dict.fromkeys(FREE[3:]))
    memory, parts = (fit([one], START, asked) for one in (whole, campaign))
    assert parts.values == pytest.approx(memory.values, rel=2e-5)
    ours, theirs = (
        {p.name: p.prior.pull for p in one.parameters if p.prior} for one in (parts, memory)
    )
    assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
def test_what_other_gpus_say_pulls_as_in_memory_coupled_as_it_is(whole, campaign):
    known = {
        "BwEffConstant": Prior(
            "other GPUs", np.log(0.7), 0.004, {"mfuPrefill": 0.6}, on_scale=True
        ),
        "mfuPrefill": Prior("other GPUs", 0.55, 0.004, {"BwEffConstant": 0.6}),
    }
    asked = dataclasses.replace(FEW, fix=dict.fromkeys(FREE[2:]))
    memory, parts = (fit([one], START, asked, known=known) for one in (whole, campaign))
    alone = fit([whole], START, asked)
    for name in FREE[:2]:
        assert parts.values[name] == pytest.approx(memory.values[name], rel=2e-5)
        assert abs(parts.values[name] - alone.values[name]) > 5e-4


def test_what_rows_do_not_tell_apart_stays_where_other_gpus_put_it(campaign):
    known = {"decodeBwFactor": Prior("other GPUs", 0.9, 0.1)}
    start = START.with_values({"decodeBwFactor": 0.9})
    asked = dataclasses.replace(FEW, fix=dict.fromkeys(FREE[2:]))
    result = fit([campaign], start, asked, known=known)
    (one,) = (p for p in result.parameters if p.name == "decodeBwFactor")
    assert one.status != "fitted"
    assert one.value == 0.9
    assert one.intervals["other GPUs"] == known["decodeBwFactor"].interval("decodeBwFactor")


def test_a_table_in_memory_joins_a_data_set(campaign, tmp_path):
    other = tmp_path / "H100" / "table"
    other.mkdir(parents=True)
    synthetic_steps(TRUTH, 60, noise=0.03, seed=9).to_csv(other / "steps.csv", index=False)
    table = load_campaign(other, "H100", START)
    result = fit([campaign, table], START, FEW)
    assert result.metrics.after["all"].n == 1272
    assert result.metrics.after["campaign:table"].n == 60


def test_a_lost_cache_is_made_anew(folder, monkeypatch):
    monkeypatch.setattr(dataset, "IN_MEMORY_ROWS", 100)
    campaign = load_campaign(folder, "H100", START)
    data = partitioned.partitioned([campaign], MODEL, START)
    terms = Terms(MODEL, START, "soft_l1", 0.05)
    asked = [(Problem(MODEL, START, None, FREE, "soft_l1").start, data.balanced())]
    before = data.sums(terms, asked)[0]
    caches.forget(campaign.dataset.source.cache)
    after = data.sums(terms, asked)[0]
    assert float(after.cost) == float(before.cost)


def test_a_full_disk_keeps_nothing_and_changes_nothing(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(caches.tempfile, "gettempdir", lambda: str(tmp_path / "absent"))
    monkeypatch.setattr(dataset, "IN_MEMORY_ROWS", 100)
    campaign = load_campaign(folder, "H100", START)
    assert campaign.files[0].used == 1212
    assert partitioned.partitioned([campaign], MODEL, START).units["n"].sum() == 1212


def test_a_data_set_that_is_gone_since_it_was_loaded_is_named(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(dataset, "IN_MEMORY_ROWS", 100)
    copy = tmp_path / "H100" / "gone"
    shutil.copytree(folder, copy)
    campaign = load_campaign(copy, "H100", START)
    caches.forget(campaign.dataset.source.cache)
    shutil.rmtree(copy)
    with pytest.raises(CalibrateError, match=r"part-00000.parquet: cannot be read: No such file"):
        partitioned.partitioned([campaign], MODEL, START)


def test_nothing_of_the_work_is_left_on_the_disk(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(caches.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(dataset, "IN_MEMORY_ROWS", 100)
    campaign = load_campaign(folder, "H100", START)
    assert list(tmp_path.iterdir())
    del campaign
    assert not list(tmp_path.iterdir())


def test_many_points_are_compared_within_pieces_and_that_is_said(campaign, monkeypatch):
    monkeypatch.setattr(partitioned, "MOST_POINTS", 10)
    (note,) = partitioned.partitioned([campaign], MODEL, START).notes
    assert "more than 10 distinct points: replicates were compared within pieces" in note


def test_many_runs_are_put_in_groups_and_that_is_said(campaign, monkeypatch):
    monkeypatch.setattr(partitioned, "MOST_CLUSTERS", 8)
    data = partitioned.partitioned([campaign], MODEL, START)
    assert data.units["run"].nunique() <= 8
    assert "The 61 runs were put together in 8 groups" in data.notes[0]
    assert data.units["n"].sum() == 1212


def test_leaving_out_more_parts_than_can_be_fitted_is_refused(data, monkeypatch):
    monkeypatch.setattr("calibrate.trust.unit_folds._MOST_PARTS", 10)
    with pytest.raises(CalibrateError, match=r"--cv run: 61 fits to all rows; give a number"):
        unit_splits(data, 0, ["run"])


def test_rows_that_have_the_sums_have_them():
    rng = np.random.default_rng(0)
    jacobian, residual = rng.normal(size=(50, 3)) * [1e-3, 1.0, 1e4], rng.normal(size=50)
    sums = Sums(
        np.array(0.5 * residual @ residual),
        np.array(residual @ residual),
        residual @ jacobian,
        jacobian.T @ jacobian,
    )
    few, slopes = as_rows(sums)
    assert few @ few == pytest.approx(residual @ residual)
    assert few @ slopes == pytest.approx(residual @ jacobian)
    assert slopes.T @ slopes == pytest.approx(jacobian.T @ jacobian)


def test_a_pull_is_a_row_more():
    zero = Sums(np.array(1.0), np.array(2.0), np.zeros(2), np.eye(2))
    pulled = exact.with_pulls(zero, {"a": 3.0, "b": 1.0}, {"b": Pull(0.5, 4.0)})
    assert float(pulled.cost) == 1.0 + 0.5 * 4.0 * 0.25
    assert pulled.gradient.tolist() == [0.0, 2.0]
    assert np.diag(pulled.curvature).tolist() == [1.0, 5.0]


def test_minima_that_are_sought_side_by_side_read_the_rows_together():
    asked = []

    def sums_at(questions):
        asked.append(len(questions))
        found = []
        for number, values in questions:
            off = values["mfuPrefill"] - 0.1 * (number + 1)
            found.append(
                Sums(np.array(0.5 * off**2 + 1), np.array(0.0), np.array([off]), np.eye(1))
            )
        return found

    tasks = [lambda ask: minimise_sums(ask, {"mfuPrefill": 0.5})] * 3
    values = [one.values["mfuPrefill"] for one in side_by_side(sums_at, tasks)]
    assert values == pytest.approx([0.1, 0.2, 0.3], abs=1e-6)
    assert max(asked) == 3


def test_what_goes_wrong_while_rows_are_read_ends_all_that_wait():
    def sums_at(_):
        raise CalibrateError("no such file")

    tasks = [lambda ask: minimise_sums(ask, {"mfuPrefill": 0.5})] * 2
    with pytest.raises(CalibrateError, match="no such file"):
        side_by_side(sums_at, tasks)


@pytest.mark.usefixtures("one_plot")
def test_a_fit_of_nodes_is_published_with_its_report(results, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    out = tmp_path / "reports"
    published = publish(results[1], START, tmp_path / "config.json", out, force=True, dry_run=False)
    page = published.report.read_text()
    assert "Fitted to all 1,212 rows" in page
