"""The tables of identifiability: correlations, sensitivities and singular values."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from calibrate.outcome.identifiability import GroupSensitivity
from calibrate.report.texts import is_known

_FULL_SHADE = 45
_DECADES = 4.0  # of a bar: combinations ten thousand times less seen than the best have none
_TOGETHER = 1.5  # variance of a combination; 1 where nothing is correlated
_MATERIAL_PART = 0.35  # of a direction of length 1: an eighth of its square


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
    """A number, how many times smaller than the largest it is, and the length of its bar in percent.

    The bar is logarithmic: full for the largest, a quarter shorter for each factor of ten.
    """

    value: float
    times: float
    width: float


@dataclasses.dataclass(frozen=True)
class Certainty:
    """A parameter's part in a combination: between −1 and 1."""

    name: str
    part: float


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
    """Singular values, the largest first; zeros have no bar."""
    known = sorted(filter(is_known, values), reverse=True)
    largest = max(known, default=0.0)
    return [_bar(value, largest / value if value > 0 else math.inf) for value in known]


def _bar(value: float, times: float) -> Bar:
    length = 100.0 * (1.0 - math.log10(times) / _DECADES) if times < math.inf else 0.0
    return Bar(value, times, round(max(length, 0.0), 2))


def least_certain(table: Mapping[str, Mapping[str, float]]) -> list[Certainty]:
    """The combination of fitted parameters that is known least, its largest parts first: they move together.

    It is the direction of the most variance of the estimates' correlations. Empty where these are near to none.
    """
    names = list(table)
    values = np.array([[table[a][b] for b in names] for a in names], dtype=np.float64)
    if len(names) < 2 or not np.isfinite(values).all():
        return []
    variances, directions = np.linalg.eigh(values)
    parts = directions[:, -1]
    order = np.argsort(-np.abs(parts), kind="stable")
    leading = order[np.abs(parts[order]) >= _MATERIAL_PART]
    if variances[-1] < _TOGETHER or len(leading) < 2:
        return []
    sign = np.sign(parts[leading[0]])
    return [Certainty(names[i], float(sign * parts[i])) for i in leading]


def _cell(value: float) -> Cell:
    if not is_known(value):
        return Cell(None, 0)
    return Cell(value, round(min(abs(value), 1.0) * _FULL_SHADE))
