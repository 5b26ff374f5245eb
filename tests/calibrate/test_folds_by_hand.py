"""What is held out together: rows of a run, and runs that measured the same point."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from calibrate.fitting.labels import POINT
from calibrate.fitting.objective import build_dataset
from calibrate.trust.crossval import splits
from sim import StepTable
from tests.calibrate.test_fit import truth_campaign


def runs_of_points(hardware, *runs):
    """Data of runs, each a list of the points (numbers) that it measured, and the rows' runs and points."""
    campaign = truth_campaign(hardware, noise=0.01)
    points = np.concatenate([np.array(run, dtype=int) for run in runs])
    names = np.repeat([f"run {i}" for i in range(len(runs))], [len(run) for run in runs])
    steps = campaign.steps.iloc[points].reset_index(drop=True).assign(run_id=names)
    data = build_dataset(
        [dataclasses.replace(campaign, steps=steps, table=StepTable.from_columns(steps))]
    )
    return data, names, points


def parts(data, kind, seed=0):
    """The part of every row where runs, or so many folds, are left out."""
    return next(s for s in splits(data, seed, [kind]) if s.name in ("run", "folds")).labels


def assert_whole(labels, *groups):
    for group in groups:
        assert (pd.Series(labels).groupby(group).nunique() == 1).all()


SHARED = ([0, 1], [1, 2], [3, 4], [5, 6], [7, 8], [9, 10])
"""Point 1 was measured in the first two runs."""


@pytest.mark.parametrize("kind", ["run", "2", "5"])
def test_a_point_measured_in_two_runs_is_never_held_out_without_its_replicate(h100, kind):
    data, runs, points = runs_of_points(h100, *SHARED)
    for seed in range(8):
        labels = parts(data, kind, seed)
        assert_whole(labels, runs, points)
        assert len(set(labels)) == (int(kind) if kind != "run" else 5)


def test_runs_that_share_points_by_way_of_others_are_held_out_together(h100):
    """0 and 3 share no point, but 1 and 2 lie between them."""
    data, runs, _ = runs_of_points(h100, [0, 1], [1, 2], [2, 3], [3, 4], [10, 11], [12])
    labels = dict(zip(runs, parts(data, "run").tolist(), strict=True))
    chain = {labels[f"run {i}"] for i in range(4)}
    assert len(chain) == 1
    assert len({*chain, labels["run 4"], labels["run 5"]}) == 3


@pytest.mark.parametrize("column", [name for name in POINT if name != "phase"])
def test_a_point_that_differs_in_one_thing_is_another(h100, column):
    data, _, _ = runs_of_points(h100, [0, 1], [1, 2])
    values = data.frame[column]
    other = values.max() + ("+" if isinstance(values[0], str) else 1)
    moved = values.mask(data.frame["run"] == "truth/run 1", other)
    apart = dataclasses.replace(data, frame=data.frame.assign(**{column: moved}))
    assert len(set(parts(apart, "run"))) == 2


def test_one_group_of_runs_leaves_nothing_to_learn_from(h100):
    data, _, _ = runs_of_points(h100, [0, 1], [1, 2])
    assert not [split for split in splits(data, 0) if split.name == "folds"]


def test_folds_are_filled_evenly(h100):
    """Runs of 6, 3, 2 and 1 rows in two folds are 6 and 6, whatever the seed."""
    data, _, _ = runs_of_points(h100, range(6), [10, 11, 12], [20, 21], [30])
    for seed in range(8):
        assert np.bincount(parts(data, "2", seed)).tolist() == [6, 6]


def test_equal_runs_are_dealt_anew_by_another_seed_and_alike_by_the_same(h100):
    data, _, _ = runs_of_points(h100, *[[3 * i, 3 * i + 1] for i in range(10)])
    dealt = [tuple(parts(data, "5", seed)) for seed in range(4)]
    assert len(set(dealt)) == 4
    assert tuple(parts(data, "5", 0)) == dealt[0]
    assert all(np.bincount(labels).tolist() == [4] * 5 for labels in dealt)
