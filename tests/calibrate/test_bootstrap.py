"""Bootstrap by run: the right spread, the same numbers however it was computed, and work that is never lost."""

import dataclasses
import json

import numpy as np
import pytest

from calibrate.fitting.covariance import sandwich
from calibrate.fitting.objective import build_dataset
from calibrate.fitting.problem import Problem
from calibrate.records.checkpoint import Checkpoint
from calibrate.trust import bootstrap as module
from calibrate.trust.bootstrap import Bootstrap, bootstrap
from tests.calibrate.test_fit import truth_campaign
from tests.calibrate.test_profile import NAMES, solved


@pytest.fixture
def problem(h100):
    return solved(h100, truth_campaign(h100), NAMES)


def assert_same(one, other):
    assert one.values.keys() == other.values.keys()
    for name in one.values:
        np.testing.assert_array_equal(one.values[name], other.values[name])
    assert one.failed == other.failed


def test_its_spread_is_that_of_the_sandwich(problem):
    found = bootstrap(*problem, samples=40)
    stderr = sandwich(*problem).stderr
    assert found.failed == 0
    for name in NAMES:
        assert found.values[name].std() == pytest.approx(stderr[name], rel=0.35)
        low, high = found.interval(name)
        assert low < problem[1][name] < high


def test_processes_change_no_number(problem):
    assert_same(
        bootstrap(*problem, samples=12, seed=3), bootstrap(*problem, samples=12, seed=3, jobs=2)
    )


def test_more_samples_keep_the_first_and_another_seed_draws_others(problem):
    few, more, others = (
        bootstrap(*problem, samples=n, seed=s) for n, s in ((4, 0), (6, 0), (4, 1))
    )
    np.testing.assert_array_equal(few.values["mfuPrefill"], more.values["mfuPrefill"][:4])
    assert not (few.values["mfuPrefill"] == others.values["mfuPrefill"]).any()


def interrupted(problem, path, after):
    def stop(done):
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bootstrap(*problem, samples=13, progress=stop, checkpoint=path)


def test_an_interrupted_run_goes_on_and_gives_the_same_numbers(problem, tmp_path):
    path = tmp_path / "samples.jsonl"
    interrupted(problem, path, after=10)
    told = []
    resumed = bootstrap(*problem, samples=13, progress=told.append, checkpoint=path)
    assert told == [10, 13]
    assert_same(resumed, bootstrap(*problem, samples=13))
    assert len(path.read_text().splitlines()) == 13


@pytest.mark.parametrize("tail", ['[9, {"BwEff', "\x00\x00"])
def test_a_broken_last_line_costs_only_its_own_sample(problem, tmp_path, tail):
    path = tmp_path / "samples.jsonl"
    interrupted(problem, path, after=10)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) + tail)
    told = []
    resumed = bootstrap(*problem, samples=13, progress=told.append, checkpoint=path)
    assert told[0] == 9
    assert_same(resumed, bootstrap(*problem, samples=13))
    key = json.loads(lines[0])[0]
    assert sorted(Checkpoint(path, key).resume()) == list(range(13))


def test_a_checkpoint_of_other_data_is_not_used(problem, h100, tmp_path):
    path = tmp_path / "samples.jsonl"
    bootstrap(*problem, samples=5, checkpoint=path)
    other = solved(h100, truth_campaign(h100, seed=1), NAMES)
    told = []
    assert_same(
        bootstrap(*other, samples=5, progress=told.append, checkpoint=path),
        bootstrap(*other, samples=5),
    )
    assert told[0] == 0
    bootstrap(*problem, samples=5, checkpoint=path, progress=told.append, seed=1)
    assert told[-2] == 0


def test_two_fits_that_share_a_file_keep_to_their_own_samples(problem, h100, tmp_path):
    path = tmp_path / "samples.jsonl"
    other = solved(h100, truth_campaign(h100, seed=1), NAMES)
    alone = bootstrap(*other, samples=6)

    def meanwhile(done):
        if done == 5:
            assert_same(bootstrap(*other, samples=6, checkpoint=path), alone)

    between = bootstrap(*problem, samples=6, progress=meanwhile, checkpoint=path)
    assert_same(between, bootstrap(*problem, samples=6))
    assert_same(bootstrap(*problem, samples=6, checkpoint=path), between)
    assert_same(bootstrap(*other, samples=6, checkpoint=path), alone)


@pytest.mark.parametrize(
    "content", ["", "not JSON\n", "[]\n", '{"key": "another"}\n[0, null]\n', "\udcff"]
)
def test_a_file_that_is_no_checkpoint_is_begun_anew(tmp_path, content):
    path = tmp_path / "samples.jsonl"
    path.write_bytes(content.encode(errors="surrogateescape"))
    saved = Checkpoint(path, "mine")
    assert saved.resume() == {}
    saved.append({3: {"a": 0.1}})
    assert Checkpoint(path, "mine").resume() == {3: {"a": 0.1}}


def test_every_campaign_stays_and_whole_runs_are_drawn(h100):
    parts = [truth_campaign(h100, seed=s, name=f"part{s}") for s in (0, 1)]
    data = build_dataset(parts)
    runs = module.Runs.of(data.frame)
    frame = data.frame
    for seed in range(5):
        drawn = runs.draw(np.random.default_rng(seed))
        of_run = frame.assign(drawn=drawn).groupby("run")["drawn"]
        assert (of_run.nunique() == 1).all()
        per_campaign = of_run.first().groupby(lambda run: run.split("/")[0]).sum()
        assert (per_campaign == frame.groupby("campaign")["run"].nunique()).all()


def test_samples_that_do_not_show_a_parameter_leave_its_interval_open(h100):
    """Only one of six runs has tp 2: a third of the samples are without it."""
    campaign = truth_campaign(h100, tps=(1, 2))
    run = np.where(
        campaign.steps["tp"] == 2,
        "two",
        "one" + campaign.steps.index.to_series().mod(5).astype(str),
    )
    campaign = dataclasses.replace(campaign, steps=campaign.steps.assign(run_id=run))
    problem, values = solved(h100, campaign, NAMES)
    assert isinstance(problem, Problem)
    found = bootstrap(problem, values, samples=20)
    assert 0.15 < np.isnan(found.values["tpScalingExponent"]).mean() < 0.6
    assert not np.isnan(found.values["BwEffConstant"]).any()
    assert found.interval("tpScalingExponent") == (None, None)


def test_percentiles_reach_as_far_as_students_t():
    """Of 999 evenly spread samples, many runs take the 5th and 95th hundredth, few runs go farther out."""
    spread = np.linspace(0.4, 0.6, 999)
    many, few = (
        Bootstrap({"mfuPrefill": spread}, 0, runs).interval("mfuPrefill") for runs in (10_000, 6)
    )
    assert many == pytest.approx((0.41, 0.59), abs=3e-4)
    assert few[0] < 0.405
    assert few[1] > 0.595
    assert Bootstrap({"mfuPrefill": spread}, 0, 4).interval("mfuPrefill") == (None, None)


def test_a_percentile_at_a_physical_bound_is_open():
    values = np.concatenate([np.zeros(30), np.linspace(1.0, 20.0, 70)])
    low, high = Bootstrap({"allReduceLatency": values}, 0, 100).interval("allReduceLatency")
    assert low is None
    assert 15 < high < 20
