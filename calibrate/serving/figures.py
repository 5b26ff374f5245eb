"""What the simulator says of load points, in the figures that were measured."""

import dataclasses
import itertools
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from calibrate.serving.point import SEEDS, ServingPoint
from calibrate.serving.points import FIGURES, STATISTICS, ServingPoints
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
        traces = []
        for point, own_seeds in zip(points, seeds, strict=True):
            draws = [point.workload.draw(seed) for seed in own_seeds]
            traces.append(tuple(draws))
        return cls(tuple(points), tuple(traces))

    def take(self, rows: NDArray[np.bool_]) -> "Replay":
        """The same requests of some of the points."""
        points = itertools.compress(self.points, rows)
        traces = itertools.compress(self.traces, rows)
        return Replay(tuple(points), tuple(traces))

    def figures_ms(self, model: LatencyModel, hardware: Hardware) -> Floats:
        """The figures of every point, means over its seeds, shape (n, 12)."""
        return np.array([figures.mean(axis=0) for figures in self.drawn_ms(model, hardware)])

    def chance(self, model: LatencyModel, hardware: Hardware) -> Floats:
        """The relative spread of every figure from one draw of the requests to another, shape (n, 12)."""
        spreads = []
        for figures in self.drawn_ms(model, hardware):
            logs = np.log(figures)
            spreads.append(logs.std(axis=0, ddof=1))
        return np.array(spreads)

    def drawn_ms(self, model: LatencyModel, hardware: Hardware) -> list[Floats]:
        """The figures of every point, each of shape (seeds, 12).

        Points run side by side on all cores: the compiled loop lets go of the interpreter.
        """
        simulations = []
        for point, traces in zip(self.points, self.traces, strict=True):
            simulations += [(point, trace) for trace in traces]

        def simulated_ms(simulation: tuple[ServingPoint, Trace]) -> Floats:
            point, trace = simulation
            engine = point.engine.with_request_times(hardware, point.arch)
            result = simulate(
                trace, engine, model, point.arch, hardware, point.tp, keep_steps=False
            )
            return _figures_ms(result, tails=point.tails)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            figures = iter(list(pool.map(simulated_ms, simulations)))

        by_point = []
        for traces in self.traces:
            draws = itertools.islice(figures, len(traces))
            by_point.append(np.array(list(draws)))
        return by_point


def draw_enough(
    points: ServingPoints, model: LatencyModel, hardware: Hardware
) -> tuple[Replay, Floats]:
    """The requests to simulate, drawn so often that chance is small: few requests, or many in a queue, need draws.

    Also the relative spread that chance leaves between a measured run and the mean of ours, shape (n, 12).
    """
    trial_seeds = [SEEDS[:SEEDS_TRIED]] * len(points)
    trial = Replay.of(points.points, trial_seeds)
    chance = trial.chance(model, hardware)

    seeds = [_seeds(point, spread) for point, spread in zip(points.points, chance, strict=True)]
    draws = np.array([len(own) for own in seeds], dtype=np.float64)
    of_difference = np.sqrt(1.0 + 1.0 / draws)
    spread: Floats = np.nan_to_num(chance) * of_difference[:, None]
    return Replay.of(points.points, seeds), spread


def _seeds(point: ServingPoint, chance: Floats) -> tuple[int, ...]:
    """With which a point's requests are drawn, given the spread of its figures from draw to draw, shape (12,)."""
    largest = np.nanmax(chance[_MEANS])
    steady = math.ceil((largest / CHANCE) ** 2)
    few = math.ceil(ENOUGH_REQUESTS / point.workload.num_requests)
    return SEEDS[: max(steady, few)]


def _figures_ms(result: ServingResult, *, tails: bool) -> Floats:
    """Mean and percentiles of TTFT, ITL and E2E, shape (12,); NaN for ITL of one token, and for tails not asked for."""
    metrics = [result.ttft_us, result.itl_us, result.e2e_us]
    statistics_us = [_statistics(times_us, tails=tails) for times_us in metrics]
    return np.concatenate(statistics_us) / US_PER_MS


def _statistics(times_us: Floats, *, tails: bool) -> Floats:
    statistics = np.full(len(STATISTICS), np.nan)
    known = times_us[~np.isnan(times_us)]
    if len(known):
        statistics[0] = known.mean()
    if len(known) and tails:
        statistics[1:] = np.percentile(known, _PERCENTILES)
    return statistics
