"""CSV as people and programs write it: commas, semicolons or tabs, with comments, with columns that have no name."""

import contextlib
import csv
import dataclasses
import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from calibrate.records.errors import Problem, UnreadableError
from calibrate.records.reading.content import read_parts
from calibrate.records.reading.plain_csv import plain_columns

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
"""What may stand between cells; the first of those that part a header into the most cells."""
_COMMENT = "#"
_TOO_FEW = "Complete the row (was the file cut off?) or remove it"
_TOO_MANY = "Quote cells that hold a comma, and write decimal points, not commas; or remove the row"
_UNNAMED = "Unnamed: "  # what pandas calls a column without a name
_BLOCK_RECORDS = 16_384


@dataclasses.dataclass(frozen=True)
class CsvBlock:
    """Complete rows one after another: the cells (n) of each column of the header, and their ``lines`` in the file."""

    columns: list[pa.Array]
    lines: NDArray[np.int64]


class CsvRows:
    """A file's table: its ``header``, what is its ``separator``, then its rows, a block at a time.

    ``problems`` are the rows that are not complete, and warnings of what was assumed or passed over; known once
    every block has been read. Raises UnreadableError if the file cannot be read, is not CSV, or has no complete row.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with _records(path) as records:
            first = next(records.read(), None)
            self.separator = records.separator
        if first is None:
            raise _unreadable(path, "is empty", "Add a header and rows, or remove the file")
        names = [name.strip() for name in first[1]]
        self._width = len(names)
        self._places = [at for at, name in enumerate(names) if _has_name(name)]
        if not self._places:
            raise _unreadable(path, "names no column", "Add a header, or remove the file", (1,))
        self.header = [names[at] for at in self._places]
        self.problems: list[Problem] = []

    def blocks(self) -> Iterator[CsvBlock]:
        """The complete rows; columns without a name are left out.

        As long as every line is a row they are read so; from the first part of the file on where one may be none,
        record by record.
        """
        ragged: list[tuple[int, int]] = []
        found = 0
        with _records(self._path) as records:
            next(records.read())
            for block in itertools.chain(self._plain(records), self._careful(records, ragged)):
                found += len(block.lines)
                yield block
            self._conclude(found, ragged, records.assumptions())

    def rows(self) -> list[tuple[str, ...]]:
        """All complete rows at once, cells as text, for files that are small."""
        columns = ([cells.to_pylist() for cells in block.columns] for block in self.blocks())
        return [row for block in columns for row in zip(*block, strict=True)]

    def _plain(self, records: "_Records") -> Iterator[CsvBlock]:
        while text := records.unread():
            columns = plain_columns(text, self.separator, self._width)
            if columns is None:
                return
            lines = records.line + np.arange(1, len(columns[0]) + 1)
            yield CsvBlock([columns[at] for at in self._places], lines)
            records.pass_over(len(lines))

    def _careful(self, records: "_Records", ragged: list[tuple[int, int]]) -> Iterator[CsvBlock]:
        """What is left; line and number of cells of rows that are not complete join ``ragged``."""
        complete = self._complete(records, ragged)
        while part := [*itertools.islice(complete, _BLOCK_RECORDS)]:
            lines, rows = zip(*part, strict=True)
            columns = list(zip(*rows, strict=True))
            cells = [pa.array(columns[at], pa.string()) for at in self._places]
            yield CsvBlock(cells, np.array(lines, dtype=np.int64))

    def _complete(
        self, records: "_Records", ragged: list[tuple[int, int]]
    ) -> Iterator[tuple[int, list[str]]]:
        for line, cells in records.read():
            if len(cells) == self._width:
                yield line, cells
            else:
                ragged.append((line, len(cells)))

    def _conclude(self, rows: int, ragged: list[tuple[int, int]], assumed: list[Problem]) -> None:
        """Say what was found in the whole file."""
        problems = _ragged(self._path, ragged, self._width)
        if not rows and not problems:
            what = "has no complete row below its header"
            raise _unreadable(self._path, what, "Add rows or remove the file")
        if not rows:
            raise UnreadableError(problems[0])
        self.problems = [*problems, *assumed, *self._unnamed()]

    def _unnamed(self) -> list[Problem]:
        """A warning of a column that has no name, such as the index that pandas writes."""
        unnamed = next((at for at in range(self._width) if at not in self._places), None)
        if unnamed is None:
            return []
        what = f"column {unnamed + 1} has no name, as an index has none: passed over"
        return [_warning(self._path, what, "Name it if it is needed", (1,))]


def csv_header(path: Path) -> list[str]:
    """The names in a file's header; none in an empty file. Raises UnreadableError if it is not CSV."""
    with _records(path) as records:
        _, cells = next(records.read(), (0, []))
    return [name.strip() for name in cells]


@contextlib.contextmanager
def _records(path: Path) -> Iterator["_Records"]:
    with contextlib.closing(read_parts(path)) as parts:
        yield _Records(path, parts)


class _Records:
    """The records of a file's parts; ``separator`` is what parts the first one into the most cells.

    ``line`` is the last line that was read.
    """

    def __init__(self, path: Path, parts: Iterator[str]) -> None:
        self.line = 0
        self._path = path
        self._parts = parts
        self._part = io.StringIO(newline="")
        self._begins: int | None = None
        self._comments: list[int] = []
        lines = self._lines()
        first = next(lines, "")
        self.separator = max(_SEPARATORS, key=lambda mark: _num_cells(first, mark))
        again = itertools.chain([first] if first else [], lines)
        self._reader = csv.reader(again, delimiter=self.separator, strict=True)

    def read(self) -> Iterator[tuple[int, list[str]]]:
        """The records not yet read, each with the line on which it begins."""
        while True:
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                what, fix = f"is not CSV: {error}", "Check for a cut-off quote"
                raise _unreadable(self._path, what, fix, (self._begins or 1,)) from error
            begins, self._begins = self._begins or 1, None
            yield begins, cells

    def unread(self) -> str:
        """The lines of a part that are not yet read; empty at the end of the file."""
        at = self._part.tell()
        text = self._part.read()
        if text:
            self._part.seek(at)
            return text
        text = next(self._parts, "")
        self._part = io.StringIO(text, newline="")
        return text

    def pass_over(self, lines: int) -> None:
        """Take what :meth:`unread` gave, so many lines, as read."""
        self._part.seek(0, io.SEEK_END)
        self.line += lines

    def assumptions(self) -> list[Problem]:
        """Warnings of what was taken for a separator other than the comma, and for comments."""
        found = []
        if self.separator != ",":
            what = f"cells are parted by {_SEPARATORS[self.separator]}: read so"
            found.append(_warning(self._path, what, "Nothing, if that is so", (1,)))
        if self._comments:
            what = "lines that begin with # are comments: passed over"
            found.append(_warning(self._path, what, "Nothing, if they are", tuple(self._comments)))
        return found

    def _lines(self) -> Iterator[str]:
        """The lines of the file; between records those that are blank or a comment are passed over."""
        for line in itertools.chain.from_iterable(self._unread_parts()):
            self.line += 1
            if self._begins is None:
                start = line.lstrip()
                if not start:
                    continue
                if start.startswith(_COMMENT):
                    self._comments.append(self.line)
                    continue
                self._begins = self.line
            yield line

    def _unread_parts(self) -> Iterator[io.StringIO]:
        while self.unread():
            yield self._part


def _num_cells(line: str, separator: str) -> int:
    """How many cells a line has; 0 where it cannot be parted so."""
    try:
        return len(next(csv.reader([line], delimiter=separator), []))
    except csv.Error:
        return 0


def _ragged(path: Path, ragged: list[tuple[int, int]], expected: int) -> list[Problem]:
    """One problem for all rows that have other than the header's number of cells."""
    if not ragged:
        return []
    found = ragged[0][1]
    what = f"has {found} fields, the header {expected}"
    fix = _TOO_MANY if found > expected else _TOO_FEW
    return [Problem("error", str(path), what, fix, tuple(line for line, _ in ragged))]


def _has_name(name: str) -> bool:
    return bool(name) and not name.startswith(_UNNAMED)


def _warning(path: Path, what: str, fix: str, lines: tuple[int, ...]) -> Problem:
    return Problem("warning", str(path), what, fix, lines)


def _unreadable(path: Path, what: str, fix: str, lines: tuple[int, ...] = ()) -> UnreadableError:
    return UnreadableError(Problem("error", str(path), what, fix, lines))
