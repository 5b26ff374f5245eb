"""Reads one table (CSV or Parquet) and checks every cell against its schema, gathering all that is wrong."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.records.cells import BadCells, check_cells
from calibrate.records.errors import Problem, UnreadableError
from calibrate.records.reading.as_written import other_units, with_decimal_points
from calibrate.records.reading.content import most_lines, named
from calibrate.records.reading.csv_rows import CsvBlock, CsvRows
from calibrate.records.reading.parquet import read_parquet_frame
from calibrate.records.schema import Column
from sim.errors import nearest

_Lines = NDArray[np.int64]
_Block = tuple[pd.DataFrame, _Lines]
"""Rows as they stand in a file, and their lines."""
_BadRows = tuple[BadCells, _Lines]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table's good rows. ``frame`` has the file's columns, numbers as float64; ``lines`` (n,) are its lines there."""

    file: Path | str
    frame: pd.DataFrame
    lines: NDArray[np.int64]
    rows_in_file: int
    sha256: str
    problems: tuple[Problem, ...]


def read_table(file: Path, columns: Sequence[Column]) -> Table:
    """Read a CSV or ``.parquet`` file; rows with an error are left out and reported in ``problems``."""
    digest = ""
    try:
        with named(file), file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        is_parquet = file.suffix == ".parquet"
        read = _read_parquet if is_parquet else _read_csv
        return read(file, columns, digest)
    except UnreadableError as error:
        nothing = np.empty(0, np.int64)
        return Table(file, pd.DataFrame(), nothing, 0, digest, (error.problem,))


def read_whole_table(file: Path, columns: Sequence[Column]) -> Table:
    """The same where every row must be good. Raises UnreadableError with the first thing that is wrong."""
    table = read_table(file, columns)
    for problem in table.problems:
        if problem.severity == "error":
            raise UnreadableError(problem)
    return table


def check_table(file: Path, frame: pd.DataFrame, columns: Sequence[Column]) -> Table:
    """A table that is in memory, checked as one from a file; ``file`` names it in problems, rows count from line 2."""
    raw = frame.reset_index(drop=True)
    digest = hashlib.sha256(raw.to_csv(index=False).encode()).hexdigest()
    return _in_memory(file, raw, columns, digest)


def check_rows(
    file: str, frame: pd.DataFrame, lines: NDArray[np.int64], columns: Sequence[Column]
) -> Table:
    """Some rows of a larger table, on ``lines`` (n,) of the file of that name, checked as all of one.

    Columns of categories stay such.
    """
    return _checked(file, frame.columns, [(frame, lines)], columns, "", next)


def without_categories(frame: pd.DataFrame) -> pd.DataFrame:
    """The same table with texts where it has categories."""
    texts = {
        str(name): pd.Series(np.asarray(cells, dtype=object), cells.index, dtype=object)
        for name, cells in frame.items()
        if isinstance(cells.dtype, pd.CategoricalDtype)
    }
    return frame.assign(**texts)


def compact(frame: pd.DataFrame) -> pd.DataFrame:
    """The same table with whole-number columns as integers, as people write them."""
    whole = [
        name
        for name in frame.select_dtypes("number")
        if name != "latency_us" and (frame[name] % 1 == 0).all()
    ]
    return frame.astype(dict.fromkeys(whole, "int64"))


def _read_parquet(file: Path, columns: Sequence[Column], sha256: str) -> Table:
    frame = read_parquet_frame(file)
    if not len(frame):
        raise UnreadableError(
            Problem("error", str(file), "has no rows", "Add rows or remove the file")
        )
    return _in_memory(file, frame, columns, sha256)


def _in_memory(file: Path, raw: pd.DataFrame, columns: Sequence[Column], sha256: str) -> Table:
    block = without_categories(raw), np.arange(2, len(raw) + 2)
    return _checked(file, raw.columns, [block], columns, sha256, next)


def _read_csv(file: Path, columns: Sequence[Column], sha256: str) -> Table:
    source = CsvRows(file)
    header = source.header
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        what = f"has the column {twice!r} twice"
        raise UnreadableError(Problem("error", str(file), what, "Rename or remove one"))
    notes: list[Problem] = []
    blocks = _csv_blocks(file, source, columns, notes)
    gather = functools.partial(_gathered, most=most_lines(file))
    table = _checked(file, header, blocks, columns, sha256, gather)
    return dataclasses.replace(table, problems=(*source.problems, *notes, *table.problems))


def _csv_blocks(
    file: Path, source: CsvRows, columns: Sequence[Column], notes: list[Problem]
) -> Iterator[_Block]:
    """The rows of a file; what was assumed of them joins ``notes``."""
    if source.separator == ",":
        for block in source.blocks():
            yield _framed(source, block), block.lines
        return
    blocks = [*source.blocks()]  # all rows together say whether a comma is a decimal one
    lines = np.concatenate([np.empty(0, np.int64), *(block.lines for block in blocks)])
    frame = pd.concat([_framed(source, block) for block in blocks]).astype(object)
    frame, found = with_decimal_points(file, frame.reset_index(drop=True), lines.tolist(), columns)
    notes += found
    yield frame, lines


def _framed(source: CsvRows, block: CsvBlock) -> pd.DataFrame:
    columns = zip(source.header, block.columns, strict=True)
    return pd.DataFrame(
        {n: pd.Series(pd.arrays.ArrowExtensionArray(cells)) for n, cells in columns}
    )


def _checked(
    file: Path | str,
    header: Iterable[object],
    blocks: Iterable[_Block],
    columns: Sequence[Column],
    sha256: str,
    gather: Callable[[Iterator[_Block]], _Block],
) -> Table:
    """The good rows of a table, put together by ``gather``, and what is wrong with it and the others."""
    names = [str(name) for name in header]
    scaled = other_units(names, columns)
    in_file = {unit.declared.name: unit.column for unit in scaled}
    expected = [in_file.get(column.name, column) for column in columns]
    bad: list[_BadRows] = []
    counts: list[int] = []
    frame, lines = gather(_good_rows(blocks, expected, bad, counts))
    rows = sum(counts)
    problems = [unit.warning(file) for unit in scaled] if rows else []
    problems += _check_header(file, names, expected) if rows else []
    problems += _problems_of(file, bad)
    for unit in scaled:
        frame[unit.name] *= unit.times
    frame = frame.rename(columns={unit.name: unit.declared.name for unit in scaled})
    return Table(file, frame, lines, rows, sha256, tuple(problems))


def _good_rows(
    blocks: Iterable[_Block], columns: Sequence[Column], bad: list[_BadRows], counts: list[int]
) -> Iterator[_Block]:
    """The good rows of each block; what is wrong with the others joins ``bad``, the number of all ``counts``."""
    for raw, lines in blocks:
        frame, wrong, found = check_cells(raw, columns)
        bad += [(cells, lines[cells.rows]) for cells in found]
        counts.append(len(raw))
        yield (frame[~wrong].reset_index(drop=True) if wrong.any() else frame), lines[~wrong]


def _gathered(blocks: Iterator[_Block], most: int) -> _Block:
    """The rows of all blocks, ``most`` or fewer, in memory taken once: blocks kept till the end leave holes in it."""
    columns: dict[str, NDArray[np.generic]] = {}
    lines = np.empty(most, np.int64)
    size = 0
    for frame, numbers in blocks:
        rows = slice(size, size + len(frame))
        for name, values in frame.items():
            if name not in columns:
                columns[str(name)] = np.empty(most, values.to_numpy().dtype)
            columns[str(name)][rows] = values
        lines[rows] = numbers
        size = rows.stop
    filled = {n: pd.Series(c[:size], dtype=c.dtype, copy=False) for n, c in columns.items()}
    return pd.DataFrame(filled, copy=False), lines[:size]


def _problems_of(file: Path | str, found: Sequence[_BadRows]) -> list[Problem]:
    """One problem for the cells of a column of which the same is wrong, whatever block they are in."""
    same: dict[tuple[str, str], list[_BadRows]] = {}
    for cells, lines in found:
        same.setdefault((cells.column, cells.message), []).append((cells, lines))
    return [
        Problem(
            "error",
            str(file),
            cells[0][0].message,
            cells[0][0].fix,
            tuple(np.concatenate([lines for _, lines in cells]).tolist()),
            cells[0][0].column,
            cells[0][0].value,
        )
        for cells in same.values()
    ]


def _check_header(file: Path | str, present: list[str], columns: Sequence[Column]) -> list[Problem]:
    known = {column.name for column in columns}
    unknown = [name for name in present if name not in known]
    problems = [
        Problem(
            "warning",
            str(file),
            "unknown column, kept but not used",
            f"Remove it if it is a slip{nearest(name, known)}",
            (),
            name,
        )
        for name in unknown
    ]
    problems += [
        Problem(
            "error",
            str(file),
            f"the required column is missing (present: {', '.join(present)})",
            f"Add it{nearest(column.name, unknown)}",
            (1,),
            column.name,
        )
        for column in columns
        if column.required and column.name not in present
    ]
    return problems
