"""Reads one table (CSV or Parquet) and checks every cell against its schema, gathering all that is wrong."""

import dataclasses
import hashlib
import math
import numbers
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.records.errors import NO_TEXT, Problem, UnreadableError
from calibrate.records.reading.as_written import other_units, with_decimal_points
from calibrate.records.reading.content import named
from calibrate.records.reading.csv_rows import read_csv_rows
from calibrate.records.reading.parquet import read_parquet_frame
from calibrate.records.schema import Column
from sim.errors import nearest

_Finding = tuple[str, str, NDArray[np.bool_]]
"""What is wrong, the fix, and which rows it is true of."""
_PLAIN = {"string", "integer", "floating", "mixed-integer-float", "decimal", "empty"}
"""What pandas calls cells that are numbers, text, or not there."""
_BAD_NUMBER = {
    "count": ("must be a whole number of 0 or more", "Correct the count or leave the row out"),
    "amount": ("must be a number of 0 or more", "Correct the value or leave the row out"),
    "positive": ("must be a positive number", "Correct the measurement or leave the row out"),
}


@dataclasses.dataclass(frozen=True)
class Table:
    """A table's good rows. ``frame`` has the file's columns, numbers as float64; ``lines`` (n,) are its lines there."""

    file: Path
    frame: pd.DataFrame
    lines: NDArray[np.int64]
    rows_in_file: int
    sha256: str
    problems: tuple[Problem, ...]


def read_table(file: Path, columns: Sequence[Column]) -> Table:
    """Read a CSV or ``.parquet`` file; rows with an error are left out and reported in ``problems``."""
    problems: list[Problem] = []
    raw = pd.DataFrame()
    lines = np.empty(0, np.int64)
    digest = ""
    try:
        with named(file), file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        is_parquet = file.suffix == ".parquet"
        raw, lines, problems = _read_parquet(file) if is_parquet else _read_csv(file, columns)
    except UnreadableError as error:
        problems = [error.problem]
    return _checked(file, raw, lines, digest, columns, problems)


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
    return _checked(file, raw, np.arange(2, len(raw) + 2), digest, columns, [])


def compact(frame: pd.DataFrame) -> pd.DataFrame:
    """The same table with whole-number columns as integers, as people write them."""
    whole = [
        name
        for name in frame.select_dtypes("number")
        if name != "latency_us" and (frame[name] % 1 == 0).all()
    ]
    return frame.astype(dict.fromkeys(whole, "int64"))


def _checked(
    file: Path,
    raw: pd.DataFrame,
    lines: NDArray[np.int64],
    sha256: str,
    columns: Sequence[Column],
    problems: list[Problem],
) -> Table:
    """The good rows of a table; what is wrong with the others joins ``problems``."""
    names = [str(name) for name in raw.columns]
    scaled = other_units(names, columns)
    in_file = {unit.declared.name: unit.column for unit in scaled}
    expected = [in_file.get(column.name, column) for column in columns]
    if len(raw):
        problems += [unit.warning(file) for unit in scaled]
        problems += _check_header(file, names, expected)
    frame, bad = _convert(file, raw, lines, expected, problems)
    for unit in scaled:
        frame[unit.name] *= unit.times
    frame = frame.rename(columns={unit.name: unit.declared.name for unit in scaled})
    good = ~bad
    return Table(
        file, frame[good].reset_index(drop=True), lines[good], len(raw), sha256, tuple(problems)
    )


def _read_parquet(file: Path) -> tuple[pd.DataFrame, NDArray[np.int64], list[Problem]]:
    frame = read_parquet_frame(file)
    if not len(frame):
        raise UnreadableError(
            Problem("error", str(file), "has no rows", "Add rows or remove the file")
        )
    return frame, np.arange(2, len(frame) + 2), []


def _read_csv(
    file: Path, columns: Sequence[Column]
) -> tuple[pd.DataFrame, NDArray[np.int64], list[Problem]]:
    table = read_csv_rows(file)
    header = table.header
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        what = f"has the column {twice!r} twice"
        raise UnreadableError(Problem("error", str(file), what, "Rename or remove one"))
    cells = zip(header, zip(*table.rows, strict=True), strict=True)
    frame = pd.DataFrame({name: np.array(values, dtype=object) for name, values in cells})
    problems = table.problems
    if table.separator != ",":
        frame, found = with_decimal_points(file, frame, table.lines, columns)
        problems = [*problems, *found]
    return frame, np.array(table.lines, dtype=np.int64), problems


def _check_header(file: Path, present: list[str], columns: Sequence[Column]) -> list[Problem]:
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


def _convert(
    file: Path,
    raw: pd.DataFrame,
    lines: NDArray[np.int64],
    columns: Sequence[Column],
    problems: list[Problem],
) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """Text as str and numbers as float64 (an empty optional cell is NaN); also the mask of rows with an error."""
    bad = np.zeros(len(raw), dtype=bool)
    known = {column.name for column in columns}
    converted = {
        str(name): cells if str(name) in known or cells.dtype != object else _as_text(cells)
        for name, cells in raw.items()
    }
    for column in columns:
        if column.name not in converted:
            bad |= column.required
            continue
        cells = converted[column.name]
        if column.kind == "text":
            converted[column.name], found = _text(cells, column)
        else:
            converted[column.name], found = _number(cells, column)
        for message, fix, wrong in found:
            bad |= wrong
            if wrong.any():
                first = str(cells.iloc[int(np.argmax(wrong))])[:60]
                problems.append(
                    Problem(
                        "error",
                        str(file),
                        message,
                        fix,
                        tuple(lines[wrong].tolist()),
                        column.name,
                        first or "(empty)",
                    )
                )
    return pd.DataFrame(converted, index=raw.index), bad


def _as_text(cells: pd.Series) -> pd.Series:
    return cells.astype(object).where(cells.notna(), "").astype(str).str.strip().astype(object)


def _text(cells: pd.Series, column: Column) -> tuple[pd.Series, list[_Finding]]:
    text = _as_text(cells)
    empty = (text == "").to_numpy() & column.required & (not column.may_be_empty)
    odd = text.str.contains(NO_TEXT).to_numpy(dtype=bool)
    return text, [
        ("is empty", "Fill it in", empty),
        ("holds control characters, which are no text", "Remove them", odd),
    ]


def _number(cells: pd.Series, column: Column) -> tuple[pd.Series, list[_Finding]]:
    cells, no_number = _plain(cells)
    empty = (cells.isna() | (cells.astype(object) == "")).to_numpy(dtype=bool) & ~no_number
    values = pd.to_numeric(cells, errors="coerce").astype(np.float64)
    number = values.to_numpy()
    message, fix = _BAD_NUMBER[column.kind]
    with np.errstate(invalid="ignore"):
        whole = (
            (number == np.floor(number))
            if column.kind == "count"
            else np.ones(len(number), dtype=bool)
        )
        in_range = (number > 0) if column.kind == "positive" else (number >= 0)
        huge = number > column.largest
    wrong = ~empty & ~huge & ~(np.isfinite(number) & whole & in_range)
    too_large = f"is larger than {column.largest:g}, beyond anything measurable"
    return values, [
        (message, fix, wrong),
        (too_large, "Check the unit and the digits", ~empty & (huge | (number == math.inf))),
        ("is empty", "Fill it in", empty & column.required & (not column.may_be_empty)),
    ]


def _plain(cells: pd.Series) -> tuple[pd.Series, NDArray[np.bool_]]:
    """Cells of numbers and text only, empty where they hold anything else, and the mask of those."""
    if pd.api.types.infer_dtype(cells, skipna=True) in _PLAIN:
        return cells, np.zeros(len(cells), dtype=bool)
    plain = cells.astype(object)
    known = [
        cell is None or (isinstance(cell, str | numbers.Real) and not isinstance(cell, bool))
        for cell in plain
    ]
    other = ~np.array(known, dtype=bool)
    return plain.mask(other, None), other
