"""Numbers and units as people write them, turned into those of a table's columns where nothing can be mistaken."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from calibrate.records.errors import Problem, UnreadableError
from calibrate.records.schema import Column
from sim.units import US_PER_MS, US_PER_S

_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_DECIMAL_POINT = re.compile(r"[+-]?\d+\.\d+(?:[eE][+-]?\d+)?")
_MAYBE_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_MICROSECONDS = "_us"
_UNITS = {"_ms": ("milliseconds", US_PER_MS), "_s": ("seconds", US_PER_S)}


def with_decimal_points(
    path: Path, frame: pd.DataFrame, lines: Sequence[int], columns: Sequence[Column]
) -> tuple[pd.DataFrame, list[Problem]]:
    """The table with a point where its numbers have a decimal comma, and a warning that says so.

    ``frame`` has cells of text (n rows, on ``lines`` of the file) that commas do not part. Raises UnreadableError
    where a comma may part thousands as well, or decimal points occur too.
    """
    numeric = [c.name for c in columns if c.kind != "text" and c.name in frame]
    cells = frame[numeric].apply(lambda column: column.str.strip())
    comma = cells.apply(lambda column: column.str.fullmatch(_DECIMAL_COMMA)).astype(bool)
    if not comma.to_numpy().any():
        return frame, []
    point = cells.apply(lambda column: column.str.fullmatch(_DECIMAL_POINT)).astype(bool)
    thousands = cells.apply(lambda column: column.str.fullmatch(_MAYBE_THOUSANDS)).astype(bool)
    name, line, value = _first(cells, comma, lines)
    if point.to_numpy().any():
        what = "has a decimal comma, and other numbers a decimal point"
        raise _ambiguous(path, what, name, line, value)
    if (thousands | ~comma).to_numpy().all():
        what = f"may be {value.replace(',', '.')} or {value.replace(',', '')}"
        raise _ambiguous(path, what, name, line, value)
    pointed = cells.apply(lambda column: column.str.replace(",", ".", regex=False))
    what = f"has a decimal comma: read as {value.replace(',', '.')}, and so are all numbers"
    warning = Problem("warning", str(path), what, "Nothing, if that is so", (line,), name, value)
    return frame.assign(**{n: cells[n].where(~comma[n], pointed[n]) for n in numeric}), [warning]


def _first(cells: pd.DataFrame, found: pd.DataFrame, lines: Sequence[int]) -> tuple[str, int, str]:
    """Column, line and value of the first cell that is marked."""
    row = int(found.any(axis=1).to_numpy().argmax())
    name = next(name for name in cells if found[name].iloc[row])
    return str(name), int(lines[row]), str(cells[name].iloc[row])


def _ambiguous(path: Path, what: str, name: str, line: int, value: str) -> UnreadableError:
    fix = "Write every number with a decimal point and without marks of thousands"
    return UnreadableError(Problem("error", str(path), what, fix, (line,), name, value))


@dataclasses.dataclass(frozen=True)
class OtherUnit:
    """A column of the file, ``name``, that holds a declared one in a unit ``times`` as large."""

    name: str
    declared: Column
    unit: str
    times: float

    @property
    def column(self) -> Column:
        """What the file's column must be."""
        largest = self.declared.largest / self.times
        return dataclasses.replace(self.declared, name=self.name, largest=largest)

    def warning(self, path: Path | str) -> Problem:
        """What was assumed."""
        what = f"is taken in {self.unit}: {self.declared.name} is {self.times:,.0f} times it"
        return Problem("warning", str(path), what, "Nothing, if that is so", (1,), self.name)


def other_units(names: Sequence[str], columns: Sequence[Column]) -> list[OtherUnit]:
    """The columns in microseconds that a table lacks, and has in milliseconds or in seconds instead (not in both)."""
    declared = {column.name for column in columns}
    found = []
    for column in columns:
        if column.name in names or not column.name.endswith(_MICROSECONDS):
            continue
        stem = column.name.removesuffix(_MICROSECONDS)
        given = [end for end in _UNITS if f"{stem}{end}" in {*names} - declared]
        if len(given) == 1:
            found.append(OtherUnit(stem + given[0], column, *_UNITS[given[0]]))
    return found
