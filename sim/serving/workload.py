"""What a server is asked: when requests arrive, how long they are, and what of them is cached.

A :class:`Workload` says it by distributions; :meth:`Workload.draw` makes a :class:`Trace` of it, request by request.
"""

import dataclasses
import math
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.errors import WorkloadError
from sim.serving.lengths import LONGEST, Ints, Lengths
from sim.steps.runs import Floats
from sim.units import US_PER_S

MOST_REQUESTS = 100_000_000
"""Requests of a workload at the most; each takes 120 bytes."""


class Load(Protocol):
    """When requests arrive."""

    def arrivals_us(self, rng: np.random.Generator, size: int) -> Floats:
        """Arrival times in µs, ascending; infinite where a request waits for another's end."""


@dataclasses.dataclass(frozen=True)
class Constant:
    """One request every 1/``rate`` seconds, the first at 0."""

    rate: float

    def arrivals_us(self, rng: np.random.Generator, size: int) -> Floats:  # noqa: ARG002 - nothing to draw
        """Equal gaps from 0 on."""
        return np.arange(size, dtype=np.float64) * (US_PER_S / _positive("rate", self.rate))


@dataclasses.dataclass(frozen=True)
class Gamma:
    """Independent gamma gaps at ``rate`` requests a second; ``cv`` is their standard deviation over their mean."""

    rate: float
    cv: float

    def arrivals_us(self, rng: np.random.Generator, size: int) -> Floats:
        """The first arrival is one gap after 0."""
        shape = 1.0 / _positive("cv", self.cv) ** 2
        return np.cumsum(rng.gamma(shape, US_PER_S / (_positive("rate", self.rate) * shape), size))


@dataclasses.dataclass(frozen=True)
class Poisson:
    """Independent exponential gaps at ``rate`` requests a second."""

    rate: float

    def arrivals_us(self, rng: np.random.Generator, size: int) -> Floats:
        """The first arrival is one gap after 0."""
        return np.cumsum(rng.exponential(US_PER_S / _positive("rate", self.rate), size))


@dataclasses.dataclass(frozen=True)
class Stage:
    """Exponential gaps rescaled so that the last arrival is at size/``rate`` seconds: a stage of inference-perf."""

    rate: float

    def arrivals_us(self, rng: np.random.Generator, size: int) -> Floats:
        """The first arrival is one gap after 0, the last at the end of the stage."""
        ends: Floats = np.cumsum(rng.exponential(1.0, size))
        stage_us = size * US_PER_S / _positive("rate", self.rate)
        return ends * float(stage_us / ends[-1])


@dataclasses.dataclass(frozen=True)
class Arrivals:
    """Recorded arrival times in seconds, ascending."""

    times_s: tuple[float, ...]

    def arrivals_us(self, rng: np.random.Generator, size: int) -> Floats:  # noqa: ARG002 - nothing to draw
        """The first ``size`` of them. Raises WorkloadError where there are fewer."""
        if len(self.times_s) < size:
            raise WorkloadError(
                f"{size} requests need as many arrival times; there are {len(self.times_s)}"
            )
        return np.array(self.times_s[:size], dtype=np.float64) * US_PER_S


@dataclasses.dataclass(frozen=True)
class Closed:
    """``concurrency`` clients: all send at 0, and each again as soon as it has its answer."""

    concurrency: int

    def arrivals_us(self, rng: np.random.Generator, size: int) -> Floats:  # noqa: ARG002 - nothing to draw
        """0 for the first ``concurrency`` requests, infinite for those that follow an answer."""
        if self.concurrency != int(self.concurrency) or self.concurrency < 1:
            raise WorkloadError(f"concurrency must be a whole number ≥ 1, got {self.concurrency!r}")
        return np.where(np.arange(size) < self.concurrency, 0.0, np.inf)


@dataclasses.dataclass(frozen=True, eq=False)
class Trace:
    """n requests in order of arrival.

    ``arrival_us`` (n,) ascends; it is infinite for requests of a closed load that wait for an answer. ``cached_tokens``
    (n,) of a prompt are in the cache from the start, for that request alone. ``prefix`` (n,) is the shared prefix a
    prompt begins with (−1: none) and ``prefix_tokens`` (g,) are their lengths; with ``warm`` they are cached from the
    start, in their order as far as the cache goes, otherwise the first request that has one computes it.

    Raises WorkloadError naming the first bad request.
    """

    arrival_us: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    cached_tokens: Ints
    prefix: Ints
    prefix_tokens: Ints
    warm: bool = False

    def __post_init__(self) -> None:
        size = len(self.arrival_us)
        if not size:
            raise WorkloadError("a workload needs at least one request")
        for name in ("prompt_tokens", "output_tokens", "cached_tokens", "prefix"):
            if len(getattr(self, name)) != size:
                raise WorkloadError(
                    f"{name} has {len(getattr(self, name))} entries for {size} requests"
                )
        before = np.append(0.0, self.arrival_us[:-1])
        self._check(self.arrival_us >= before, "arrives before the one ahead of it, or before 0")
        self._check(np.isfinite(self.arrival_us[:1]), "never arrives")
        self._check(
            (self.prompt_tokens >= 1) & (self.output_tokens >= 1),
            "needs a prompt and an output of ≥ 1 token",
        )
        self._check(self.cached_tokens >= 0, "has a negative number of cached tokens")
        self._check(self.prefix < len(self.prefix_tokens), "has a prefix without a length")
        length = np.append(self.prefix_tokens, 0)[np.maximum(self.prefix, -1)]
        self._check(length <= self.prompt_tokens, "has a prompt shorter than its prefix")

    def __len__(self) -> int:
        return len(self.arrival_us)

    @property
    def longest(self) -> int:
        """Tokens of the longest request, prompt and output; 0 without one."""
        return int((self.prompt_tokens + self.output_tokens).max(initial=0))

    @property
    def running_tokens(self) -> float:
        """Tokens that a running request has on average: its prompt and half of its output."""
        return float((self.prompt_tokens + self.output_tokens / 2.0).mean())

    def draw(self, seed: int) -> "Trace":  # noqa: ARG002 - nothing to draw
        """The trace itself."""
        return self

    def _check(self, good: NDArray[np.bool_], what: str) -> None:
        if not good.all():
            raise WorkloadError(f"request {int(np.argmin(good))} {what}")


def trace(
    arrival_s: ArrayLike,
    prompt_tokens: ArrayLike,
    output_tokens: ArrayLike,
    cached_tokens: ArrayLike = 0,
) -> Trace:
    """A trace of recorded requests, without shared prefixes: seconds and tokens, (n,) or one number for all.

    Raises WorkloadError for tokens that are not whole, and what :class:`Trace` refuses.
    """
    arrival_us = np.atleast_1d(np.asarray(arrival_s, dtype=np.float64)) * US_PER_S
    prompt, output, cached = (
        np.broadcast_to(_whole(given), arrival_us.shape)
        for given in (prompt_tokens, output_tokens, cached_tokens)
    )
    none = np.zeros(0, dtype=np.int64)
    return Trace(arrival_us, prompt, output, cached, _same(-1, len(arrival_us)), none)


@dataclasses.dataclass(frozen=True)
class Workload:
    """``num_requests`` requests by their distributions.

    ``shared_tokens`` of a system prompt stand before every prompt's own tokens, one of ``num_shared`` chosen at random.
    With ``distinct_prompts`` > 0 there are so many prompts, asked again and again in turn: each is a prefix as a
    whole. Prefixes start cold, or ``warm``.
    """

    num_requests: int
    load: Load
    prompt: Lengths
    output: Lengths
    shared_tokens: int = 0
    num_shared: int = 1
    distinct_prompts: int = 0
    warm: bool = False

    def draw(self, seed: int) -> Trace:
        """Its requests for this seed. Raises WorkloadError for a distribution that cannot be."""
        if self.num_requests < 1:
            raise WorkloadError(f"num_requests must be ≥ 1, got {self.num_requests!r}")
        for name in ("num_requests", "num_shared", "distinct_prompts"):
            if (count := getattr(self, name)) > MOST_REQUESTS:
                raise WorkloadError(
                    f"{name} = {count:,} is more than {MOST_REQUESTS:,}, which fill 12 GB: a part of them tells as much"
                )
        # Each choice has its own numbers
        size = self.num_requests
        streams = np.random.default_rng(seed).spawn(4)
        arrival_us = self.load.arrivals_us(streams[0], size)
        output = self.output.draw(streams[2], size)
        if self.distinct_prompts > 0:
            prefix_tokens = self.prompt.draw(streams[1], self.distinct_prompts) + self.shared_tokens
            prefix = np.arange(size) % self.distinct_prompts
            prompt = prefix_tokens[prefix]
        else:
            prompt = self.prompt.draw(streams[1], size) + self.shared_tokens
            count = self.num_shared if self.shared_tokens > 0 else 0
            prefix_tokens = np.full(count, self.shared_tokens, dtype=np.int64)
            prefix = streams[3].integers(0, count, size) if count else _same(-1, size)
        return Trace(
            arrival_us,
            prompt,
            output,
            _same(0, size),
            prefix,
            prefix_tokens,
            self.warm,
        )


def _same(token: int, size: int) -> Ints:
    """So many entries of one value, which take the memory of one."""
    return np.broadcast_to(np.int64(token), size)


def _whole(given: ArrayLike) -> Ints:
    tokens = np.asarray(given, dtype=np.float64)
    if not (np.all(tokens == np.floor(tokens)) and np.all(np.abs(tokens) <= LONGEST)):
        raise WorkloadError(f"tokens must be whole numbers up to {LONGEST}")
    return tokens.astype(np.int64)


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise WorkloadError(f"{name} must be positive, got {value!r}")
    return value
