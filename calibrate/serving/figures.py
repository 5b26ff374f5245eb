"""What the simulator says of load points, in the figures that were measured."""

import dataclasses
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from calibrate.serving.points import FIGURES, SEEDS, STATISTICS, ServingPoint, ServingPoints
from calibrate.serving.thresholds import CHANCE, ENOUGH_REQUESTS, SEEDS_TRIED
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.serving.result import ServingResult
from sim.serving.simulation import simulate
from sim.serving.workload import Trace
from sim.steps.batch import Floats
from sim.units import US_PER_MS

_PERCENTILES = (50, 90, 99)
_MEANS = [statistic == "mean" for _, statistic in FIGURES]


@dataclasses.dataclass(frozen=True, eq=False)
class Replay:
    """Load points with their requests drawn, once for each seed: all simulations see the same (common) numbers."""

    points: tuple[ServingPoint, ...]
    traces: tuple[tuple[Trace, ...], ...]

    @classmethod
    def of(cls, points: Sequence[ServingPoint], seeds: Sequence[Sequence[int]]) -> "Replay":
        """Draw the requests of every point for each of its ``seeds``."""
        drawn = (
            tuple(point.workload.draw(seed) for seed in own)
            for point, own in zip(points, seeds, strict=True)
        )
        return cls(tuple(points), tuple(drawn))

    def take(self, rows: NDArray[np.bool_]) -> "Replay":
        """The same requests of some of the points."""
        kept = [i for i, keep in enumerate(rows) if keep]
        return Replay(tuple(self.points[i] for i in kept), tuple(self.traces[i] for i in kept))

    def figures_ms(self, model: LatencyModel, hardware: Hardware) -> Floats:
        """The figures of every point, means over its seeds, shape (n, 12)."""
        return np.array([figures.mean(axis=0) for figures in self.drawn_ms(model, hardware)])

    def chance(self, model: LatencyModel, hardware: Hardware) -> Floats:
        """The relative spread of every figure from one draw of the requests to another, shape (n, 12)."""
        drawn = self.drawn_ms(model, hardware)
        return np.array([np.log(figures).std(axis=0, ddof=1) for figures in drawn])

    def drawn_ms(self, model: LatencyModel, hardware: Hardware) -> list[Floats]:
        """The figures of every point, each of shape (seeds, 12).

        Points run side by side on all cores: the compiled loop lets go of the interpreter.
        """
        work = [
            (point, trace)
            for point, traces in zip(self.points, self.traces, strict=True)
            for trace in traces
        ]

        def one(point: ServingPoint, trace: Trace) -> Floats:
            engine = point.engine.with_request_times(hardware)
            return _figures_ms(
                simulate(trace, engine, model, point.arch, hardware, point.tp), tails=point.tails
            )

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = iter(list(pool.map(one, *zip(*work, strict=True))))
        return [np.array([next(found) for _ in traces]) for traces in self.traces]


def draw_enough(
    points: ServingPoints, model: LatencyModel, hardware: Hardware
) -> tuple[Replay, Floats]:
    """The requests to simulate, drawn so often that chance is small: few requests, or many in a queue, need draws.

    Also the relative spread that chance leaves between a measured run and the mean of ours, shape (n, 12).
    """
    chance = Replay.of(points.points, [SEEDS[:SEEDS_TRIED]] * len(points)).chance(model, hardware)
    seeds = [_seeds(point, spread) for point, spread in zip(points.points, chance, strict=True)]
    sizes = np.array([len(own) for own in seeds], dtype=np.float64)
    spread: Floats = np.nan_to_num(chance) * np.sqrt(1.0 + 1.0 / sizes)[:, None]
    return Replay.of(points.points, seeds), spread


def _seeds(point: ServingPoint, chance: Floats) -> tuple[int, ...]:
    """With which a point's requests are drawn, given the spread of its figures from draw to draw, shape (12,)."""
    few = -(-ENOUGH_REQUESTS // point.workload.num_requests)
    return SEEDS if np.nanmax(chance[_MEANS]) > CHANCE else SEEDS[:few]


def _figures_ms(result: ServingResult, *, tails: bool) -> Floats:
    """Mean and percentiles of TTFT, ITL and E2E, shape (12,); NaN for ITL of one token, and for tails not asked for."""
    times = (result.ttft_us, result.itl_us, result.e2e_us)
    return np.concatenate([_statistics(one, tails=tails) for one in times]) / US_PER_MS


def _statistics(times_us: Floats, *, tails: bool) -> Floats:
    times = times_us[~np.isnan(times_us)]
    found = np.full(len(STATISTICS), np.nan)
    if len(times):
        found[0] = times.mean()
        found[1:] = np.percentile(times, _PERCENTILES) if tails else np.nan
    return found
