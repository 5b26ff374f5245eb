"""Forward Pass Metrics: one record an engine step, as Dynamo, SGLang and vLLM report them.

A record has ``wall_time`` in seconds and ``scheduled_requests`` with the sums of its batch, under the names of the
columns of ``steps`` (ai-dynamo/dynamo, ``forward_pass_metrics.py``, version 1). Dynamo's trace files
(``dynamo.fpm.trace.v1``) hold it under ``fpm``; the names may also stand side by side. An idle engine's heartbeat has
no request and no time. Data-parallel ranks that step together share ``worker_id`` and ``counter_id``.
"""

import datetime
import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from calibrate.importers.forward_pass_records import (
    BATCH,
    COUNTS,
    ENDS,
    RANK,
    TIME,
    checked,
    flat,
    log_columns,
    schema_of,
)
from calibrate.importers.forward_pass_requests import LISTS, with_requests
from calibrate.importers.imported import Imported
from calibrate.records.errors import ImportFormatError
from calibrate.records.reading.content import plain_name
from calibrate.records.reading.json_lines import read_json_lines
from calibrate.records.reading.parquet import parquet_columns, read_parquet
from sim.units import US_PER_S

KEY = "key:"
"""How columns begin that are to be keys of a data set."""


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
        file for file in path.iterdir() if plain_name(file).endswith(ENDS) and file.is_file()
    )
    if not files:
        raise ImportFormatError(f"{source}: no log in it; logs end in {', '.join(ENDS)}")
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


def _read_parquet(file: Path) -> pa.Table:
    return read_parquet(file, log_columns(file, parquet_columns(file)))


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
    idle = (log[COUNTS[0]] == 0) & (log[COUNTS[1]] == 0)
    timeless = ~idle & (log[TIME] == 0)
    ran = ~idle & ~timeless
    rows, merged = _slowest(log if ran.all() else log[ran], merge=merge)
    counts = {
        "idle heartbeats": int(idle.sum()),
        "steps whose wall_time is 0": int(timeless.sum()),
        "records of ranks that were faster than the slowest of their step": merged,
    }
    present = [name for name in BATCH if name in rows]
    steps = rows[present].fillna(0.0).reset_index(drop=True)
    latency = (rows[TIME] * US_PER_S).round(3).to_numpy()
    steps = steps.assign(latency_us=latency, run_id=rows["worker"].to_numpy())
    return steps, np.asarray(rows.index, dtype=np.intp), counts


def _slowest(rows: pd.DataFrame, *, merge: bool | None) -> tuple[pd.DataFrame, int]:
    """The slowest rank's record of each step, in the log's order; and how many others there were.

    A counter that one rank reports again, as after a restart, is another step.
    """
    if merge is None:
        merge = has_ranks(rows[RANK].nunique(), all_counted=bool((rows["counter_id"] >= 0).all()))
    if not merge:
        return rows, 0
    step = ["worker", "counter_id"]
    again = rows.groupby([*step, RANK], observed=True, sort=False).cumcount()
    by_time = rows.assign(again=again).sort_values(TIME, ascending=False, kind="stable")
    slowest = ~by_time.duplicated([*step, "again"])
    kept = by_time[slowest].sort_index()
    return kept, len(rows) - len(kept)


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
