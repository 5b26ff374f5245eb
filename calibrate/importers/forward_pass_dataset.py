"""Logs of Forward Pass Metrics of any size become a data set; what was killed goes on where it was.

All is made in a hidden folder beside the campaign's, under the name of what is read: parts set down, then partitions.
"""

import dataclasses
import functools
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from calibrate.importers.forward_pass_metrics import (
    KEY,
    campaign_info,
    left_out_of,
    tables_of,
)
from calibrate.importers.forward_pass_records import BATCH
from calibrate.importers.forward_pass_stages import (
    Log,
    Stage,
    are_ranks,
    bucket_of,
    find_logs,
    number_of_buckets,
    records_of,
    staged,
)
from calibrate.importers.imported import Imported
from calibrate.records.errors import CalibrateError, ImportFormatError
from calibrate.records.files import remove, replace_bytes
from calibrate.records.folders import replaced_folder
from calibrate.records.partitions import NO_VALUE, find_parts
from calibrate.records.reading.places import beside, is_url, write_place
from calibrate.records.tables import compact
from calibrate.records.toml_text import toml_text

_GROUP_ROWS = 400_000
_ROW_GROUP = 1 << 17
LARGE_RECORDS = 2_000_000
"""Records from which a log becomes a data set unasked: a gigabyte of them in memory."""

Complete = Callable[[Imported], Imported]
"""Fills in what a log does not say of its steps, such as the model."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What to import: a log's ``source`` for a ``gpu``, into a campaign's ``folder``, its files there or at ``place``.

    ``keys`` are those of every partition that its path does not say; ``said`` names what ``complete`` fills in.
    """

    source: str
    gpu: str
    folder: Path
    place: str
    keys: Mapping[str, str]
    said: str
    complete: Complete


@dataclasses.dataclass(frozen=True)
class Written:
    """What was imported: ``rows`` of steps in so many ``files``, and in words what was left out."""

    rows: int
    files: int
    left_out: tuple[str, ...]


def is_large(source: str) -> bool:
    """Whether a log is better a data set: large, at a URL, or in folders of keys. Raises as :func:`find_logs`."""
    logs = find_logs(source)
    has_keys = any(log.keys for log in logs)
    return is_url(source) or has_keys or sum(log.records for log in logs) > LARGE_RECORDS


def import_dataset(request: Request, progress: Callable[[str], None] = lambda _: None) -> Written:
    """Read a log into a data set, and write its campaign.

    Raises ImportFormatError and UnreadableError for what cannot be read, CalibrateError for what cannot be written.
    """
    logs = find_logs(request.source)
    shop = _shop(request, logs)
    stages = []
    for stage in staged(logs, shop / "stages", number_of_buckets(logs)):
        stages.append(stage)
        progress(f"{sum(one.rows for one in stages):,} records read")
    target = request.place or str(shop / "steps")
    groups = []
    made = _Made(request, shop, target, _key_names(request, stages), are_ranks(stages))
    for number, read in enumerate(_groups(stages, number_of_buckets(logs))):
        groups.append(_group(made, number, read))
        progress(f"{sum(one.rows for one in groups):,} steps written")
    counts = _added([one.counts for one in groups])
    rows, files = sum(one.rows for one in groups), sum(len(one.files) for one in groups)
    if not rows:
        shutil.rmtree(shop)
        raise ImportFormatError(f"{request.source}: no record of it is an engine step with a time")
    _check(target, rows)
    _place(request, shop, rows)
    notes = [stage.note for stage in stages if stage.note]
    return Written(rows, files, (*notes, *left_out_of(counts)))


@dataclasses.dataclass(frozen=True)
class _Group:
    """Some steps as they were written: rows, files, and what was left out."""

    rows: int
    files: list[str]
    counts: dict[str, int]


def _shop(request: Request, logs: Sequence[Log]) -> Path:
    """The folder of the work: as it was left if the same is asked again, else empty."""
    asked = [request.place, request.said, sorted(request.keys.items())]
    key = hashlib.sha256(repr([logs, asked]).encode()).hexdigest()
    shop = request.folder.with_name(f".{request.folder.name}.import")
    note = shop / "key"
    if not (note.exists() and note.read_text() == key):
        shutil.rmtree(shop, ignore_errors=True)
        (shop / "stages").mkdir(parents=True)
        replace_bytes(note, key.encode())
    return shop


@dataclasses.dataclass(frozen=True)
class _Made:
    """What is being made: at which ``target``, with which ``keys``; ``merge`` says whether ranks share steps."""

    request: Request
    shop: Path
    target: str
    keys: tuple[str, ...]
    merge: bool


def _key_names(request: Request, stages: Sequence[Stage]) -> tuple[str, ...]:
    """The keys of all partitions: those that any part of the log has, and those that were said."""
    names = dict.fromkeys(key for stage in stages for key in stage.keys)
    return tuple(sorted({**names, **request.keys}, key=lambda name: (name != "date", name)))


def _groups(stages: Sequence[Stage], buckets: int) -> Iterator[Callable[[], pd.DataFrame]]:
    """The log in parts that memory holds: by bucket where ranks share steps, else as it was written."""
    if are_ranks(stages):
        yield from (functools.partial(bucket_of, stages, bucket) for bucket in range(buckets))
        return
    several: list[Stage] = []
    for stage in stages:
        if several and sum(one.rows for one in several) + stage.rows > _GROUP_ROWS:
            yield functools.partial(records_of, several)
            several = []
        several.append(stage)
    yield functools.partial(records_of, several)


def _group(made: _Made, number: int, read: Callable[[], pd.DataFrame]) -> _Group:
    """A part of the log as partitions; one that is there already is left as it is."""
    marker = made.shop / f"group-{number:05}.json"
    if marker.exists():
        done = _Group(**json.loads(marker.read_text()))
        if is_url(made.target) or all(Path(file).exists() for file in done.files):
            return done
    log = read()
    group = _Group(0, [], {})
    if len(log):
        tables, counts = tables_of(log, merge=made.merge)
        steps = _with_pairs(tables)
        files = _write(made, number, steps) if len(steps) else []
        group = _Group(len(steps), files, counts)
    replace_bytes(marker, json.dumps(dataclasses.asdict(group)).encode())
    return group


def _with_pairs(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The steps, the lengths of their requests summed up as latency models read them."""
    steps = tables["steps"].drop(columns="step_id", errors="ignore")
    pairs = np.full(len(steps), np.nan)
    if "requests" in tables:
        requests = tables["requests"]
        prompts = requests[requests["phase"] == "prefill"]
        new, past = prompts["new_tokens"], prompts["context_tokens"]
        each = prompts["count"] * new * (past + (new - 1.0) / 2.0)
        of_step = each.groupby(prompts["step_id"]).sum()
        pairs = tables["steps"]["step_id"].map(of_step).to_numpy(dtype=np.float64)
    return steps.assign(sum_prefill_qk_pairs=pairs)


def _write(made: _Made, number: int, steps: pd.DataFrame) -> list[str]:
    """Write some steps into the partitions of their keys, one file each; return the files."""
    complete = made.request.complete(Imported({"steps": steps}, {})).tables["steps"]
    labels = {name: _labels(complete, name, made.request.keys) for name in made.keys}
    own = complete.drop(columns=[name for name in complete if str(name).startswith(KEY)])
    own = compact(_all_columns(own))
    files = []
    for values, rows in _partitions(labels, len(own)):
        folders = [f"{name}={_quoted(value)}" for name, value in zip(labels, values, strict=True)]
        file = beside(made.target, "/".join([*folders, f"part-{number:05}.parquet"]))
        write_place(file, _parquet(own.iloc[rows]))
        files.append(file)
    return files


def _partitions(
    labels: Mapping[str, pd.Series], rows: int
) -> Iterator[tuple[tuple[str, ...], NDArray[np.intp]]]:
    """The rows of every partition, with the values of its keys."""
    if not labels:
        yield (), np.arange(rows)
        return
    groups: Iterable[tuple[Any, pd.DataFrame]] = pd.DataFrame(labels).groupby([*labels], sort=False)
    for values, part in groups:
        yield tuple(map(str, values)), np.asarray(part.index, dtype=np.intp)


def _labels(steps: pd.DataFrame, name: str, said: Mapping[str, str]) -> pd.Series:
    given = steps.get(f"{KEY}{name}", pd.Series("", index=steps.index))
    return given.astype(object).fillna("").replace("", said.get(name, ""))


def _all_columns(steps: pd.DataFrame) -> pd.DataFrame:
    """The steps with every column that a log may have, so that partitions are alike."""
    absent = [name for name in BATCH if name not in steps]
    return steps.assign(**dict.fromkeys(absent, np.nan))[sorted({*steps, *absent})]


def _quoted(value: str) -> str:
    return quote(value, safe="") if value else NO_VALUE


def _parquet(steps: pd.DataFrame) -> bytes:
    content = io.BytesIO()
    table = pa.Table.from_pandas(steps, preserve_index=False)
    pq.write_table(table, content, compression="zstd", row_group_size=_ROW_GROUP)
    return content.getvalue()


def _added(several: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for counts in several:
        for what, count in counts.items():
            total[what] = total.get(what, 0) + count
    return total


def _check(target: str, rows: int) -> None:
    """Raise CalibrateError unless as many rows can be read as were written."""
    parts, problems = find_parts(target)
    found = sum(sum(part.groups) for part in parts)
    if problems or found != rows:
        said = (
            f"{problems[0]}" if problems else f"{rows:,} rows were written and {found:,} are there"
        )
        raise CalibrateError(f"{target}: {said}. Remove the folder of the import, and import again")


def _place(request: Request, shop: Path, rows: int) -> None:
    """Put the data set and ``campaign.toml`` into the campaign's folder, in place of its steps."""
    info = {**campaign_info(request.gpu, rows), "engine": request.keys.get("engine", "")}
    if request.place:
        info["dataset"] = request.place
    with replaced_folder(request.folder) as new:
        for old in [*new.glob("steps*"), *new.glob("requests*")]:
            remove(old)
        if not request.place:
            shutil.move(shop / "steps", new / "steps")
        replace_bytes(new / "campaign.toml", toml_text(info).encode("utf-8"))
    shutil.rmtree(shop)
