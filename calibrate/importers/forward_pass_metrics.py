"""Forward Pass Metrics: one record an engine step, as Dynamo, SGLang and vLLM report them.

A record has ``wall_time`` in seconds and ``scheduled_requests`` with the sums of its batch, under the names of the
columns of ``steps`` (ai-dynamo/dynamo, ``forward_pass_metrics.py``, version 1). Dynamo's trace files
(``dynamo.fpm.trace.v1``) hold it under ``fpm``; the names may also stand side by side. An idle engine's heartbeat has
no request and no time. Data-parallel ranks that step together share ``worker_id`` and ``counter_id``.
"""

import datetime
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from calibrate.importers.forward_pass_requests import LISTS, with_requests
from calibrate.importers.imported import Imported
from calibrate.records.errors import ImportFormatError
from calibrate.records.reading.content import plain_name
from calibrate.records.reading.json_lines import read_json_lines
from calibrate.records.reading.parquet import parquet_columns, read_parquet
from sim.steps.batch import Floats
from sim.units import US_PER_S

_ENDS = (".jsonl", ".json", ".ndjson", ".parquet")
LOG_ENDS = tuple(f"{end}{packed}" for end in _ENDS for packed in ("", ".gz", ".zst"))
KEY = "key:"
"""How columns begin that are to be keys of a data set."""
_TIME = "wall_time"
_COUNTS = ("num_prefill_requests", "num_decode_requests")
_SUMS = ("sum_prefill_tokens", "sum_prefill_kv_tokens", "sum_decode_kv_tokens")
_SPREADS = ("var_prefill_length", "var_decode_kv_tokens")
BATCH = (*_COUNTS, *_SUMS, *_SPREADS)
_STEP = ("worker_id", "counter_id")
_RANK = "dp_rank"
_LABELS = (*_STEP, _RANK, "version")
_NEEDED = (_TIME, *_COUNTS, "sum_prefill_tokens", "sum_decode_kv_tokens")
_WORKER_FIX = "worker_id must be text or a whole number: correct it, or leave the field out"
_WRAPPED, _NESTED = "fpm", "scheduled_requests"


def read(source: str, gpu: str) -> Imported:
    """The ``steps`` of a log, or of a folder of them, without model and degree, which no log says.

    Where it has the lengths of single requests, ``requests`` too. A ``run_id`` is a worker. Raises ImportFormatError if
    nothing can be read, a needed field is missing, a number is none or negative, or no step is left.
    """
    files = _files(source)
    cut_off: list[str] = []
    parts = [_table(file, cut_off) for file in files]
    log = pd.concat(
        [checked(table, file) for table, file in zip(parts, files, strict=True)], ignore_index=True
    )
    tables, counts = tables_of(log)
    if not len(tables["steps"]):
        raise ImportFormatError(f"{source}: no record of it is an engine step with a time")
    info = campaign_info(gpu, len(tables["steps"]))
    return Imported(tables, info, (*cut_off, *left_out_of(counts)))


def _files(source: str) -> list[Path]:
    path = Path(source)
    if not path.is_dir():
        return [path]
    files = sorted(
        file for file in path.iterdir() if plain_name(file).endswith(_ENDS) and file.is_file()
    )
    if not files:
        raise ImportFormatError(f"{source}: no log in it; logs end in {', '.join(_ENDS)}")
    return files


def _table(file: Path, cut_off: list[str]) -> pa.Table:
    """The wanted columns of one log, nested ones taken apart: names without what they stood under.

    Where its last record is cut off, ``cut_off`` gets the words that say so.
    """
    if file.suffix == ".parquet":
        table = _read_parquet(file)
    else:
        table, left_out = read_json_lines(file, functools.partial(schema_of, file))
        cut_off += [f"{file}: {left_out}"] if left_out else []
    return flat(table, file)


def flat(table: pa.Table, file: Path | str, others: Sequence[str] = ()) -> pa.Table:
    """The wanted columns, and ``others``, of a table of records; nested ones without what they stood under."""
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    known = (_TIME, *BATCH, *LISTS, *_LABELS, *others)
    places = [i for i, name in enumerate(table.column_names) if _own_name(name) in known]
    names = [_own_name(table.column_names[i]) for i in places]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ImportFormatError(f"{file}: the field {twice} stands in two places: drop one")
    return table.select(places).rename_columns(names)


def _own_name(name: str) -> str:
    return name.removeprefix(f"{_WRAPPED}.").removeprefix(f"{_NESTED}.")


def _read_parquet(file: Path) -> pa.Table:
    return read_parquet(file, log_columns(file, parquet_columns(file)))


def log_columns(file: Path | str, names: Sequence[str]) -> list[str]:
    """Those of a Parquet log's columns that hold the wanted fields. Raises ImportFormatError if there is none."""
    if _WRAPPED in names:
        return [_WRAPPED]
    wanted = (_NESTED, _TIME, *BATCH, *LISTS, *_LABELS)
    chosen = [name for name in names if name in wanted or _own_name(name) != name]
    if not chosen:
        raise ImportFormatError(f"{file}: the field {_TIME} is missing: not Forward Pass Metrics")
    return chosen


def schema_of(file: Path | str, record: dict[str, Any]) -> pa.Schema:
    """The wanted fields; their place and the kind of ``worker_id`` are those of a log's first record."""
    inner = record[_WRAPPED] if isinstance(record.get(_WRAPPED), dict) else record
    sums = [pa.field(name, pa.float64()) for name in BATCH]
    lists = [pa.field(name, pa.list_(pa.float64())) for name in LISTS]
    if isinstance(inner.get(_NESTED), dict):
        batch = [pa.field(_NESTED, pa.struct([*sums, *lists]))]
    elif _COUNTS[0] in inner:
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
    fields = [pa.field(_TIME, pa.float64()), *batch, *labels]
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
        name: _amounts(table, name, file) for name in (_TIME, *BATCH) if name in table.column_names
    }
    versions = (
        pc.unique(table["version"]).drop_null().to_pylist()
        if "version" in table.column_names
        else []
    )
    if any(version != 1 for version in versions):
        raise ImportFormatError(
            f"{file}: version {versions[0]} of Forward Pass Metrics is not known, only 1"
        )
    ranks = {name: _integers(table, name, file) for name in ("counter_id", _RANK)}
    workers = _workers(table, file)
    return pd.DataFrame({**columns, **_lists(table, file), **ranks, "worker": workers})


def _lists(table: pa.Table, file: Path | str) -> dict[str, "pd.Series[Any]"]:
    """The lengths of single requests, an array a record, where the log has any."""
    there = [name for name in LISTS if name in table.column_names]
    if len(there) < len(LISTS) or any(table[name].null_count == len(table) for name in LISTS):
        return {}
    numbers = pa.list_(pa.float64())
    return {name: _cast(table, name, numbers, file).to_pandas() for name in LISTS}


def _amounts(table: pa.Table, name: str, file: Path | str) -> Floats:
    """A column as numbers, checked; NaN where an optional field is missing."""
    values: Floats = _cast(table, name, pa.float64(), file).to_numpy()
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
    filled: NDArray[np.int64] = pc.fill_null(_cast(table, name, pa.int64(), file), -1).to_numpy()
    return filled


def _cast(table: pa.Table, name: str, kind: pa.DataType, file: Path | str) -> pa.ChunkedArray:
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
    return next((name.removesuffix(end) for end in _ENDS if name.endswith(end)), path.name)


def has_ranks(ranks: int, *, all_counted: bool) -> bool:
    """Whether so many ranks are of the same steps: not where some record has no ``counter_id``."""
    return ranks > 1 and all_counted


def left_out_of(counts: Mapping[str, int]) -> list[str]:
    """What is said of so many records of each kind that were left out."""
    return [f"{count:,} {what}" for what, count in counts.items() if count]


def tables_of(
    log: pd.DataFrame, *, merge: bool | None = None
) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """One row a step, as :func:`steps_of`, and its requests; and how many of each kind were left out.

    Columns that begin with :data:`KEY` are kept.
    """
    steps, records, counts = steps_of(log, merge=merge)
    keys = [name for name in map(str, log) if name.startswith(KEY)]
    steps = steps.assign(**{name: log[name].to_numpy()[records] for name in keys})
    if LISTS[0] not in log:
        return {"steps": steps}, counts
    steps, requests, refused = with_requests(steps, log.iloc[records][list(LISTS)])
    counts["steps' lists of lengths that do not go with their sums"] = refused
    return {"steps": steps, **({"requests": requests} if len(requests) else {})}, counts


def steps_of(
    log: pd.DataFrame, *, merge: bool | None = None
) -> tuple[pd.DataFrame, NDArray[np.intp], dict[str, int]]:
    """One row a step of checked records, the place of its record (n,), and how many of each kind were left out.

    Heartbeats and steps without a time are left out; of several ranks the slowest is the step's. ``merge`` says
    whether the ranks are of the same steps, where this is a part of a log.
    """
    idle = (log[_COUNTS[0]] == 0) & (log[_COUNTS[1]] == 0)
    timeless = ~idle & (log[_TIME] == 0)
    ran = ~idle & ~timeless
    rows, merged = _slowest(log if ran.all() else log[ran], merge=merge)
    counts = {
        "idle heartbeats": int(idle.sum()),
        "steps whose wall_time is 0": int(timeless.sum()),
        "records of ranks that were faster than the slowest of their step": merged,
    }
    present = [name for name in BATCH if name in rows]
    steps = rows[present].fillna(0.0).reset_index(drop=True)
    latency = (rows[_TIME] * US_PER_S).round(3).to_numpy()
    steps = steps.assign(latency_us=latency, run_id=rows["worker"].to_numpy())
    return steps, np.asarray(rows.index, dtype=np.intp), counts


def _slowest(rows: pd.DataFrame, *, merge: bool | None) -> tuple[pd.DataFrame, int]:
    """The slowest rank's record of each step, in the log's order; and how many others there were.

    A counter that one rank reports again, as after a restart, is another step.
    """
    if merge is None:
        merge = has_ranks(rows[_RANK].nunique(), all_counted=bool((rows["counter_id"] >= 0).all()))
    if not merge:
        return rows, 0
    step = ["worker", "counter_id"]
    again = rows.groupby([*step, _RANK], observed=True, sort=False).cumcount()
    by_time = rows.assign(again=again).sort_values(_TIME, ascending=False, kind="stable")
    slowest = ~by_time.duplicated([*step, "again"])
    kept = by_time[slowest].sort_index()
    return kept, len(rows) - len(kept)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def campaign_info(gpu: str, steps: int) -> dict[str, object]:
    """What ``campaign.toml`` says of a log of so many steps."""
    return {
        "title": f"Forward Pass Metrics of {steps:,} engine steps on {gpu}",
        "source": "say here where the log is from",
        "licence": "",
        "collected": datetime.date.today(),
        "kind": "measured",
        "engine": "",
        "hardware": gpu,
        "itl": "unknown",
        "notes": "latency_us is wall_time: of vLLM from schedule to output, host time and all; of SGLang the device's.",
    }
