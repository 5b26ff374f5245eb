"""Rows of a table that share a finding: which they are, the figures they hold, and what is said of them."""

import dataclasses
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.records.errors import Problem
from sim.steps.batch import Floats

Mask = NDArray[np.bool_]
_MOST_KINDS = 1 << 31
_ODD = np.uint64(1_000_003)


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


def labels_of(*columns: pd.Series) -> tuple[NDArray[np.intp], list[tuple[str, ...]]]:
    """Which of the distinct labels in some columns each row has, shape (n,), and the labels in order of appearance."""
    codes, kinds = np.zeros(len(columns[0]), dtype=np.intp), 1
    for column in columns:
        code, size = _coded(column)
        codes, kinds = codes * (size + 1) + code, kinds * (size + 1)
        if kinds > _MOST_KINDS:
            codes, distinct = pd.factorize(codes)
            kinds = len(distinct)
    codes, _ = pd.factorize(codes)
    rows = first_rows(codes)
    return codes, list(zip(*(column.iloc[rows] for column in columns), strict=True))


def first_rows(codes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Where each of some codes (n,) appears first, if they are numbered in the order in which they do."""
    return np.flatnonzero(np.diff(np.maximum.accumulate(codes), prepend=-1))


def _coded(column: pd.Series) -> tuple[NDArray[np.integer], int]:
    """Which of so many distinct cells each one is, shape (n,)."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.array.codes, len(column.array.categories)
    code, words = pd.factorize(column.to_numpy())
    return code, len(words)


def may_repeat(columns: Iterable[pd.Series]) -> Mask:
    """Rows whose hash others have too, shape (n,): all that equal another, and hardly any that do not."""
    return pd.Series(row_hashes(columns)).duplicated(keep=False).to_numpy(copy=True)


def row_hashes(columns: Iterable[pd.Series]) -> NDArray[np.uint64]:
    """Hashes of rows, shape (n,), equal for equal rows of any table."""
    hashes = np.zeros(1, dtype=np.uint64)
    for column in columns:
        hashes = hashes * _ODD + pd.util.hash_array(_one_form(column))
    return hashes


def _one_form(column: pd.Series) -> NDArray[np.generic] | pd.Categorical:
    """Values of which equal ones have the same bits: no negative zero, one NaN."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        coded: pd.Categorical = column.array
        return coded
    values = column.to_numpy()
    return np.where(values == values, values + 0.0, np.nan) if values.dtype.kind == "f" else values
