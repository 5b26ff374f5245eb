"""The steps of logs and Parquet tables at a URL, or of a data set there, each file once."""

import collections
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from calibrate.records.errors import CalibrateError, ImportFormatError
from calibrate.records.partitions import Part, blocks_of, find_parts, pieces_of, whole
from calibrate.records.reading.content import unpacked
from calibrate.records.reading.places import files_in, opened_place, size_of
from calibrate.records.schema import TABLES, Column
from calibrate.records.tables import check_rows, without_categories
from calibrate.watch.labels import Said
from calibrate.watch.lines import LineReader
from calibrate.watch.rows import Rows
from calibrate.watch.tables import is_log_table, of_checked, of_lines

_LOG_ENDS = (".jsonl", ".ndjson")
_ENDS = tuple(log + packed for log in _LOG_ENDS for packed in ("", ".gz", ".zst"))


class RemoteStream:
    """Reads a URL as :class:`~calibrate.watch.stream.Stream` reads a folder of this machine, but for logs that grow.

    Raises CalibrateError for ``follow``: a store has no end of a file to wait at.
    """

    def __init__(self, source: str, said: Said, *, follow: bool = False) -> None:
        if follow:
            raise CalibrateError(
                f"--follow {source}: a file at a URL does not grow, it is written anew: watch the log where the "
                "engine writes it, or leave --follow out and run the command again with --state"
            )
        self.source = source
        self.left_out: collections.Counter[str] = collections.Counter()
        self._said = said
        self._done: set[str] = set()

    def poll(self) -> Iterator[Rows]:
        """The steps of every file that was not read yet, in blocks."""
        logs, tables = files_in(self.source, _ENDS), files_in(self.source, (".parquet",))
        if not logs and not tables:
            raise ImportFormatError(
                f"{self.source}: no log or table of steps in it; at a URL logs end in {', '.join(_LOG_ENDS)} (also "
                "with .gz, .zst), and tables are Parquet"
            )
        for place in logs:
            if self._is_new(f"{place}|{size_of(place)}"):
                yield from self._log(place)
        parts, problems = find_parts(self.source) if tables else ([], [])
        for problem in problems:
            self.left_out[f"in files that do not fit: {problem}"] += 1
        for part in parts:
            if self._is_new(f"{part.place}|{sum(part.groups)}"):
                yield from self._table(part)

    def notes(self) -> list[str]:
        """Nothing happens to files that are read once."""
        return []

    def to_plain(self) -> dict[str, Any]:
        """What is read, as JSON has it."""
        return {"positions": {}, "done": sorted(self._done), "left_out": dict(self.left_out)}

    def resume(self, plain: dict[str, Any]) -> None:
        """Go on from where :meth:`to_plain` was asked."""
        self._done = set(plain["done"])
        self.left_out = collections.Counter(plain["left_out"])

    def close(self) -> None:
        """No file is open between readings."""

    def _is_new(self, mark: str) -> bool:
        is_new = mark not in self._done
        self._done.add(mark)
        return is_new

    def _log(self, place: str) -> Iterator[Rows]:
        reader = LineReader(place, self._said, self.left_out)
        with opened_place(place) as file:
            start = file.read(4)
            file.seek(0)
            with unpacked(file, start) as content:
                yield from of_lines(content, reader)

    def _table(self, part: Part) -> Iterator[Rows]:
        if is_log_table(part.columns):
            with opened_place(part.place) as content, whole(part.place):
                records = pq.read_table(content)
            yield from LineReader(part.place, self._said, self.left_out).of_table(records)
            return
        columns = [*TABLES["steps"], *(Column(key, "text") for key, _ in part.keys)]
        known = {column.name: column for column in reversed(columns)}
        for block in blocks_of([part]):
            for frame, first in pieces_of(block):
                lines = np.arange(first + 2, first + 2 + len(frame))
                texts = without_categories(frame)
                table = check_rows(part.place, texts, lines, [*known.values()])
                yield from of_checked(table, part.place, self._said, self.left_out)
