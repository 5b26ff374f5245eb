"""Reads one table (CSV or Parquet) and checks every cell against its schema, gathering all that is wrong."""

import csv
import dataclasses
import hashlib
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.records.errors import Problem
from calibrate.records.schema import Column
from sim.errors import nearest

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
    """Read a ``.csv`` or ``.parquet`` file; rows with an error are left out and reported in ``problems``."""
    problems: list[Problem] = []
    raw = pd.DataFrame()
    lines = np.empty(0, np.int64)
    digest = ""
    try:
        content = file.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        raw, lines = (
            _read_parquet(file) if file.suffix == ".parquet" else _read_csv(file, content, problems)
        )
    except _UnreadableError as error:
        problems.append(Problem("error", str(file), error.args[0], error.args[1]))
    except OSError as error:
        problems.append(
            Problem(
                "error",
                str(file),
                f"cannot be read: {error.strerror}",
                "Check the path and its permissions",
            )
        )
    return _checked(file, raw, lines, digest, columns, problems)


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
    if len(raw):
        problems += _check_header(file, [str(name) for name in raw.columns], columns)
    frame, bad = _convert(file, raw, lines, columns, problems)
    good = ~bad
    return Table(
        file, frame[good].reset_index(drop=True), lines[good], len(raw), sha256, tuple(problems)
    )


class _UnreadableError(Exception):
    """A file that holds no table at all: what is wrong, and the fix."""


def _read_parquet(file: Path) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    import pyarrow as pa

    try:
        frame = pd.read_parquet(file)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise _UnreadableError(f"not a Parquet file: {error}", "Export it again") from error
    if not len(frame):
        raise _UnreadableError("has no rows", "Add rows or remove the file")
    return frame, np.arange(2, len(frame) + 2)


def _read_csv(
    file: Path, content: bytes, problems: list[Problem]
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise _UnreadableError("is UTF-16, not UTF-8", "Save it as UTF-8 CSV")
    if not content.strip():
        raise _UnreadableError("is empty", "Add a header and rows, or remove the file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _UnreadableError(
            f"is not UTF-8 text (byte {error.start})", "Save it as UTF-8 CSV"
        ) from error
    if "\0" in text:
        raise _UnreadableError("holds zero bytes: a binary file, not CSV", "Save it as UTF-8 CSV")
    rows, lines = [], []
    numbered = _numbered_rows(text)
    header = [name.strip() for name in next(numbered, (0, []))[1]]
    for line, row in numbered:
        if len(row) == len(header):
            rows.append(row)
            lines.append(line)
        else:
            problems.append(_ragged(file, line, len(row), len(header)))
    if not rows:
        raise _UnreadableError(
            "has no complete row below its header", "Add rows or remove the file"
        )
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise _UnreadableError(f"has the column {twice!r} twice", "Rename or remove one")
    columns = zip(*rows, strict=True)
    frame = pd.DataFrame(
        {name: np.array(values, dtype=object) for name, values in zip(header, columns, strict=True)}
    )
    return frame, np.array(lines, dtype=np.int64)


def _numbered_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the line on which it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise _UnreadableError(
            f"the row at line {line} is not CSV: {error}", "Check for a cut-off quote"
        ) from error


def _ragged(file: Path, line: int, found: int, expected: int) -> Problem:
    message = f"has {found} fields, the header {expected}"
    return Problem(
        "error",
        str(file),
        message,
        "Complete the row (was the file cut off?) or remove it",
        (line,),
    )


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
    converted = {str(name): raw[name] for name in raw.columns}
    known = {column.name for column in columns}
    nested = [
        Column(name, "text")
        for name, cells in converted.items()
        if name not in known and cells.dtype == object
    ]
    for column in (*columns, *nested):
        if column.name not in converted:
            bad |= column.required
            continue
        cells = converted[column.name]
        if column.kind == "text":
            converted[column.name], wrong = _text(cells, column)
            found = [("is empty", "Fill it in", wrong)]
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


def _text(cells: pd.Series, column: Column) -> tuple[pd.Series, NDArray[np.bool_]]:
    text = cells.astype(object).where(cells.notna(), "").astype(str).str.strip().astype(object)
    return text, (text == "").to_numpy() & column.required


def _number(
    cells: pd.Series, column: Column
) -> tuple[pd.Series, list[tuple[str, str, NDArray[np.bool_]]]]:
    empty = (cells.isna() | (cells.astype(object) == "")).to_numpy(dtype=bool)
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
        ("is empty", "Fill it in", empty & column.required),
    ]
