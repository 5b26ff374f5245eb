"""Steps of whole files: tables in CSV or Parquet, campaigns, and logs that are compressed or in Parquet."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import IO, Any

import numpy as np
import pandas as pd

from calibrate.campaign.campaign import TABLE_ENDS
from calibrate.campaign.step_rows import read_steps
from calibrate.records.errors import ImportFormatError, UnreadableError
from calibrate.records.reading.content import named, opened
from calibrate.records.reading.parquet import parquet_columns, read_parquet
from calibrate.records.schema import TABLES
from calibrate.records.tables import Table, read_table
from calibrate.watch.labels import Said, labels_of, of_path, times_of
from calibrate.watch.lines import LineReader
from calibrate.watch.rows import Rows
from sim.steps.batch import StepTable

LeftOut = collections.Counter[str]
"""How many steps, or lines, were left out, by why."""

_BLOCK_BYTES = 1 << 23
_LOGGED = ("wall_time", "fpm", "scheduled_requests")


def is_table(path: Path) -> bool:
    """Whether a file is a table of steps, by its name."""
    return path.name.endswith(TABLE_ENDS)


def read_whole(path: Path, said: Said, left_out: LeftOut) -> Iterator[Rows]:
    """The steps of a file that no longer grows, in blocks. Raises UnreadableError, or ImportFormatError."""
    if path.suffix == ".parquet" and is_log_table(parquet_columns(path)):
        reader = LineReader(path, said, left_out)
        yield from reader.of_table(read_parquet(path))
    elif is_table(path):
        yield from _of_table(path, said, left_out)
    else:
        yield from _of_log(path, said, left_out)


def _of_log(path: Path, said: Said, left_out: LeftOut) -> Iterator[Rows]:
    with named(path), opened(path) as content:
        yield from of_lines(content, LineReader(path, said, left_out))


def of_lines(content: IO[bytes], reader: LineReader) -> Iterator[Rows]:
    """The steps of an open log, in blocks."""
    rest = b""
    while part := content.read(_BLOCK_BYTES):
        lines, mark, rest = (rest + part).rpartition(b"\n")
        yield from reader.of_lines(lines + mark)
    yield from reader.of_lines(rest)


def is_log_table(columns: Iterable[str]) -> bool:
    """Whether a Parquet file of such columns holds an engine's records, and no table of steps."""
    return not set(_LOGGED).isdisjoint(columns)


def _of_table(path: Path, said: Said, left_out: LeftOut) -> Iterator[Rows]:
    yield from of_checked(read_table(path, TABLES["steps"]), path, said, left_out)


def of_checked(table: Table, path: Path | str, said: Said, left_out: LeftOut) -> Iterator[Rows]:
    """The steps of a table, or a part of one; its bad rows are counted."""
    table = _completed(table, path, said)
    if not len(table.frame):
        errors = [problem for problem in table.problems if problem.severity == "error"]
        if errors:
            raise UnreadableError(errors[0])
        return
    steps, step_table, problems = read_steps(table)
    errors = [one for one in (*table.problems, *problems) if one.severity == "error"]
    if not len(steps):
        raise UnreadableError(errors[0]) if errors else ImportFormatError(f"{path}: has no step")
    bad = table.rows_in_file - len(steps)
    if bad:
        left_out[
            f"in bad rows of {PurePath(path).name}, first: {errors[0]}" if errors else "in bad rows"
        ] += bad
    yield rows_of(steps, step_table, path, said)


def _completed(table: Table, path: Path | str, said: Said) -> Table:
    """The table with model, degree and type where its path or the user says them and no column does."""
    given: dict[str, Any] = {**said.to_plain(), **of_path(path)}
    added = {
        name: float(given[name]) if name == "tp" else given[name]
        for name in ("model", "tp", "dtype")
        if name in given and name not in table.frame
    }
    if not added or "latency_us" not in table.frame:
        return table
    problems = tuple(one for one in table.problems if one.column not in added)
    return dataclasses.replace(table, frame=table.frame.assign(**added), problems=problems)


def rows_of(steps: pd.DataFrame, table: StepTable, path: Path | str, said: Said) -> Rows:
    """Good rows of a steps table as the watch takes them."""
    at = times_of(steps)
    return Rows(
        table,
        steps["latency_us"].to_numpy(dtype=np.float64),
        np.arange(len(steps), dtype=np.float64) if at is None else at,
        labels_of(steps.drop(columns="line", errors="ignore"), of_path(path), said),
    )
