"""Held-out error: every row predicted by a fit that has not seen its run, its model, its TP or its campaign."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from calibrate.fitting.identifiability import sensitivity
from calibrate.fitting.labels import POINT
from calibrate.fitting.objective import Dataset
from calibrate.fitting.problem import Problem, opened
from calibrate.fitting.search import search, thin
from calibrate.fitting.solver import minimise
from calibrate.records.errors import CalibrateError
from calibrate.records.workers import in_parts
from sim.errors import nearest
from sim.steps.batch import Floats

FOLDS = 5
LEAVE_OUT = ("model", "tp", "campaign")
"""What is left out, one at a time, where nothing else is asked for."""
KINDS = (*LEAVE_OUT, "node")
"""What can be left out, one at a time, beside runs: nodes are those of a data set."""

_TRAINING_ROWS = 5000
_STARTS = 4


@dataclasses.dataclass(frozen=True)
class Split:
    """A way of leaving rows out: ``labels`` (n,) says which part a row is left out with."""

    name: str
    labels: NDArray[np.intp]


def splits(data: Dataset, seed: int, kinds: Sequence[str] = LEAVE_OUT) -> list[Split]:
    """Five folds by run, and leave-one-out by the ``kinds``, each where there are two parts or more.

    A kind is one of :data:`KINDS`, ``run`` (in place of folds), or a number of folds. Runs that repeat one another's
    points go into the same part, or replicates would leak. Raises CalibrateError for another kind.
    """
    folds = number_of_folds(kinds)
    by_run = (
        Split("run", independent_groups(data))
        if "run" in kinds
        else Split("folds", _fold_labels(data, folds or FOLDS, seed))
    )
    found = [by_run]
    for name in dict.fromkeys(kind for kind in kinds if kind in KINDS and kind in data.frame):
        _, labels = np.unique(data.frame[name].to_numpy(dtype=str), return_inverse=True)
        found.append(Split(name, labels.astype(np.intp)))
    return [split for split in found if len(np.unique(split.labels)) >= 2]


def number_of_folds(kinds: Sequence[str]) -> int | None:
    """The number of folds among some kinds of split, None where there is none. Raises CalibrateError for no kind."""
    folds = [int(kind) for kind in kinds if kind.isascii() and kind.isdecimal()]
    unknown = [
        kind
        for kind in kinds
        if kind not in (*KINDS, "run") and not (kind.isascii() and kind.isdecimal())
    ]
    if unknown:
        raise CalibrateError(
            f"--cv {unknown[0]}: give {', '.join(KINDS)}, run, or a number of folds{nearest(unknown[0], KINDS)}"
        )
    if len(folds) > 1 or (folds and folds[0] < 2) or (folds and "run" in kinds):
        raise CalibrateError("--cv: give one number of folds, 2 or more, or run")
    return folds[0] if folds else None


Refit = Callable[[Problem], Mapping[str, float]]
"""Values of parameters from a problem on some of the rows; what they do not show is left out."""


def predict_parts(
    problem: Problem,
    split: Split,
    refit: Refit,
    seed: int,
    jobs: int = 1,
    done: Callable[[], None] = lambda: None,
) -> Floats:
    """Predictions in µs, shape (n,), each by ``refit`` on the other parts of ``problem``; what it does not name stays.

    A training set above 5,000 rows is thinned to that, evenly over its slices. ``done`` is called after every part.
    """
    predicted = np.full(len(problem.data), np.nan)
    parts = [split.labels == label for label in np.unique(split.labels)]
    fits = in_parts(_train, ((problem, refit, ~part, seed) for part in parts), jobs)
    for part, values in zip(parts, fits, strict=True):
        hardware = problem.hardware.with_values(values)
        predicted[part] = problem.model.predict_us(problem.data.table.take(part), hardware)
        done()
    return predicted


def _train(
    problem: Problem, refit: Refit, rows: NDArray[np.bool_], seed: int
) -> Mapping[str, float]:
    training = problem.on(rows)
    return refit(training.on(thin(training.data, _TRAINING_ROWS, seed)))


def starts_of(kind: str) -> int:
    """Starts of each part's fit: one where single runs are left out, for they hardly move a minimum; else four."""
    return 1 if kind == "run" else _STARTS


def predict_held_out(
    problem: Problem, solution: Mapping[str, float], split: Split, seed: int
) -> Floats:
    """Predictions in µs, shape (n,), by fits of the given free parameters, started from the solution on all rows.

    Four other starts guard against a minimum that only all rows hold (none where single runs are left out).
    """
    starts = 0 if split.name == "run" else _STARTS
    refit = functools.partial(_refit_free, solution=solution, starts=starts, seed=seed)
    return predict_parts(problem, split, refit, seed)


def _refit_free(
    training: Problem, solution: Mapping[str, float], starts: int, seed: int
) -> dict[str, float]:
    """Fit what the rows see of the free parameters."""
    start = opened(training.model, training.hardware, training.free)
    inert = sensitivity(training.model, start, training.data).inert
    free = tuple(name for name in training.free if name not in inert)
    if not free:
        return {}
    training = dataclasses.replace(training, free=free)
    fits = [minimise(training, {name: solution[name] for name in free})]
    if starts:
        fits.append(search(training, starts, seed).best)
    return min(fits, key=lambda estimate: estimate.cost).values


def _fold_labels(data: Dataset, folds: int, seed: int) -> NDArray[np.intp]:
    groups = independent_groups(data)
    _, sizes = np.unique(groups, return_counts=True)
    return fold_of_groups(sizes, folds, seed)[groups]


def fold_of_groups(sizes: NDArray[np.integer[Any]], folds: int, seed: int) -> NDArray[np.intp]:
    """Which of some folds each group of so many rows is in, so that folds are of a size."""
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    fold_of_group = np.empty(len(sizes), dtype=np.intp)
    filled = np.zeros(min(folds, len(sizes)))
    for group in order:  # the largest first, each into the emptiest fold
        fold = int(filled.argmin())
        fold_of_group[group] = fold
        filled[fold] += sizes[group]
    return fold_of_group


def independent_groups(data: Dataset) -> NDArray[np.intp]:
    """Labels of the connected components of runs and points: rows of one run, or of one point, belong together."""
    run = data.frame.groupby("run", sort=False).ngroup().to_numpy()
    point = data.frame.groupby(POINT, sort=False, dropna=False).ngroup().to_numpy()
    size = run.max() + 1 + point.max() + 1
    graph = coo_array((np.ones(len(run)), (run, run.max() + 1 + point)), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    _, labels = np.unique(component[run], return_inverse=True)
    return labels.astype(np.intp)
