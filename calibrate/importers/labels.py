"""What a source leaves open and its user says: which model ran, at which degree, in which batches."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from calibrate.errors import ImportFormatError
from calibrate.importers.imported import Imported
from calibrate.quality import Mask
from calibrate.schema import TABLES

NEEDS = ("model", "tp")
OPTIONS = {
    "model": "--model",
    "tp": "--tp",
    "dtype": "--dtype",
    "concurrency": "--concurrency",
    "input_tokens_mean": "--input-tokens",
    "output_tokens_mean": "--output-tokens",
}
"""The options of ``calibrate import`` that fill a column, by column."""
_TABLES = ("steps", "serving")
_SHOWN_RUNS = 3


def labelled(imported: Imported, source: str, said: Mapping[str, object], needs: Sequence[str]) -> Imported:
    """``imported`` with what is ``said``, by column, in the rows that leave it open.

    Raises ImportFormatError for a column that no row leaves open, or one of ``needs`` that a row leaves open and
    nobody says. A concurrency that is said makes the load closed.
    """
    tables = {name: imported.tables[name] for name in _TABLES if name in imported.tables}
    for column in said:
        if not any(_open(name, frame, column).any() for name, frame in tables.items()):
            option = OPTIONS[column]
            raise ImportFormatError(f"{source}: says its {option.removeprefix('--')} itself; leave {option} out")
    for name, frame in tables.items():
        never = [column for column in needs if column not in said and _open(name, frame, column).any()]
        if never:
            raise ImportFormatError(_never_said(source, name, frame, never))
    filled = {name: _filled(name, frame, said) for name, frame in tables.items()}
    left_out = (*imported.left_out, *_without_load(filled.get("serving", pd.DataFrame())))
    return dataclasses.replace(imported, tables={**imported.tables, **filled}, left_out=left_out)


def _open(name: str, frame: pd.DataFrame, column: str) -> Mask:
    """The rows of a table that leave a column open; none where the table has no such column."""
    if column not in {known.name for known in TABLES[name]}:
        return np.zeros(len(frame), dtype=bool)
    if column == "concurrency":  # an open load has none
        return _empty(frame, column) & _empty(frame, "request_rate")
    return _empty(frame, column)


def _empty(frame: pd.DataFrame, column: str) -> Mask:
    if column not in frame:
        return np.ones(len(frame), dtype=bool)
    return (frame[column].isna() | (frame[column] == "")).to_numpy(dtype=bool)


def _without_load(serving: pd.DataFrame) -> list[str]:
    """What to say of rows whose load is not known; nothing of a table that has none."""
    rows = _open("serving", serving, "load") if "load" in serving else np.zeros(len(serving), dtype=bool)
    said = "the client says none, or arrivals that the table does not know; --concurrency sets a closed one"
    return [f"the load of {_listed(serving['run_id'][rows])}: {said}"] if rows.any() else []


def _never_said(source: str, name: str, frame: pd.DataFrame, never: Sequence[str]) -> str:
    options = " and ".join(OPTIONS[column] for column in never)
    rows = np.logical_or.reduce([_open(name, frame, column) for column in never])
    where = "" if rows.all() or "run_id" not in frame else f" in {_listed(frame['run_id'][rows])}"
    called = _listed(frame["model_in_client"][rows]) if "model" in never and "model_in_client" in frame else ""
    unknown = f" (the client calls its model {called}, which no registry entry is called)" if called else ""
    return f"{source}: does not say what ran{where}{unknown}; give {options}"


def _listed(values: "pd.Series[str]") -> str:
    names = [str(name) for name in dict.fromkeys(values.dropna())]
    more = f" and {len(names) - _SHOWN_RUNS} more" if len(names) > _SHOWN_RUNS else ""
    return ", ".join(names[:_SHOWN_RUNS]) + more


def _filled(name: str, frame: pd.DataFrame, said: Mapping[str, object]) -> pd.DataFrame:
    """A table with what is said, its columns in the order of the schema, others after."""
    columns = {str(column): frame[column] for column in frame}
    for column, value in said.items():
        rows = _open(name, frame, column)
        if rows.any():
            columns[column] = pd.Series(value, index=frame.index) if rows.all() else frame[column].mask(rows, value)
    if "concurrency" in said and "load" in columns:
        columns["load"] = columns["load"].mask(_open(name, frame, "concurrency"), "closed")
    order = [column.name for column in TABLES[name] if column.name in columns]
    return pd.DataFrame({column: columns[column] for column in [*order, *(c for c in columns if c not in order)]})
