"""A point to be measured, and a table's list of them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from calibrate.bench.device import Clock, Run

T = TypeVar("T")

Cell = str | int | float
_GOLDEN = 0.6180339887498949


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What is timed, and columns known only now, such as the attention backend that was fastest."""

    run: Run
    columns: Mapping[str, Cell] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Point:
    """A row to be. ``columns`` say which; ``bytes_needed`` is all the memory it takes, of weights too.

    ``prepare`` allocates what is needed and returns what is timed, on ``clock``. It is called once, just before.
    """

    columns: Mapping[str, Cell]
    bytes_needed: int
    prepare: Callable[[], Prepared]
    clock: Clock = "device"


@dataclasses.dataclass(frozen=True)
class Stage:
    """The points of one table, in order, ``seconds`` for each at most; ``share`` of the time where that is limited."""

    table: str
    points: Sequence[Point]
    seconds: float
    share: float


def scattered(items: Sequence[T]) -> list[T]:
    """All of a grid in an order of which every beginning covers the whole: a stop halfway leaves coarser data, not
    half the range, and a slow drift of the machine is not taken for an effect of size.
    """
    order = sorted(range(len(items)), key=lambda i: i * _GOLDEN % 1.0)
    return [items[i] for i in order]
