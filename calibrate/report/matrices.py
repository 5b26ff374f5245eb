"""The tables of identifiability: correlations, sensitivities and singular values."""

import dataclasses
from collections.abc import Mapping, Sequence

from calibrate.outcome.identifiability import GroupSensitivity
from calibrate.report.texts import is_known

_FULL_SHADE = 45


@dataclasses.dataclass(frozen=True)
class Cell:
    """A number, None where it is not known, and the percentage of full colour behind it."""

    value: float | None
    shade: int


@dataclasses.dataclass(frozen=True)
class MatrixRow:
    """A parameter's name and its cells."""

    name: str
    cells: tuple[Cell, ...]


@dataclasses.dataclass(frozen=True)
class Bar:
    """A number and its share of the largest one in percent."""

    value: float
    width: float


def correlation_rows(table: Mapping[str, Mapping[str, float]]) -> list[MatrixRow]:
    """The lower triangle, a row a parameter."""
    names = list(table)
    return [
        MatrixRow(name, tuple(_cell(row[other]) for other in names[:index]))
        for index, (name, row) in enumerate(table.items())
    ]


def sensitivity_rows(sensitivity: GroupSensitivity) -> list[MatrixRow]:
    """A row a parameter, a cell a group of rows; 1 is a step time that follows the parameter in proportion."""
    return [MatrixRow(name, tuple(map(_cell, row))) for name, row in sensitivity.rms.items()]


def singular_bars(values: Sequence[float]) -> list[Bar]:
    """Singular values, the largest first, with their share of it."""
    known = sorted(filter(is_known, values), reverse=True)
    largest = max(known, default=0.0)
    return [Bar(value, round(value / largest * 100, 2) if largest > 0 else 0.0) for value in known]


def _cell(value: float) -> Cell:
    if not is_known(value):
        return Cell(None, 0)
    return Cell(value, round(min(abs(value), 1.0) * _FULL_SHADE))
