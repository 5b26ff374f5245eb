"""A run's folder as it was written: ``result.json`` and the tables beside it."""

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from calibrate.outcome.result import FitResult
from calibrate.records.errors import CalibrateError, UnreadableError
from calibrate.records.reading.content import read_text
from calibrate.records.reading.csv_rows import CsvRows
from calibrate.records.reading.documents import read_json

_FIX = "written by another version, or edited? Run the fit again"
_PREDICTED_TEXTS = ("campaign", "phase", "model", "dtype", "run", "regime")
_PREDICTED = (
    *("line", "tp", "batch", "new_tokens", "context_tokens", "prefill_tokens"),
    *("measured_us", "before_us", "after_us", "residual", "weight", "flops", "bytes"),
)
_SERVED_TEXTS = (
    "campaign",
    "model",
    "engine",
    "dtype",
    "stage",
    "load",
    "run",
    "metric",
    "statistic",
)
_SERVED = ("line", "tp", "weight", "measured_ms", "before_ms", "after_ms")
"""Columns without which a run's tables cannot be drawn or compared: labels, and figures."""
_POSITIVE = "_us"  # how the names of figures end whose logarithms are compared
_LARGEST = 1e100  # quotients and squares of what is below are numbers still


def read_run(folder: str | Path) -> FitResult:
    """A run with its tables: ``predictions.csv`` of a fit to steps, ``serving.csv`` of one to serving results.

    Raises CalibrateError if one of these or ``result.json`` is missing or malformed.
    """
    root = Path(folder)
    result = read_result(root)
    return dataclasses.replace(
        result,
        predictions=_read_predictions(root / "predictions.csv")
        if result.has_steps
        else pd.DataFrame(),
        served=_read_served(root / "serving.csv") if result.serving is not None else None,
    )


def read_result(folder: str | Path) -> FitResult:
    """``result.json`` of a run, without the tables beside it. Raises CalibrateError if it is missing or malformed."""
    path = Path(folder) / "result.json"
    if not path.exists():
        raise CalibrateError(f"{path}: no such file; give the folder of a run, reports/<GPU>/<run>")
    try:
        content = read_json(path)
    except UnreadableError as error:
        raise CalibrateError(f"{error}; run the fit again") from error
    return FitResult.from_dict(content, where=str(path))


def _read_predictions(path: Path) -> pd.DataFrame:
    table = _read_table(path, "steps")
    return _checked(path, table, _PREDICTED_TEXTS, _PREDICTED)


def _read_served(path: Path) -> pd.DataFrame:
    table = _read_table(path, "serving results", as_text=True)  # a model may be called nan
    times = [name for name in map(str, table) if name.endswith("_ms")]
    figures = list(dict.fromkeys([*_SERVED, *times]))
    empty = {name: table[name].replace("", "nan") for name in figures if name in table}
    return _checked(path, table.assign(**empty), _SERVED_TEXTS, figures)


def _read_table(path: Path, what: str, *, as_text: bool = False) -> pd.DataFrame:
    if not path.exists():
        raise CalibrateError(f"{path}: no such file; without it the run's {what} cannot be drawn")
    _check_rows(path)
    content = io.StringIO(read_text(path))
    try:
        if as_text:
            return pd.read_csv(content, dtype=str, keep_default_na=False)
        return pd.read_csv(
            content, low_memory=False
        )  # or columns of texts and blanks get two kinds
    except ValueError as error:
        raise CalibrateError(f"{path}: cannot be read: {error}; {_FIX}") from error


def _check_rows(path: Path) -> None:
    """Raise CalibrateError for rows of another length than the header, which pandas shifts, and names there twice."""
    rows = CsvRows(path)
    rows.rows()  # says what is wrong with them
    errors = [problem for problem in rows.problems if problem.severity == "error"]
    if errors:
        raise CalibrateError(f"{errors[0]}; {_FIX}")
    twice = next((name for name in rows.header if rows.header.count(name) > 1), None)
    if twice is not None:
        raise CalibrateError(f"{path}:1: {twice}: the column is there twice; {_FIX}")


def _checked(
    path: Path, table: pd.DataFrame, texts: Sequence[str], figures: Sequence[str]
) -> pd.DataFrame:
    """The table with its figures as numbers. Raises CalibrateError for a column that is missing, or no figures."""
    for name in (*texts, *figures):
        if name not in table:
            raise CalibrateError(f"{path}:1: {name}: the column is missing; {_FIX}")
    numbers = {name: _numbers(table[name]) for name in figures}
    for name, values in numbers.items():
        no_number = values.isna() & table[name].notna() & (table[name] != "nan")
        _refuse(path, table[name], no_number | (values.abs() > _LARGEST), "must be a number")
        if name.endswith(_POSITIVE):
            _refuse(path, table[name], values < 1.0 / _LARGEST, "must be a positive number")
    odd = {n: values for n, values in numbers.items() if not is_numeric_dtype(table[n])}
    return table.assign(**odd)


def _numbers(cells: "pd.Series[Any]") -> "pd.Series[float]":
    """The cells as numbers, NaN where they are none; whole numbers beyond every float are infinite."""
    plain = cells.astype(str) if cells.dtype == object else cells
    return pd.to_numeric(plain, errors="coerce").astype(np.float64)


def _refuse(path: Path, cells: "pd.Series[Any]", bad: "pd.Series[bool]", what: str) -> None:
    """Raise CalibrateError for the first cell that is bad."""
    if bad.any():
        row = int(bad.to_numpy().argmax())
        value = str(cells.iloc[row])[:60]
        raise CalibrateError(f"{path}:{row + 2}: {cells.name} = {value}: {what}; {_FIX}")
