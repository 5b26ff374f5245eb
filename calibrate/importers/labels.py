"""Columns that a source leaves open, from its server's log and from what the user says."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from calibrate.errors import ImportFormatError
from calibrate.importers.imported import Imported
from calibrate.importers.server import read_log
from calibrate.schema import TABLES
from sim.architecture import architecture_names, canonical_model

_LABELLED = ("steps", "serving")
_FIRST = ("model", "tp", "dtype")


def fill_from_log(imported: Imported, log: Path) -> Imported:
    """Empty engine columns of ``steps`` and ``serving`` filled from a vLLM server's log.

    ``model`` too, if the registry knows the name under which the server served it: that may be any.
    Raises ImportFormatError if the log cannot be read or names no engine, if there is no such table, or if a row
    has another degree, limit or cache size than the log: then it is the log of another run.
    """
    said = read_log(log)
    if "engine" not in said:
        raise ImportFormatError(f"{log}: names no vLLM engine (“LLM engine (v…) with config”); give it from its start")
    model = canonical_model(str(said.get("model_in_log")))
    if model in architecture_names():
        said["model"] = model
    tables = {name: imported.tables[name] for name in _LABELLED if name in imported.tables}
    if not tables:
        raise ImportFormatError(f"{log}: no table of this source says what ran ({' and '.join(_LABELLED)} do)")
    for name, frame in tables.items():
        for column in (column.name for column in TABLES[name] if column.name in said):
            frame = _filled(frame, column, said[column], log)
        tables[name] = _ordered(frame)
    info = dict(imported.info)
    if "serving" in tables:
        info["engine"] = ", ".join(sorted(set(tables["serving"]["engine"])))
    return dataclasses.replace(imported, tables={**imported.tables, **tables}, info=info)


def label(imported: Imported, source: str, said: Mapping[str, object]) -> Imported:
    """``model``, ``tp`` and ``dtype`` of ``steps`` and ``serving`` filled with what the user says of them.

    Raises ImportFormatError if no row leaves one of them open, or model or degree is then still open.
    """
    tables = {name: imported.tables[name] for name in _LABELLED if name in imported.tables}
    for column, value in said.items():
        open_in = [name for name, frame in tables.items() if _empty(frame, column).any()]
        if not open_in:
            raise ImportFormatError(f"{source}: says its {column} itself; leave --{column} out")
        tables |= {name: _with(tables[name], column, value, _empty(tables[name], column)) for name in open_in}
    for name, frame in tables.items():
        never = [f"--{column}" for column in ("model", "tp") if _empty(frame, column).any()]
        if never:
            fix = " and ".join(never) + (", or --server-log" if name == "serving" else "")
            raise ImportFormatError(f"{source}: does not say what ran; give {fix}")
    tables = {name: _ordered(frame) for name, frame in tables.items()}
    return dataclasses.replace(imported, tables={**imported.tables, **tables})


def _filled(frame: pd.DataFrame, column: str, value: object, log: Path) -> pd.DataFrame:
    empty = _empty(frame, column)
    if column == "engine" and column in frame:
        empty |= pd.Series([str(value).startswith(f"{name} ") for name in frame[column]], index=frame.index)
    if column in frame and isinstance(value, int):
        other = frame[column][~empty & (frame[column] != value)]
        if len(other):
            message = f"{log}: says {column} {value}, but the rows {other.iloc[0]:g}; is it the log of this run?"
            raise ImportFormatError(message)
    return _with(frame, column, value, empty)


def _empty(frame: pd.DataFrame, column: str) -> "pd.Series[bool]":
    if column not in frame:
        return pd.Series(True, index=frame.index)
    return frame[column].isna() | (frame[column] == "")


def _with(frame: pd.DataFrame, column: str, value: object, where: "pd.Series[bool]") -> pd.DataFrame:
    if not where.any():
        return frame
    cells = frame[column].astype(object) if column in frame else pd.Series(None, index=frame.index, dtype=object)
    cells[where] = value
    return frame.assign(**{column: cells.infer_objects()})


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    first = [column for column in _FIRST if column in frame]
    return frame[[*first, *(column for column in frame if column not in first)]]
