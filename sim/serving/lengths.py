"""How long requests are: distributions of token counts."""

import dataclasses
import math
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.errors import WorkloadError

Ints = NDArray[np.int64]
LONGEST = 1 << 30


class Lengths(Protocol):
    """A distribution of token counts."""

    def draw(self, rng: np.random.Generator, size: int) -> Ints:
        """``size`` lengths in tokens, each ≥ 1."""


@dataclasses.dataclass(frozen=True)
class Fixed:
    """Every request has ``tokens``."""

    tokens: int

    def draw(self, rng: np.random.Generator, size: int) -> Ints:  # noqa: ARG002 - nothing to draw
        """``size`` times the same."""
        return _tokens(np.full(size, self.tokens))


@dataclasses.dataclass(frozen=True)
class Normal:
    """A normal distribution, in tokens, rounded and clipped to ``low`` … ``high``."""

    mean: float
    std: float
    low: int = 1
    high: int = LONGEST

    def draw(self, rng: np.random.Generator, size: int) -> Ints:
        """``size`` independent lengths."""
        return _tokens(np.clip(np.rint(rng.normal(self.mean, self.std, size)), self.low, self.high))


@dataclasses.dataclass(frozen=True)
class LogNormal:
    """A lognormal distribution with this mean and standard deviation of the tokens themselves, rounded and clipped."""

    mean: float
    std: float
    low: int = 1
    high: int = LONGEST

    def draw(self, rng: np.random.Generator, size: int) -> Ints:
        """``size`` independent lengths."""
        variance = math.log1p((self.std / self.mean) ** 2)
        drawn = rng.lognormal(math.log(self.mean) - variance / 2, math.sqrt(variance), size)
        return _tokens(np.clip(np.rint(drawn), self.low, self.high))


@dataclasses.dataclass(frozen=True)
class Empirical:
    """Lengths drawn with replacement from those that were seen."""

    seen: tuple[int, ...]

    def draw(self, rng: np.random.Generator, size: int) -> Ints:
        """``size`` independent lengths."""
        return _tokens(rng.choice(np.array(self.seen), size))


@dataclasses.dataclass(frozen=True)
class Listed:
    """Lengths in the order they were recorded, from the start again where there are more requests."""

    recorded: tuple[int, ...]

    def draw(self, rng: np.random.Generator, size: int) -> Ints:  # noqa: ARG002 - nothing to draw
        """The first ``size`` lengths."""
        return _tokens(np.resize(np.array(self.recorded), size))


def _tokens(drawn: ArrayLike) -> Ints:
    lengths = np.asarray(drawn)
    if not (np.all(np.isfinite(lengths)) and np.all(lengths >= 1) and np.all(lengths <= LONGEST)):
        raise WorkloadError(
            f"lengths must be 1 to {LONGEST} tokens, got {lengths.min():g} to {lengths.max():g}"
        )
    return lengths.astype(np.int64)
