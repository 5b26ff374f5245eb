"""Held-out error: every row predicted by a fit that has not seen its run, its model, its TP or its campaign."""

import dataclasses
from collections.abc import Callable

import joblib
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from calibrate.identifiability import sensitivity
from calibrate.objective import POINT, Dataset
from calibrate.solver import Problem, search, thin
from sim.batch import Floats

FOLDS = 5
_TRAINING_ROWS = 5000
_STARTS = 8


@dataclasses.dataclass(frozen=True)
class Split:
    """A way of leaving rows out: ``labels`` (n,) says which part a row is left out with."""

    name: str
    labels: NDArray[np.intp]


def splits(data: Dataset, seed: int) -> list[Split]:
    """Five folds by run, and leave-one-out by model, TP and campaign, each where there are two parts or more.

    Runs that repeat one another's points go into the same fold, or replicates would leak.
    """
    found = [Split("folds", _fold_labels(data, seed))]
    for name in ("model", "tp", "campaign"):
        _, labels = np.unique(data.frame[name].to_numpy(dtype=str), return_inverse=True)
        found.append(Split(name, labels.astype(np.intp)))
    return [split for split in found if len(np.unique(split.labels)) >= 2]


def predict_held_out(
    problem: Problem, split: Split, seed: int, jobs: int = 1, done: Callable[[], None] = lambda: None
) -> Floats:
    """Predictions in µs, shape (n,), each from a fit on the other parts, searched from eight starts.

    A training set above 5,000 rows is thinned to that, evenly over its slices. ``done`` is called after every part.
    """
    predicted = np.full(len(problem.data), np.nan)
    parts = [split.labels == label for label in np.unique(split.labels)]
    fits = joblib.Parallel(n_jobs=jobs, return_as="generator")(
        joblib.delayed(_train)(problem, ~part, seed) for part in parts
    )
    for part, values in zip(parts, fits, strict=True):
        hardware = problem.hardware.with_values(values)
        predicted[part] = problem.model.predict_us(problem.data.table.take(part), hardware)
        done()
    return predicted


def _train(problem: Problem, rows: NDArray[np.bool_], seed: int) -> dict[str, float]:
    """Fit the other parts as the whole is fitted; what they do not see stays at the start's value."""
    training = problem.on(rows)
    training = training.on(thin(training.data, _TRAINING_ROWS, seed))
    inert = sensitivity(training.model, training.hardware, training.data).inert
    free = tuple(name for name in training.free if name not in inert)
    return search(dataclasses.replace(training, free=free), _STARTS, seed).best.values if free else {}


def _fold_labels(data: Dataset, seed: int) -> NDArray[np.intp]:
    groups = _independent_groups(data)
    names, sizes = np.unique(groups, return_counts=True)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    fold_of_group, filled = np.empty(len(names), dtype=np.intp), np.zeros(min(FOLDS, len(names)))
    for group in order:  # the largest first, each into the emptiest fold
        fold = int(filled.argmin())
        fold_of_group[group] = fold
        filled[fold] += sizes[group]
    return fold_of_group[groups]


def _independent_groups(data: Dataset) -> NDArray[np.intp]:
    """Labels of the connected components of runs and points: rows of one run, or of one point, belong together."""
    run = data.frame.groupby("run", sort=False).ngroup().to_numpy()
    point = data.frame.groupby(POINT, sort=False, dropna=False).ngroup().to_numpy()
    size = run.max() + 1 + point.max() + 1
    graph = coo_array((np.ones(len(run)), (run, run.max() + 1 + point)), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    _, labels = np.unique(component[run], return_inverse=True)
    return labels.astype(np.intp)
