"""Rows of a table that share a finding: which they are, the figures they hold, and what is said of them."""

import dataclasses

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.records.errors import Problem
from sim.steps.batch import Floats

Mask = NDArray[np.bool_]


def warning(
    file: str, frame: pd.DataFrame, rows: Mask, message: str, fix: str, column: str
) -> list[Problem]:
    """A warning about some ``rows`` (n,) of a frame with a ``line`` column; none if there are no such rows."""
    if not rows.any():
        return []
    first = frame[column][rows].iloc[0] if column in frame else None
    value = None if first is None else f"{first:g}" if isinstance(first, float) else str(first)[:60]
    return [
        Problem(
            "warning",
            file,
            message,
            fix,
            tuple(frame["line"][rows].astype(int).tolist()),
            column,
            value,
        )
    ]


def error(
    file: str, frame: pd.DataFrame, rows: Mask, message: str, fix: str, column: str
) -> list[Problem]:
    """The same as an error: the rows cannot be used."""
    return [
        dataclasses.replace(problem, severity="error")
        for problem in warning(file, frame, rows, message, fix, column)
    ]


def column_of(frame: pd.DataFrame, name: str) -> Floats:
    """A column's numbers, shape (n,); NaN where the table has no such column."""
    return frame[name].to_numpy(dtype=np.float64) if name in frame else np.full(len(frame), np.nan)


def median_of(ratio: Floats) -> str:
    """The median of some ratios as it is written; empty where there are none."""
    return f"{np.median(ratio):.3g}" if len(ratio) else ""
