"""CSV as people and programs write it: commas, semicolons or tabs, with comments, with columns that have no name."""

import csv
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path

from calibrate.records.errors import Problem, UnreadableError
from calibrate.records.reading.content import read_text

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
"""What may stand between cells; the first of those that part a header into the most cells."""
_COMMENT = "#"
_TOO_FEW = "Complete the row (was the file cut off?) or remove it"
_TOO_MANY = "Quote cells that hold a comma, and write decimal points, not commas; or remove the row"
_UNNAMED = "Unnamed: "  # what pandas calls a column without a name


@dataclasses.dataclass(frozen=True)
class CsvRows:
    """The complete rows below a header: ``rows`` and their ``lines`` in the file (n each), cells as text.

    ``problems`` are the rows that are not complete, and warnings of what was assumed or passed over.
    """

    header: list[str]
    rows: list[list[str]]
    lines: list[int]
    separator: str
    problems: list[Problem]


def read_csv_rows(path: Path) -> CsvRows:
    """A file's table. Raises UnreadableError if it cannot be read, is not CSV, or has no complete row."""
    records = _Records(path, read_text(path))
    first = next(records.read(), None)
    if first is None:
        raise _unreadable(path, "is empty", "Add a header and rows, or remove the file")
    header = [name.strip() for name in first[1]]
    rows, lines, ragged = [], [], []
    for line, cells in records.read():
        if len(cells) == len(header):
            rows.append(cells)
            lines.append(line)
        else:
            ragged.append((line, len(cells)))
    problems = _ragged(path, ragged, len(header))
    if not rows and not problems:
        what = "has no complete row below its header"
        raise _unreadable(path, what, "Add rows or remove the file")
    if not rows:
        raise UnreadableError(problems[0])
    problems += records.assumptions()
    return _named_only(path, CsvRows(header, rows, lines, records.separator, problems))


def csv_header(path: Path) -> list[str]:
    """The names in a file's header; none in an empty file. Raises UnreadableError if it is not CSV."""
    _, cells = next(_Records(path, read_text(path)).read(), (0, []))
    return [name.strip() for name in cells]


class _Records:
    """The records of a text; ``separator`` is what parts its first one into the most cells."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text
        self._begins: int | None = None
        self._comments: list[int] = []
        first = next(self._lines(), "")
        self.separator = max(_SEPARATORS, key=lambda mark: _num_cells(first, mark))
        self._comments = []
        self._begins = None
        self._reader = csv.reader(self._lines(), delimiter=self.separator, strict=True)

    def read(self) -> Iterator[tuple[int, list[str]]]:
        """The records not yet read, each with the line on which it begins."""
        while True:
            self._begins = None
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                what, fix = f"is not CSV: {error}", "Check for a cut-off quote"
                raise _unreadable(self._path, what, fix, (self._begins or 1,)) from error
            yield self._begins or 1, cells

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
        """The lines of the text; between records those that are blank or a comment are passed over."""
        for number, line in enumerate(io.StringIO(self._text, newline=""), start=1):
            if self._begins is None:
                if not line.strip():
                    continue
                if line.lstrip().startswith(_COMMENT):
                    self._comments.append(number)
                    continue
                self._begins = number
            yield line


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


def _named_only(path: Path, table: CsvRows) -> CsvRows:
    """The table without columns that have no name, such as the index that pandas writes."""
    places = [at for at, name in enumerate(table.header) if _has_name(name)]
    if len(places) == len(table.header):
        return table
    unnamed = next(at for at, name in enumerate(table.header) if not _has_name(name))
    what = f"column {unnamed + 1} has no name, as an index has none: passed over"
    problem = _warning(path, what, "Name it if it is needed", (1,))
    return dataclasses.replace(
        table,
        header=[table.header[at] for at in places],
        rows=[[cells[at] for at in places] for cells in table.rows],
        problems=[*table.problems, problem],
    )


def _has_name(name: str) -> bool:
    return bool(name) and not name.startswith(_UNNAMED)


def _warning(path: Path, what: str, fix: str, lines: tuple[int, ...]) -> Problem:
    return Problem("warning", str(path), what, fix, lines)


def _unreadable(path: Path, what: str, fix: str, lines: tuple[int, ...] = ()) -> UnreadableError:
    return UnreadableError(Problem("error", str(path), what, fix, lines))
