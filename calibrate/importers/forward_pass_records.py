"""Records of Forward Pass Metrics as a log holds them, whatever they are nested in: their fields, found and checked."""

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from calibrate.importers.forward_pass_requests import LISTS
from calibrate.records.errors import ImportFormatError
from calibrate.records.reading.content import plain_name
from sim.steps.batch import Floats

ENDS = (".jsonl", ".json", ".ndjson", ".parquet")
LOG_ENDS = tuple(f"{end}{packed}" for end in ENDS for packed in ("", ".gz", ".zst"))
TIME = "wall_time"
COUNTS = ("num_prefill_requests", "num_decode_requests")
_SUMS = ("sum_prefill_tokens", "sum_prefill_kv_tokens", "sum_decode_kv_tokens")
_SPREADS = ("var_prefill_length", "var_decode_kv_tokens")
BATCH = (*COUNTS, *_SUMS, *_SPREADS)
_STEP = ("worker_id", "counter_id")
RANK = "dp_rank"
_LABELS = (*_STEP, RANK, "version")
_NEEDED = (TIME, *COUNTS, "sum_prefill_tokens", "sum_decode_kv_tokens")
_WORKER_FIX = "worker_id must be text or a whole number: correct it, or leave the field out"
_WRAPPED, _NESTED = "fpm", "scheduled_requests"


def flat(table: pa.Table, file: Path | str, others: Sequence[str] = ()) -> pa.Table:
    """The wanted columns, and ``others``, of a table of records; nested ones without what they stood under."""
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    known = (TIME, *BATCH, *LISTS, *_LABELS, *others)
    places = [i for i, name in enumerate(table.column_names) if _own_name(name) in known]
    names = [_own_name(table.column_names[i]) for i in places]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ImportFormatError(f"{file}: the field {twice} stands in two places: drop one")
    return table.select(places).rename_columns(names)


def _own_name(name: str) -> str:
    return name.removeprefix(f"{_WRAPPED}.").removeprefix(f"{_NESTED}.")


def log_columns(file: Path | str, names: Sequence[str]) -> list[str]:
    """Those of a Parquet log's columns that hold the wanted fields. Raises ImportFormatError if there is none."""
    if _WRAPPED in names:
        return [_WRAPPED]
    wanted = (_NESTED, TIME, *BATCH, *LISTS, *_LABELS)
    chosen = [name for name in names if name in wanted or _own_name(name) != name]
    if not chosen:
        raise ImportFormatError(f"{file}: the field {TIME} is missing: not Forward Pass Metrics")
    return chosen


def schema_of(file: Path | str, record: dict[str, Any]) -> pa.Schema:
    """The wanted fields; their place and the kind of ``worker_id`` are those of a log's first record."""
    inner = record[_WRAPPED] if isinstance(record.get(_WRAPPED), dict) else record
    sums = [pa.field(name, pa.float64()) for name in BATCH]
    lists = [pa.field(name, pa.list_(pa.float64())) for name in LISTS]
    if isinstance(inner.get(_NESTED), dict):
        batch = [pa.field(_NESTED, pa.struct([*sums, *lists]))]
    elif COUNTS[0] in inner:
        batch = [*sums, *lists]
    else:
        raise ImportFormatError(
            f"{file}: the first record has no {_NESTED}: not Forward Pass Metrics"
        )
    worker_id = inner.get("worker_id", "")
    if isinstance(worker_id, bool) or not isinstance(worker_id, str | int):
        raise ImportFormatError(f"{file}: {_WORKER_FIX}, got {str(worker_id)[:60]}")
    worker = pa.string() if isinstance(worker_id, str) else pa.int64()
    labels = [pa.field(name, worker if name == "worker_id" else pa.int64()) for name in _LABELS]
    fields = [pa.field(TIME, pa.float64()), *batch, *labels]
    return pa.schema([pa.field(_WRAPPED, pa.struct(fields))] if inner is not record else fields)


def checked(table: pa.Table, file: Path | str) -> pd.DataFrame:
    """One log's records, checked; ``worker`` names each record's worker."""
    missing = [
        name
        for name in _NEEDED
        if name not in table.column_names or table[name].null_count == len(table)
    ]
    if missing and len(table):
        raise ImportFormatError(f"{file}: the field {missing[0]} is missing")
    columns = {
        name: _amounts(table, name, file) for name in (TIME, *BATCH) if name in table.column_names
    }
    columns |= {name: np.empty(0) for name in missing}  # of a log without a record
    if "version" in table.column_names:
        versions = (
            pc.unique(cast_column(table, "version", pa.int64(), file)).drop_null().to_pylist()
        )
        unknown = next((version for version in versions if version != 1), None)
        if unknown is not None:
            raise ImportFormatError(
                f"{file}: version {unknown} of Forward Pass Metrics is not known, only 1"
            )
    ranks = {name: _integers(table, name, file) for name in ("counter_id", RANK)}
    workers = _workers(table, file)
    return pd.DataFrame({**columns, **_lists(table, file), **ranks, "worker": workers})


def _lists(table: pa.Table, file: Path | str) -> dict[str, "pd.Series[Any]"]:
    """The lengths of single requests, an array a record, where the log has any."""
    there = [name for name in LISTS if name in table.column_names]
    if len(there) < len(LISTS) or any(table[name].null_count == len(table) for name in LISTS):
        return {}
    numbers = pa.list_(pa.float64())
    return {name: cast_column(table, name, numbers, file).to_pandas() for name in LISTS}


def _amounts(table: pa.Table, name: str, file: Path | str) -> Floats:
    """A column as numbers, checked; NaN where an optional field is missing."""
    values: Floats = cast_column(table, name, pa.float64(), file).to_numpy()
    bad = np.isinf(values) | (values < 0) | (np.isnan(values) & (name in _NEEDED))
    if bad.any():
        row = int(bad.argmax())
        found = table[name][row].as_py()
        raise ImportFormatError(
            f"{file}: record {row + 1}: {name} must be a number of 0 or more, got {found!r}"
        )
    return values


def _integers(table: pa.Table, name: str, file: Path | str) -> NDArray[np.int64]:
    """A label as integers, −1 where a record has none."""
    if name not in table.column_names:
        return np.full(len(table), -1, dtype=np.int64)
    filled: NDArray[np.int64] = pc.fill_null(
        cast_column(table, name, pa.int64(), file), -1
    ).to_numpy()
    return filled


def cast_column(table: pa.Table, name: str, kind: pa.DataType, file: Path | str) -> pa.ChunkedArray:
    """A column as another kind. Raises ImportFormatError where it cannot be."""
    try:
        return table[name].cast(kind)
    except pa.ArrowException as error:
        raise ImportFormatError(
            f"{file}: {name} must hold numbers: {_first_line(error)}"
        ) from error


def _workers(table: pa.Table, file: Path | str) -> "pd.Series[Any]":
    """What each record's worker is called, in whatever file of a rotated log it stands; the log's name without one."""
    if "worker_id" not in table.column_names:
        return pd.Series(_stem(file), index=range(len(table)), dtype="category")
    kind = table["worker_id"].type
    if not (
        pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
    ):
        raise ImportFormatError(f"{file}: {_WORKER_FIX}, got {kind}")
    ids = pc.fill_null(table["worker_id"].cast(pa.string()), "")
    named: pd.Series[Any] = (
        pc.if_else(pc.equal(ids, ""), _stem(file), ids).dictionary_encode().to_pandas()
    )
    return named


def _stem(file: Path | str) -> str:
    path = PurePath(file)
    name = plain_name(path)
    return next((name.removesuffix(end) for end in ENDS if name.endswith(end)), path.name)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
