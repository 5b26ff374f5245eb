"""TTFT, ITL and E2E of load points in closed form: the mean step at the mean batch, without a queue.

It costs a few predictions of n steps, so that a fit can start from it; the simulator has the last word.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from calibrate.serving.figures import Replay
from calibrate.serving.points import FIGURES, METRICS, STATISTICS
from sim.architecture import Architecture
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.serving.engine import EngineLimits
from sim.serving.workload import Trace
from sim.steps.batch import Floats, StepTable
from sim.units import US_PER_MS, US_PER_S

_ROUNDS = 60
_SETTLED = 1e-6
_MEANS = [FIGURES.index((metric, "mean")) for metric in METRICS]


_StepTimes = Callable[[Floats], Floats]


@dataclasses.dataclass(frozen=True, eq=False)
class MeanLoad:
    """n load points by their means; every array is (n,). ``rate`` (1/s) is NaN for a closed load, else ``clients`` is.

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
        return cls(
            architectures,
            np.array([architectures.index(point.arch) for point in replay.points], dtype=np.intp),
            np.array([point.tp for point in replay.points], dtype=np.float64),
            prompt - cached,
            cached,
            np.array([trace.output_tokens.mean() for trace in traces]),
            np.array([_rate(trace) for trace in traces]),
            np.array([float(np.isfinite(trace.arrival_us).sum()) for trace in traces]),
            np.array([float(engine.max_num_seqs) for engine in engines]),
            np.array([float(engine.max_num_batched_tokens) for engine in engines]),
            np.array([float(engine.async_scheduling) for engine in engines]),
        )

    def figures_ms(self, model: LatencyModel, hardware: Hardware) -> Floats:
        """Mean TTFT, ITL and E2E in ms in the columns of :data:`FIGURES`, shape (n, 12); NaN in all others."""
        api = hardware.values.get("apiMicros", 0.0) + hardware.values.get(
            "apiPromptTokenMicros", 0.0
        ) * (self.new + self.context)
        out = hardware.values.get("apiOutputTokenMicros", 0.0)
        chunks = np.maximum(self.new / self.budget, 1.0)
        none = np.zeros_like(self.tp)
        step_times = self._step_times(model, hardware)
        (itl,) = self._steps_us(step_times, [none], none + 1.0)
        ttft = itl
        for _ in range(_ROUNDS):
            e2e = ttft + (self.output - 1.0) * itl
            rate = np.where(
                np.isnan(self.rate),
                self.clients / (api + e2e + out * self.output),
                self.rate / US_PER_S,
            )
            batch = np.minimum(rate * (self.output - 1.0) * itl, self.seats)
            busy = np.minimum(rate * e2e, 1.0)
            prompts = np.maximum(rate * itl, 1e-9)
            # The share of steps that have a prompt, as Poisson arrivals make it
            filled = -np.expm1(-prompts * chunks)
            computed = [none, prompts / filled, np.maximum(prompts, 1.0 / chunks)]
            bare, mixed, chunk = self._steps_us(step_times, computed, batch)
            mean = bare + filled * (mixed - bare)
            known = ttft
            ttft = 0.5 * (ttft + (0.5 + self.ahead) * busy * itl + chunk * chunks)
            itl = np.sqrt(itl * mean)
            if max(np.abs(ttft / known - 1.0).max(), np.abs(mean / itl - 1.0).max()) < _SETTLED:
                break
        found = np.full((len(self.tp), len(FIGURES)), np.nan)
        found[:, _MEANS] = np.column_stack(
            [
                api + ttft + out,
                np.where(self.output > 1, itl + out, np.nan),
                api + ttft + (self.output - 1.0) * itl + out * self.output,
            ]
        )
        return found / US_PER_MS

    def statistics_ms(self, model: LatencyModel, hardware: Hardware) -> Floats:
        """The same with every statistic of a metric taken as its mean, 1 where that is not known, shape (n, 12)."""
        means = self.figures_ms(model, hardware)[:, _MEANS]
        known: Floats = np.nan_to_num(means, nan=1.0)
        return known.repeat(len(STATISTICS), axis=1)

    def _steps_us(
        self, step_times: _StepTimes, prompts: Sequence[Floats], decodes: Floats
    ) -> Floats:
        """Mean steps of so many prompts each and so many decodes, all fractions, shape (len(prompts), n), µs.

        They are asked for together: asking costs more than a step.
        """
        joined = np.concatenate([self._moments(one, decodes) for one in prompts], axis=1)
        return step_times(joined).reshape(len(prompts), -1)

    def _step_times(self, model: LatencyModel, hardware: Hardware) -> _StepTimes:
        """What gives steps of moments (8, k·n) their durations in µs (k·n,), the sampler's time in them."""
        from sim.serving.step_kernels import EXTERNAL, step_kernel, step_times_us

        kernels = [step_kernel(model, arch, hardware, tp) for arch, tp in self._served]
        engines = [EngineLimits().with_request_times(hardware, arch) for arch, _ in self._served]
        whole = np.array([engine.sampler_us for engine in engines])[self._which]
        each = np.array([engine.sampler_us_per_request for engine in engines])[self._which]

        def times_us(moments: Floats) -> Floats:
            repeats = moments.shape[1] // len(self.tp)
            if kernels[0].kind == EXTERNAL:
                times = model.predict_us(self._table(moments, repeats), hardware)
            else:
                times = step_times_us(kernels, np.tile(self._which, repeats), moments)
            requests = moments[0] + moments[6]
            total: Floats = times + np.tile(whole, repeats) + np.tile(each, repeats) * requests
            return total

        return times_us

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

    def _moments(self, prompts: Floats, decodes: Floats) -> Floats:
        """The moments of one mean step of every load point, shape (8, n)."""
        new = np.minimum(prompts * self.new, self.budget)
        pairs = new * (self.context + (np.minimum(self.new, self.budget) - 1.0) / 2.0)
        none = np.zeros_like(new)
        length = self.new + self.context + self.output / 2.0
        share = np.where(self.new > 0, new / np.maximum(self.new, 1.0), 0.0)
        return np.array(
            [prompts, new, share * self.context, none, none, pairs, decodes, decodes * length]
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
    """Requests a second of an open load, NaN of a closed one."""
    span_us = float(trace.arrival_us[-1])
    return (len(trace) - 1) / span_us * US_PER_S if np.isfinite(span_us) and span_us > 0 else np.nan
