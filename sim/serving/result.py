"""What a simulated server did: times of every request, every step, and a summary in numbers and words."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.serving.engine import EngineLimits
from sim.steps.batch import StepTable
from sim.steps.runs import Floats
from sim.units import US_PER_MS, US_PER_S

REASONS = ("", "max_num_seqs", "the KV cache", "max_num_batched_tokens")
"""What keeps the head of the queue out, by the numbers of :attr:`Steps.waited_for`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Steps:
    """The engine's steps in order; every array is (n,).

    ``waited_for`` says what kept the head of the queue out: 0 nothing, 1 ``max_num_seqs``, 2 the KV cache, 3
    ``max_num_batched_tokens``. ``kv_blocks`` are the blocks in use when the step was scheduled, its own included.
    """

    table: StepTable
    start_us: Floats
    duration_us: Floats
    waited_for: NDArray[np.int64]
    kv_blocks: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.start_us)

    def columns(self) -> dict[str, Any]:
        """The steps as columns of a campaign's ``steps`` table, with ``latency_us`` and ``start_us``."""
        return {**self.table.columns(), "latency_us": self.duration_us, "start_us": self.start_us}


@dataclasses.dataclass(frozen=True, eq=False)
class StepTotals:
    """What a summary needs of n steps: their number, duration in all and by what was waited for (4,), blocks in use."""

    count: int
    busy_us: float
    waited_us: Floats
    peak_blocks: int

    @classmethod
    def of(
        cls, duration_us: Floats, waited_for: NDArray[np.int64], kv_blocks: NDArray[np.int64]
    ) -> "StepTotals":
        """Those of some steps, each array (n,)."""
        waited = np.bincount(waited_for, weights=duration_us, minlength=len(REASONS))
        waited_us = waited.astype(np.float64)
        peak = int(kv_blocks.max(initial=0))
        return cls(len(duration_us), float(duration_us.sum()), waited_us, peak)

    def __add__(self, other: "StepTotals") -> "StepTotals":
        return StepTotals(
            self.count + other.count,
            self.busy_us + other.busy_us,
            self.waited_us + other.waited_us,
            max(self.peak_blocks, other.peak_blocks),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class ServingResult:
    """n requests in order of arrival; every array is (n,), times in µs since the start.

    ``joined_us`` is the start of the first step a request is in. ``steps`` are empty where they were not kept; their
    ``totals`` are known all the same. The rules are those of :mod:`sim.serving.simulation`.
    """

    engine: EngineLimits
    closed: bool
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    arrival_us: Floats
    joined_us: Floats
    first_token_us: Floats
    finish_us: Floats
    preemptions: NDArray[np.int64]
    steps: Steps
    totals: StepTotals

    def __len__(self) -> int:
        return len(self.arrival_us)

    @property
    def ttft_us(self) -> Floats:
        """Time to first token."""
        return self.first_token_us - self.arrival_us

    @property
    def e2e_us(self) -> Floats:
        """Time to the last token."""
        return self.finish_us - self.arrival_us

    @property
    def itl_us(self) -> Floats:
        """Mean time between a request's tokens, (E2E − TTFT)/(output − 1); NaN for an output of one token."""
        gaps = np.where(self.output_tokens > 1, self.output_tokens - 1.0, np.nan)
        return (self.finish_us - self.first_token_us) / gaps

    @property
    def queueing_us(self) -> Floats:
        """Time until the first step that computes something of a request."""
        return self.joined_us - self.arrival_us

    @property
    def duration_us(self) -> float:
        """From the first arrival to the last token."""
        return float(self.finish_us.max() - self.arrival_us.min())

    def columns(self) -> dict[str, Any]:
        """One entry a request, for a table: tokens, times in µs, preemptions."""
        names = (
            "prompt_tokens",
            "output_tokens",
            "arrival_us",
            "queueing_us",
            "ttft_us",
            "itl_us",
            "e2e_us",
        )
        return {**{name: getattr(self, name) for name in names}, "preemptions": self.preemptions}

    def summary(self) -> dict[str, Any]:
        """Latencies in ms (mean, p50, p90, p99; None without any), throughput, steps, and saturation in words."""
        seconds = self.duration_us / US_PER_S
        return {
            "requests": len(self),
            "duration_s": seconds,
            "requests_per_s": len(self) / seconds,
            "output_tokens_per_s": float(self.output_tokens.sum()) / seconds,
            "prompt_tokens_per_s": float(self.prompt_tokens.sum()) / seconds,
            "ttft_ms": percentiles_ms(self.ttft_us),
            "itl_ms": percentiles_ms(self.itl_us),
            "e2e_ms": percentiles_ms(self.e2e_us),
            "queueing_ms": percentiles_ms(self.queueing_us),
            "steps": self.totals.count,
            "busy": self.totals.busy_us / self.duration_us,
            "preemptions": int(self.preemptions.sum()),
            "kv_cache_peak": self.totals.peak_blocks / self.engine.blocks,
            "saturated": self.saturated,
            "saturation": self.saturation,
        }

    @property
    def saturated(self) -> bool:
        """Whether an open load outran the engine: the queueing of its last quarter is over twice that of its second.

        Queues of a few steps do not count. A queue that grows all the time gives 7/3; one that has settled gives 1.
        """
        if self.closed or len(self) < 8:
            return False
        quarters = [
            float(part.mean())
            for part in np.array_split(
                self.queueing_us - self.engine.delay_us(self.prompt_tokens), 4
            )
        ]
        step_us = self.totals.busy_us / self.totals.count
        return quarters[3] > 2.0 * quarters[1] and quarters[3] > 5.0 * step_us

    @property
    def saturation(self) -> str:
        """One sentence: whether the engine kept up, and what held requests back."""
        waited, busy_us = self.totals.waited_us, self.totals.busy_us
        share = waited / busy_us if busy_us > 0 else waited
        most = int(np.argmax(share[1:])) + 1
        held = (
            f"; requests waited for {REASONS[most]} in {share[most]:.0%} of the engine's time"
            if share[most]
            else ""
        )
        again = f"; {int(self.preemptions.sum())} preemptions" if self.preemptions.any() else ""
        return self._pace() + held + again

    def _pace(self) -> str:
        finished = len(self) / self.duration_us * US_PER_S
        if self.closed:
            return f"closed load: {finished:.3g} requests a second"
        span = float(self.arrival_us[-1] - self.arrival_us[0]) / US_PER_S
        offered = f"{(len(self) - 1) / span:.3g} a second" if span > 0 else "all at once"
        if not self.saturated:
            return f"the engine keeps up with requests that arrive {offered}"
        queue = float(self.queueing_us[-max(len(self) // 10, 1) :].mean()) / US_PER_S
        return (
            f"saturated: requests arrive {offered} and are finished {finished:.3g} a second; the last tenth "
            f"queued for {queue:.3g} s, and would for longer in a longer run"
        )


def percentiles_ms(times_us: Floats) -> dict[str, float] | None:
    """Mean and percentiles in ms of what is not NaN."""
    times = times_us[~np.isnan(times_us)] / US_PER_MS
    if not len(times):
        return None
    p50, p90, p99 = np.percentile(times, [50, 90, 99])
    return {"mean": float(times.mean()), "p50": float(p50), "p90": float(p90), "p99": float(p99)}
