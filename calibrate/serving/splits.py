"""Which parts of the load points are left out in turn."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.serving.thresholds import MOST_RUNS
from calibrate.trust.crossval import FOLDS, LEAVE_OUT, number_of_folds

OF_RUNS = ("run", "folds")
"""The kinds of split whose parts are runs: a few of many alike, whatever they served."""


def serving_splits(
    frame: pd.DataFrame, kinds: Sequence[str], seed: int
) -> dict[str, NDArray[np.intp]]:
    """The part of every point, shape (n,), by kind of split, each where there are two parts or more.

    ``kinds`` are those of :func:`calibrate.trust.crossval.splits`; by default one model at a time. Beside them runs:
    one at a time, of more than ten runs a fifth at a time, or as many folds as asked for.
    """
    kinds = kinds or ("model",)
    run = _numbers(frame, "run")
    runs = int(run.max()) + 1
    folds = number_of_folds(kinds)
    if folds is None and "run" not in kinds and runs > MOST_RUNS:
        folds = FOLDS
    shuffled = np.random.default_rng(seed).permutation(runs)
    by_run = {"run": run} if folds is None else {"folds": (shuffled % folds)[run]}
    found = {kind: _numbers(frame, kind) for kind in LEAVE_OUT if kind in kinds} | by_run
    return {name: labels for name, labels in found.items() if len(np.unique(labels)) > 1}


def _numbers(frame: pd.DataFrame, column: str) -> NDArray[np.intp]:
    _, number = np.unique(frame[column].to_numpy(dtype=str), return_inverse=True)
    labels: NDArray[np.intp] = number.astype(np.intp)
    return labels
