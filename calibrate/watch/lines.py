"""Records of a log as steps: blocks of lines as they come, with whatever is no record left out and counted."""

import collections
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.json
from numpy.typing import NDArray

from calibrate.importers.forward_pass_metrics import steps_of
from calibrate.importers.forward_pass_records import checked, flat, schema_of
from calibrate.records.errors import ImportFormatError
from calibrate.records.schema import Column
from calibrate.watch.labels import OTHERS, SERVED, Said, labels_of, of_path, times_of
from calibrate.watch.rows import Rows
from sim.architecture import Architecture
from sim.architecture_files import load_architecture
from sim.steps.batch import COUNT_COLUMNS, Floats, StepTable
from sim.steps.moments import moments_of_columns

_GARBAGE = "in lines that are no records"
_INSANE = "of more tokens or time than any step has"
_LARGEST = Column("count").largest
_LONGEST_LINE = 1 << 20
_FEW = 64
_PAIRS = "sum_prefill_qk_pairs"


class LineReader:
    """Reads the records of one log. ``number`` is how many steps it has given: their ``at`` where no time is said."""

    def __init__(
        self, path: Path | str, said: Said, left_out: "collections.Counter[str]", number: int = 0
    ) -> None:
        self.number = number
        self._path = path
        self._said = said
        self._left_out = left_out
        self._path_labels = of_path(path)
        self._schema: pa.Schema | None = None

    def of_lines(self, lines: bytes) -> Iterator[Rows]:
        """The steps of whole lines. Raises ImportFormatError where nobody says what is served."""
        if not lines or lines.isspace():
            return
        lines = self._objects(lines)
        frames = self._parsed(lines) if self._schema else []
        if not any(frame is not None for frame in frames):
            # The first lines, or those of another version of the engine
            self._schema = self._find_schema(lines) or self._schema
            frames = self._parsed(lines) if self._schema else [None] * _filled(lines)
        self._left_out[_GARBAGE] += sum(frame is None for frame in frames)
        yield from self._of_records([frame for frame in frames if frame is not None])

    def of_table(self, table: pa.Table) -> Iterator[Rows]:
        """The steps of records that are a table already. Raises ImportFormatError if one is not as it should be."""
        yield from self._of_records([checked_with_others(table, self._path)])

    def _of_records(self, frames: list[pd.DataFrame]) -> Iterator[Rows]:
        if not frames:
            return
        log = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
        steps, records, _ = steps_of(log)
        sane = _are_sane(steps)
        if not sane.all():
            self._left_out[_INSANE] += int((~sane).sum())
            steps, records = steps[sane].reset_index(drop=True), records[sane]
        if not len(steps):
            return
        others = [name for name in OTHERS if name in log]
        beside = log.iloc[records][others].reset_index(drop=True)
        steps = pd.concat([steps, beside], axis=1)
        at = times_of(steps)
        if at is None:
            at = self.number + np.arange(len(steps), dtype=np.float64)
        self.number += len(steps)
        measured = steps["latency_us"].to_numpy(dtype=np.float64)
        labels = labels_of(steps, self._path_labels, self._said)
        yield Rows(self._table(steps), measured, at, labels)

    def _table(self, steps: pd.DataFrame) -> StepTable:
        given = {**self._said.to_plain(), **self._path_labels}
        for name in ("model", "tp"):
            if name not in steps and name not in given:
                raise ImportFormatError(
                    f"{self._path}: does not say the {name}: give --{name}, or a folder called {name}=…"
                )
        own = [name for name in SERVED if name in steps]
        said = {name: given[name] for name in SERVED if name in given and name not in own}
        if "tp" in said:
            said["tp"] = float(said["tp"])
        if own:
            return StepTable.from_columns(steps.assign(**said), _loaded)
        first = StepTable.from_columns(steps.iloc[:1].assign(**said), _loaded)
        counts = [_counts(steps, name) for name in COUNT_COLUMNS]
        size = len(steps)
        return StepTable(
            first.architectures,
            np.zeros(size, dtype=np.intp),
            np.full(size, first.tp[0]),
            moments_of_columns(*counts),
        )

    def _objects(self, lines: bytes) -> bytes:
        """The lines that may be records; the parser does not live through a line ``null``."""
        begin = lines.count(b"\n{") + lines.startswith(b"{")
        if begin == lines.count(b"\n") + (not lines.endswith(b"\n")):
            return lines
        parts = [line for line in lines.splitlines(keepends=True) if not line.isspace()]
        objects = [line for line in parts if line.lstrip().startswith(b"{")]
        self._left_out[_GARBAGE] += len(parts) - len(objects)
        return b"".join(objects)

    def _parsed(self, lines: bytes) -> list[pd.DataFrame | None]:
        """The records of some lines, in order, None for a line that is none: halved and halved again to find those."""
        try:
            return [checked_with_others(self._arrow(lines), self._path)]
        except (pa.ArrowException, ImportFormatError):
            parts = lines.splitlines(keepends=True)
        if len(parts) <= 1:
            return [None] * len(parts)
        half = len(parts) // 2
        return [
            frame for some in (parts[:half], parts[half:]) for frame in self._parsed(b"".join(some))
        ]

    def _arrow(self, lines: bytes) -> pa.Table:
        if not lines:
            raise ImportFormatError(f"{self._path}: no record")
        how = pa.json.ParseOptions(explicit_schema=self._schema, unexpected_field_behavior="ignore")
        reading = pa.json.ReadOptions(use_threads=False, block_size=max(len(lines), 1 << 16))
        return pa.json.read_json(pa.BufferReader(lines), reading, how)

    def _find_schema(self, lines: bytes) -> pa.Schema | None:
        """The fields of the first record among the lines; None where there is none."""
        for line in lines.splitlines():
            record = _record(line)
            if record is None:
                continue
            try:
                schema = schema_of(self._path, record)
            except ImportFormatError:
                continue
            beside = [_field(name, record[name]) for name in OTHERS if name in record]
            return pa.schema([*_without_lists(schema), *beside])
        return None


def checked_with_others(table: pa.Table, path: Path | str) -> pd.DataFrame:
    """Checked records with the labels and times beside them."""
    records = flat(table, path, OTHERS)
    frame = checked(records, path)
    others = [name for name in OTHERS if name in records.column_names]
    return frame.assign(**{name: records[name].to_pandas().to_numpy() for name in others})


def _are_sane(steps: pd.DataFrame) -> NDArray[np.bool_]:
    """Which steps have no number that a table of steps would refuse, shape (n,)."""
    names = [name for name in (*COUNT_COLUMNS, "latency_us") if name in steps]
    largest = steps[names].to_numpy(dtype=np.float64).max(axis=1)
    return np.asarray(largest <= _LARGEST, dtype=np.bool_)


def _filled(lines: bytes) -> int:
    """How many lines there are that are not empty."""
    return sum(1 for line in lines.splitlines() if line.strip())


def _counts(steps: pd.DataFrame, name: str) -> Floats:
    """A column of counts; what a log does not say is none, and its pairs are those of equal requests."""
    if name in steps:
        return steps[name].to_numpy(dtype=np.float64)
    return np.full(len(steps), np.nan if name == _PAIRS else 0.0)


def _without_lists(schema: pa.Schema) -> pa.Schema:
    """The same fields but for lengths of single requests and their spreads, which take longest to parse."""
    return pa.schema([_lean(field) for field in schema if not _is_left(field)])


def _lean(field: pa.Field) -> pa.Field:
    if not pa.types.is_struct(field.type):
        return field
    inner = [field.type.field(place) for place in range(field.type.num_fields)]
    return pa.field(field.name, pa.struct([_lean(one) for one in inner if not _is_left(one)]))


def _is_left(field: pa.Field) -> bool:
    return bool(pa.types.is_list(field.type)) or field.name.startswith("var_")


def _field(name: str, value: object) -> pa.Field:
    """The kind of a label by the first record's value."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return pa.field(name, pa.float64() if is_number else pa.string())


def _record(line: bytes) -> dict[str, Any] | None:
    if len(line) > _LONGEST_LINE:
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


@functools.lru_cache(_FEW)
def _loaded(name: str, dtype: str | None) -> Architecture:
    return load_architecture(name, dtype)
