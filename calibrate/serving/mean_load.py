"""TTFT, ITL and E2E of load points in closed form: the mean step at the mean batch, without a queue.

It costs a few predictions of n steps, so that a fit can start from it; the simulator has the last word.
"""

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray

from calibrate.serving.figures import Replay
from calibrate.serving.mean_step import Means, latencies_us, mean_moments, mean_steps, next_guess
from calibrate.serving.points import FIGURES, METRICS, STATISTICS
from sim.architecture import Architecture
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.serving.engine import EngineLimits
from sim.serving.workload import Trace
from sim.steps.batch import Floats, StepTable
from sim.units import US_PER_MS, US_PER_S

ROUNDS = 60
SETTLED = 1e-6
_MEANS = [FIGURES.index((metric, "mean")) for metric in METRICS]


@dataclasses.dataclass(frozen=True, eq=False)
class MeanLoad:
    """n load points by their means; every array is (n,). ``rate`` (1/s) is 0 of a closed load, ``clients`` of others.

    ``new`` are the tokens of a prompt that are computed, ``context`` those that the prefix cache holds.
    """

    architectures: tuple[Architecture, ...]
    arch_index: NDArray[np.intp]
    tp: Floats
    new: Floats
    context: Floats
    output: Floats
    rate: Floats
    clients: Floats
    seats: Floats
    budget: Floats
    ahead: Floats

    @classmethod
    def of(cls, replay: Replay) -> "MeanLoad":
        """The means of the requests that were drawn."""
        traces = [traces[0] for traces in replay.traces]
        engines = [point.engine for point in replay.points]
        blocks = [engine.block_size * engine.prefix_caching for engine in engines]
        cached = np.array(
            [_cached(trace, block) for trace, block in zip(traces, blocks, strict=True)]
        )
        prompt = np.array([trace.prompt_tokens.mean() for trace in traces])
        architectures = tuple(dict.fromkeys(point.arch for point in replay.points))
        rate = np.array([_rate(trace) for trace in traces])
        asking = np.array([float(np.isfinite(trace.arrival_us).sum()) for trace in traces])
        return cls(
            architectures,
            np.array([architectures.index(point.arch) for point in replay.points], dtype=np.intp),
            np.array([point.tp for point in replay.points], dtype=np.float64),
            prompt - cached,
            cached,
            np.array([trace.output_tokens.mean() for trace in traces]),
            rate,
            np.where(rate > 0, 0.0, asking),
            np.array([float(engine.max_num_seqs) for engine in engines]),
            np.array([float(engine.max_num_batched_tokens) for engine in engines]),
            np.array([float(engine.async_scheduling) for engine in engines]),
        )

    def figures_ms(self, model: LatencyModel, hardware: Hardware) -> Floats:
        """Mean TTFT, ITL and E2E in ms in the columns of :data:`FIGURES`, shape (n, 12); NaN in all others."""
        from calibrate.serving.mean_kernel import latencies_of_all
        from sim.serving.step_kernels import EXTERNAL, step_kernel

        kernels = [step_kernel(model, arch, hardware, tp) for arch, tp in self._served]
        loads = self._means(hardware)
        if kernels[0].kind == EXTERNAL:
            latencies = self._asking(model, hardware, loads)
        else:
            latencies = latencies_of_all(kernels, self._which, loads)
        found = np.full((len(self.tp), len(FIGURES)), np.nan)
        latencies[self.output <= 1, 1] = np.nan  # one token has none to follow it
        found[:, _MEANS] = latencies / US_PER_MS
        return found

    def statistics_ms(self, model: LatencyModel, hardware: Hardware) -> Floats:
        """The same with every statistic of a metric taken as its mean, 1 where that is not known, shape (n, 12)."""
        means = self.figures_ms(model, hardware)[:, _MEANS]
        known: Floats = np.nan_to_num(means, nan=1.0)
        return known.repeat(len(STATISTICS), axis=1)

    def _asking(self, model: LatencyModel, hardware: Hardware, loads: Means) -> Floats:
        """Latencies in µs, shape (n, 3), of a model that has no compiled form."""

        def steps_us(*prompts: Floats, decodes: Floats) -> Floats:
            """They are asked for together: asking costs more than a step."""
            joined = [np.array(mean_moments(loads, one, decodes)) for one in prompts]
            table = self._table(np.concatenate(joined, axis=1), len(prompts))
            times = model.predict_us(table, hardware).reshape(len(prompts), -1)
            requests = np.array(prompts) + decodes
            sampled: Floats = times + loads.sampler + loads.sampler_each * requests
            return sampled

        none = np.zeros_like(self.tp)
        (itl,) = steps_us(none, decodes=none + 1.0)
        ttft = itl
        for _ in range(ROUNDS):
            steps = mean_steps(loads, ttft, itl)
            times = steps_us(none, steps.some, steps.chunk, decodes=steps.batch)
            known, before = ttft, itl
            ttft, itl, mean = next_guess(loads, steps, ttft, itl, *times)
            if max(np.abs(ttft / known - 1).max(), np.abs(mean / before - 1).max()) < SETTLED:
                break
        return np.column_stack(latencies_us(loads, ttft, itl))

    def _means(self, hardware: Hardware) -> Means:
        """The load points with the times around the engine and in its sampler; every field is (n,)."""
        engines = [EngineLimits().with_request_times(hardware, arch) for arch, _ in self._served]
        prompt_us = hardware.values.get("apiPromptTokenMicros", 0.0)
        api = hardware.values.get("apiMicros", 0.0) + prompt_us * (self.new + self.context)
        return Means(
            api,
            np.full_like(self.tp, hardware.values.get("apiOutputTokenMicros", 0.0)),
            self.new,
            self.context,
            self.output,
            self.rate / US_PER_S,
            self.clients,
            self.seats,
            self.budget,
            self.ahead,
            np.maximum(self.new / self.budget, 1.0),
            np.array([engine.sampler_us for engine in engines])[self._which],
            np.array([engine.sampler_us_per_request for engine in engines])[self._which],
        )

    def _table(self, moments: Floats, repeats: int) -> StepTable:
        arch_index = np.tile(self.arch_index, repeats)
        tp = np.tile(self.tp.astype(np.int64), repeats)
        return StepTable(self.architectures, arch_index, tp, moments)

    @functools.cached_property
    def _served(self) -> list[tuple[Architecture, int]]:
        """Each architecture and TP of the points, once."""
        pairs = zip(self.arch_index, self.tp, strict=True)
        return [(self.architectures[arch], int(tp)) for arch, tp in dict.fromkeys(pairs)]

    @functools.cached_property
    def _which(self) -> NDArray[np.intp]:
        """The place of every point's architecture and TP among :attr:`_served`, shape (n,)."""
        pairs = zip(self.arch_index, self.tp, strict=True)
        return np.array(
            [self._served.index((self.architectures[arch], int(tp))) for arch, tp in pairs],
            dtype=np.intp,
        )


def _cached(trace: Trace, block: int) -> float:
    """Mean tokens of a prompt that are found in the prefix cache."""
    if not block:
        return 0.0
    known = np.append(trace.prefix_tokens, 0)[trace.prefix]
    if not trace.warm and len(trace.prefix_tokens):
        _, firsts = np.unique(trace.prefix, return_index=True)
        known = known.copy()
        known[firsts] = 0
    known = np.maximum(known, trace.cached_tokens)
    return float((np.minimum(known, trace.prompt_tokens - 1) // block * block).mean())


def _rate(trace: Trace) -> float:
    """Requests a second of an open load, 0 of a closed one."""
    span_us = float(trace.arrival_us[-1])
    return (len(trace) - 1) / span_us * US_PER_S if np.isfinite(span_us) and span_us > 0 else 0.0
