"""Figures of load points of several engines, each simulated with its engine's own values."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from calibrate.parameters.own import as_of
from calibrate.serving.figures import Replay, draw_enough
from calibrate.serving.points import FIGURES, ServingPoints
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.serving.workload import Trace
from sim.steps.batch import Floats

Figures = Callable[[LatencyModel, Hardware], Floats]
"""Figures of every load point, shape (n, 12): the simulator's, or those of its closed form."""

_KEPT = 64  # figures of one engine, so that moving another's value does not simulate this one again


@dataclasses.dataclass(frozen=True, eq=False)
class OfEngine:
    """The load points of one engine: their ``rows`` (n,) among all, and their figures."""

    engine: str
    rows: NDArray[np.bool_]
    figures: Figures
    _known: dict[tuple[tuple[str, float], ...], Floats] = dataclasses.field(default_factory=dict)

    def figures_ms(self, model: LatencyModel, hardware: Hardware) -> Floats:
        """Their figures; ``hardware`` holds the values of all engines."""
        own = as_of(hardware, self.engine)
        key = tuple(own.values.items())
        if key not in self._known:
            if len(self._known) == _KEPT:
                self._known.clear()
            self._known[key] = self.figures(model, own)
        return self._known[key]


def by_engine(points: ServingPoints, replay: Replay, make: Callable[[Replay], Figures]) -> Figures:
    """The figures of all ``points``, whose requests ``replay`` has; ``make`` computes those of one engine's."""
    parts = [OfEngine(engine, rows, make(replay.take(rows))) for engine, rows in engines_of(points)]

    def figures_ms(model: LatencyModel, hardware: Hardware) -> Floats:
        found = np.empty((len(points), len(FIGURES)))
        for part in parts:
            found[part.rows] = part.figures_ms(model, hardware)
        return found

    return figures_ms


def engines_of(points: ServingPoints) -> list[tuple[str, NDArray[np.bool_]]]:
    """Every engine of some load points with its rows (n,)."""
    names = points.frame["engine"].to_numpy(dtype=str)
    return [(str(engine), names == engine) for engine in np.unique(names)]


def draw_enough_of_each(
    points: ServingPoints, model: LatencyModel, hardware: Hardware
) -> tuple[Replay, Floats]:
    """:func:`draw_enough` of each engine's points with its own values."""
    traces: list[Sequence[Trace]] = [()] * len(points)
    spread = np.empty((len(points), len(FIGURES)))
    for engine, rows in engines_of(points):
        drawn, spread[rows] = draw_enough(points.take(rows), model, as_of(hardware, engine))
        for place, own in zip(np.flatnonzero(rows), drawn.traces, strict=True):
            traces[place] = own
    return Replay(points.points, tuple(map(tuple, traces))), spread
