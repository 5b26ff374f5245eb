"""Logs of Forward Pass Metrics of any size, read once: what is wanted of each part is set down, sorted by step.

Ranks of a step may stand far apart, in files of their own. So records are put in buckets by worker and counter, a row
group each of the file that holds a part; a bucket of all files is then a log of its own that memory can hold. A part
that is there is not read again.
"""

import dataclasses
import datetime
import functools
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from calibrate.importers.forward_pass_metrics import KEY, has_ranks
from calibrate.importers.forward_pass_records import (
    LOG_ENDS,
    cast_column,
    checked,
    flat,
    log_columns,
    schema_of,
)
from calibrate.records.errors import ImportFormatError
from calibrate.records.files import replace_bytes
from calibrate.records.partitions import Keys, keys_of, whole
from calibrate.records.reading.json_lines import json_line_parts
from calibrate.records.reading.places import files_in, is_folder, opened_place, size_of

_OBSERVED = "observed_at_unix_ms"
_YEAR_10000_MS = 253_402_300_800_000
_PACKING = 10
"""How many times smaller a packed log is, about."""
_RECORD_BYTES = 400
_BUCKET_ROWS = 400_000
_MOST_BUCKETS = 256
_BATCH_ROWS = 1 << 17
_MS_A_DAY = 86_400_000
_SAID = b"calibrate"
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # spreads what follows one another (Fibonacci hashing)


@dataclasses.dataclass(frozen=True)
class Log:
    """One file of a log, how large it is, and the ``key=value`` folders that it lies in."""

    place: str
    bytes: int
    keys: Keys

    @property
    def records(self) -> int:
        """How many records it has, about."""
        is_packed = self.place.endswith((".gz", ".zst", ".parquet"))
        return self.bytes * (_PACKING if is_packed else 1) // _RECORD_BYTES


@dataclasses.dataclass(frozen=True)
class Stage:
    """One part of a log, set down: its rows, ranks, buckets and keys, whether all have a counter, and a ``note``."""

    file: Path
    rows: int
    ranks: tuple[int, ...]
    all_counted: bool
    buckets: tuple[int, ...]
    keys: tuple[str, ...]
    note: str


def find_logs(source: str) -> list[Log]:
    """The files of a log, or of a folder of them, here or at a URL. Raises ImportFormatError if there is none."""
    if not is_folder(source):
        return [Log(source, size_of(source), ())]
    places = files_in(source, LOG_ENDS)
    if not places:
        raise ImportFormatError(f"{source}: no log in it; logs end in {', '.join(LOG_ENDS)}")
    return [Log(place, size_of(place), keys_of(place, source)) for place in places]


def number_of_buckets(logs: Sequence[Log]) -> int:
    """So many that each holds what memory can."""
    records = sum(log.records for log in logs)
    return max(1, min(_MOST_BUCKETS, -(-records // _BUCKET_ROWS)))


def staged(logs: Sequence[Log], folder: Path, buckets: int) -> Iterator[Stage]:
    """Every part of some logs, set down in a folder, in their order; those that are there are only looked at.

    Raises UnreadableError and ImportFormatError for a log that cannot be read.
    """
    for number, log in enumerate(logs):
        done = _done(folder, number)
        if done is not None:
            yield from done
            continue
        files = []
        for part, (table, note) in enumerate(_parts(log)):
            file = folder / f"{number:05}-{part:06}.parquet"
            if not file.exists():
                replace_bytes(file, _content(table, log, buckets, note))
            files.append(file.name)
            yield _stage(file)
        replace_bytes(_marker(folder, number), json.dumps(files).encode())


def bucket_of(stages: Sequence[Stage], bucket: int) -> pd.DataFrame:
    """The records of a bucket of all parts, in the log's order."""
    tables = [
        pq.ParquetFile(stage.file).read_row_group(stage.buckets.index(bucket))
        for stage in stages
        if bucket in stage.buckets
    ]
    return _together(tables)


def records_of(stages: Sequence[Stage]) -> pd.DataFrame:
    """All records of some parts, in the log's order within a bucket."""
    return _together([pq.read_table(stage.file) for stage in stages])


def are_ranks(stages: Sequence[Stage]) -> bool:
    """Whether records of several ranks are of the same steps."""
    ranks = {rank for stage in stages for rank in stage.ranks}
    return has_ranks(len(ranks), all_counted=all(stage.all_counted for stage in stages))


def _together(tables: Sequence[pa.Table]) -> pd.DataFrame:
    if not tables:
        return pd.DataFrame()
    in_order = [table.sort_by("order") for table in tables]
    log = pa.concat_tables(in_order, promote_options="permissive")
    frame: pd.DataFrame = log.drop_columns("order").to_pandas(ignore_metadata=True)
    return frame


def _parts(log: Log) -> Iterator[tuple[pa.Table, str]]:
    if log.place.endswith(".parquet"):
        return ((table, "") for table in _parquet_parts(log.place))
    return json_line_parts(log.place, functools.partial(_schema, log.place))


def _schema(place: str, record: dict[str, Any]) -> pa.Schema:
    """The wanted fields, the time of the record among them."""
    observed = [pa.field(_OBSERVED, pa.float64())] if _OBSERVED in record else []
    return pa.schema([*schema_of(place, record), *observed])


def _parquet_parts(place: str) -> Iterator[pa.Table]:
    with opened_place(place) as content, whole(place):
        file = pq.ParquetFile(content)
        names = file.schema_arrow.names
        observed = [name for name in names if name == _OBSERVED]
        columns = [*log_columns(place, names), *observed]
        for batch in file.iter_batches(_BATCH_ROWS, columns=columns):
            yield pa.Table.from_batches([batch])


def _content(table: pa.Table, log: Log, buckets: int, note: str) -> bytes:
    """A part as it is set down: a row group a bucket, and in the footer what is said of it."""
    table = flat(table, log.place, (_OBSERVED,))
    frame = checked(table, log.place)
    keys = _keys(table, log)
    bucket = _buckets(frame, buckets)
    present = np.unique(bucket)
    said = {
        "rows": len(frame),
        "ranks": np.unique(frame["dp_rank"]).tolist(),
        "all_counted": bool((frame["counter_id"] >= 0).all()),
        "buckets": present.tolist(),
        "keys": [*keys],
        "note": f"{log.place}: {note}" if note else "",
    }
    labels = {f"{KEY}{key}": pd.Categorical(values) for key, values in keys.items()}
    rows = pa.Table.from_pandas(
        frame.assign(**labels, order=np.arange(len(frame))), preserve_index=False
    )
    schema = rows.schema.with_metadata({_SAID: json.dumps(said).encode()})
    content = io.BytesIO()
    with pq.ParquetWriter(content, schema) as writer:
        for one in present:
            writer.write_table(rows.filter(bucket == one).cast(schema))
    return content.getvalue()


def _keys(table: pa.Table, log: Log) -> dict[str, list[str]]:
    """The value of each key in every record: those of its path, and the day where records have a time."""
    keys = {key: [value] * len(table) for key, value in log.keys}
    if "date" not in keys and _OBSERVED in table.column_names:
        keys["date"] = _dates(table, log.place)
    return keys


def _buckets(frame: pd.DataFrame, buckets: int) -> NDArray[np.uint64]:
    """The bucket of every record: the same for all ranks of a step."""
    worker = pd.util.hash_array(frame["worker"].to_numpy(dtype=object))
    step = worker + frame["counter_id"].to_numpy().astype(np.uint64)
    mixed = step * _GOLDEN >> np.uint64(40)
    bucket: NDArray[np.uint64] = mixed % np.uint64(buckets)
    return bucket


def _dates(table: pa.Table, place: str) -> list[str]:
    """The day (UTC) of every record, empty where it has no time."""
    observed = pc.fill_null(cast_column(table, _OBSERVED, pa.float64(), place), -1.0).to_numpy()
    if (odd := ~(observed < _YEAR_10000_MS)).any():
        raise ImportFormatError(
            f"{place}: {_OBSERVED} must be milliseconds since 1970, before the year 10000, got "
            f"{observed[odd][0]:g}"
        )
    days = observed // _MS_A_DAY
    names = {
        day: (datetime.date(1970, 1, 1) + datetime.timedelta(int(day))).isoformat()
        if day >= 0
        else ""
        for day in np.unique(days).tolist()
    }
    return [names[day] for day in days.tolist()]


def _marker(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.json"


def _done(folder: Path, number: int) -> list[Stage] | None:
    """The parts of a log that was read to its end; None where it was not."""
    marker = _marker(folder, number)
    if not marker.exists():
        return None
    return [_stage(folder / name) for name in json.loads(marker.read_text())]


def _stage(file: Path) -> Stage:
    said = json.loads(pq.read_schema(file).metadata[_SAID])
    return Stage(
        file,
        said["rows"],
        tuple(said["ranks"]),
        said["all_counted"],
        tuple(said["buckets"]),
        tuple(said["keys"]),
        said["note"],
    )
