"""What a source leaves open, such as model and degree: its server's log fills it, then the user.

What a row says itself stays. A log or a user who says otherwise of it is refused: one of the two is wrong.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from calibrate.campaign.rows import Mask
from calibrate.importers.imported import Imported
from calibrate.importers.run_folder import distinct
from calibrate.importers.run_names import check_names
from calibrate.importers.server import read_log
from calibrate.records.errors import ImportFormatError
from calibrate.records.schema import NAMED_MODELS, TABLES
from sim.architecture_files import canonical_model
from sim.units import DTYPE_BYTES

NEEDS = ("model", "tp")
SERVED = (*NEEDS, "input_tokens_mean", "output_tokens_mean")
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
_SHOWN = 3

Tables = dict[str, pd.DataFrame]
Refusal = Callable[[str, object, str], str]
"""What to say where a row disagrees: of the column, the value that was said, and the row's own in words."""


def fill_from_log(imported: Imported, log: Path) -> Imported:
    """``imported`` with what a vLLM server's log says in the rows that leave it open.

    Raises ImportFormatError if the log cannot be read or names no engine, if no table says what ran, or if a row
    disagrees.
    """
    said = read_log(log)
    if "engine" not in said:
        raise ImportFormatError(
            f"{log}: names no vLLM engine (“LLM engine (v…) with config”); give it from its start"
        )
    if not _tables(imported):
        raise ImportFormatError(
            f"{log}: no table of this source says what ran ({' and '.join(_TABLES)} do)"
        )

    def other(column: str, value: object, own: str) -> str:
        return f"{log}: says {column} {value}, but the rows {own}; is it the log of this run?"

    tables = _filled(_tables(imported), {"engine": said.pop("engine"), **said}, other)
    engine = {"engine": distinct(tables["serving"], "engine")} if "serving" in tables else {}
    return dataclasses.replace(
        imported, tables={**imported.tables, **tables}, info={**imported.info, **engine}
    )


def labelled(
    imported: Imported, source: str, said: Mapping[str, object], needs: Sequence[str]
) -> Imported:
    """``imported`` with what its user ``said``, by column, in the rows that leave it open.

    Raises ImportFormatError for a column that no row takes, one of which a row says otherwise, or one of ``needs``
    that is open still. A concurrency that is said makes the load closed. Rows whose file's name says another degree
    than the user are left out.
    """
    tables = _tables(imported)
    _refuse_without_rows(tables, source, said)

    def other(column: str, value: object, own: str) -> str:
        option = OPTIONS[column]
        return f"{source}: {option.removeprefix('--')} is {own}, not {value}; leave {option} out"

    own_tp = ~_open("serving", tables.get("serving", pd.DataFrame()), "tp")
    tables = _filled(tables, said, other)
    for name, frame in tables.items():
        _refuse_open(name, frame, source, needs)
    if "serving" not in tables:
        return dataclasses.replace(imported, tables={**imported.tables, **tables})
    kept, odd, warnings = check_names(tables["serving"], own_tp)
    if not len(kept):
        raise ImportFormatError("\n".join([f"{source}: nothing in it can be imported", *odd]))
    return dataclasses.replace(
        imported,
        tables={**imported.tables, **tables, "serving": kept},
        left_out=(*imported.left_out, *odd, *_without_load(kept)),
        warnings=(*imported.warnings, *warnings),
    )


def _refuse_without_rows(tables: Tables, source: str, said: Mapping[str, object]) -> None:
    """Raise ImportFormatError for a column that is said but that no row takes."""
    for column, option in ((column, OPTIONS[column]) for column in said):
        if not any(
            (_open(name, frame, column) | ~_empty(frame, column)).any()
            for name, frame in tables.items()
        ):
            raise ImportFormatError(
                f"{source}: no row takes {option.removeprefix('--')}; leave {option} out"
            )


def _refuse_open(name: str, frame: pd.DataFrame, source: str, needs: Sequence[str]) -> None:
    """Raise ImportFormatError if a table leaves the weight type or one of ``needs`` open."""
    never = [column for column in needs if _open(name, frame, column).any()]
    if (scheme := _open(name, frame, "dtype") & ~_empty(frame, "dtype")).any():
        quantized = (
            f"quantized as {_listed(frame['dtype'][scheme])}, which leaves the weight type open"
        )
        raise ImportFormatError(f"{source}: {quantized}; give --dtype")
    if never:
        raise ImportFormatError(_never_said(source, name, frame, never))


def _tables(imported: Imported) -> Tables:
    return {name: imported.tables[name] for name in _TABLES if name in imported.tables}


def _filled(tables: Tables, said: Mapping[str, object], refusal: Refusal) -> Tables:
    """Tables with what is said where it is open, their columns in the order of the schema, others after."""
    filled = {}
    for name, frame in tables.items():
        for column, value in said.items():
            rows = _open(name, frame, column, value)
            _refuse_others(frame, column, value, ~rows & ~_empty(frame, column), refusal)
            frame = _with(frame, column, value, rows)
            if column == "concurrency":
                frame = _with(frame, "load", "closed", rows)
        order = [column.name for column in TABLES[name] if column.name in frame]
        filled[name] = frame[[*order, *(column for column in frame if column not in order)]]
    return filled


def _open(name: str, frame: pd.DataFrame, column: str, value: object = "") -> Mask:
    """The rows of a table that leave a column open for ``value``; none where the table has no such column."""
    if column not in {known.name for known in TABLES[name]}:
        return np.zeros(len(frame), dtype=bool)
    empty = _empty(frame, column)
    if column == "concurrency":  # an open load has none
        return empty & _empty(frame, "request_rate")
    if column == "dtype" and column in frame:  # a scheme of quantization may leave the type open
        empty = empty | np.array(
            [weights not in DTYPE_BYTES for weights in frame[column]], dtype=bool
        )
    if column == "engine" and column in frame:  # a name takes a version
        empty = empty | np.array(
            [str(value).startswith(f"{engine} ") for engine in frame[column]], dtype=bool
        )
    return empty


def _empty(frame: pd.DataFrame, column: str) -> Mask:
    if column not in frame:
        return np.ones(len(frame), dtype=bool)
    return (frame[column].isna() | (frame[column] == "")).to_numpy(dtype=bool)


def _refuse_others(
    frame: pd.DataFrame, column: str, value: object, rows: Mask, refusal: Refusal
) -> None:
    """Raise ImportFormatError if one of ``rows``, which all hold the column, holds another value."""
    own = frame[column][rows] if rows.any() else pd.Series(dtype=object)
    other = own[
        own.map(canonical_model) != canonical_model(str(value))
        if column == "model"
        else own != value
    ]
    if len(other):
        first = other.iloc[0] if isinstance(other.iloc[0], str) else f"{other.iloc[0]:.12g}"
        where = f" in {_listed(frame['run_id'][other.index])}" if "run_id" in frame else ""
        raise ImportFormatError(refusal(column, value, first + where))


def _with(frame: pd.DataFrame, column: str, value: object, rows: Mask) -> pd.DataFrame:
    if not rows.any():
        return frame
    held = frame.get(column, pd.Series(np.nan, index=frame.index))
    cells = [value if fill else cell for cell, fill in zip(held, rows, strict=True)]
    return frame.assign(**{column: pd.Series(cells, index=frame.index)})


def _without_load(serving: pd.DataFrame) -> list[str]:
    """What to say of rows whose load is not known; nothing of a table that has none."""
    rows = (
        _open("serving", serving, "load")
        if "load" in serving
        else np.zeros(len(serving), dtype=bool)
    )
    said = "the client says none, or arrivals that the table does not know; --concurrency sets a closed one"
    return [f"the load of {_listed(serving['run_id'][rows])}: {said}"] if rows.any() else []


def _never_said(source: str, name: str, frame: pd.DataFrame, never: Sequence[str]) -> str:
    """What to say of rows that leave columns of ``never`` open, with the options that fill them."""
    rows = np.logical_or.reduce([_open(name, frame, column) for column in never])
    where = "" if rows.all() or "run_id" not in frame else f" in {_listed(frame['run_id'][rows])}"
    called = [
        _listed(frame[column][rows])
        for column in NAMED_MODELS
        if "model" in never and column in frame
    ]
    unknown = (
        f" (its model is called {called[0]}, as none of the registry is)"
        if called and called[0]
        else ""
    )
    what = "what ran" if set(never) & set(NEEDS) else "how many tokens a request had"
    options = " and ".join(OPTIONS[column] for column in never)
    log = (
        ", or the log of its vLLM server as --server-log"
        if set(never) <= set(NEEDS) and not called
        else ""
    )
    return f"{source}: does not say {what}{where}{unknown}; give {options}{log}"


def _listed(values: "pd.Series[str]") -> str:
    names = [str(name) for name in dict.fromkeys(values.dropna())]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
