"""Of many serving rows of each engine a few to fit to: every model and TP, small loads and large, alike."""

import dataclasses
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from calibrate.campaign.campaign import Campaign
from calibrate.serving.point import SEEDS, Row, number
from calibrate.serving.points import CalmRow, ServingPoints, calm_rows, read_rows
from calibrate.serving.thresholds import DRAWN_ROWS, DRAWS, FEWEST_DRAWN
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.serving.workload import Closed

_LOAD = ("concurrency", "request_rate", "input_tokens_mean", "output_tokens_mean")


@dataclasses.dataclass(frozen=True, eq=False)
class EngineRows:
    """The load points drawn of one engine, of ``rows`` that were not overloaded."""

    engine: str
    points: ServingPoints
    rows: int


def rows_of_engines(
    campaigns: Sequence[Campaign], hardware: Hardware, model: LatencyModel
) -> list[EngineRows]:
    """A balanced draw of every engine's rows, of at least a few points each.

    The same rows give the same draw. Rows that do not name their engine are not drawn.
    """
    by_engine: dict[str, list[CalmRow]] = defaultdict(list)
    for one in calm_rows(campaigns, Counter()):
        by_engine[_text(one.row, "engine")].append(one)
    drawn = []
    for engine, rows in sorted(by_engine.items()):
        if engine:
            points = read_rows(
                balanced(rows), hardware, model, Counter(), SEEDS[:DRAWS], DRAWN_ROWS
            )
            drawn.append(EngineRows(engine, points, len(rows)))
    return [one for one in drawn if len(one.points) >= FEWEST_DRAWN]


def all_closed(points: ServingPoints) -> bool:
    """Whether every load begins with a burst, of which TTFT then tells more than of the engine."""
    return all(isinstance(point.workload.load, Closed) for point in points.points)


def balanced(rows: Sequence[CalmRow]) -> Iterator[CalmRow]:
    """All rows, so ordered that any number of the first has of every model, TP and dtype alike, spread over loads."""
    groups: dict[tuple[str, ...], list[CalmRow]] = defaultdict(list)
    for one in rows:
        groups[tuple(_text(one.row, name) for name in ("model", "tp", "dtype"))].append(one)
    spread = [_spread(sorted(group, key=_load)) for group in groups.values()]
    for turn in itertools.zip_longest(*spread):
        yield from (one for one in turn if one is not None)


def _spread(rows: Sequence[CalmRow]) -> list[CalmRow]:
    """The rows in the order of their places' bits reversed: each halves what those before it left."""
    bits = max(len(rows) - 1, 1).bit_length()
    order = sorted(range(len(rows)), key=lambda place: f"{place:0{bits}b}"[::-1])
    return [rows[place] for place in order]


def _load(one: CalmRow) -> tuple[float, ...]:
    return tuple(number(one.row, name, np.inf) for name in _LOAD)


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    return "" if value is None or value != value else str(value)  # NaN
