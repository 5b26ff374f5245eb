"""Intervals as they are written, open on a side where the data does not bound it, and what they were made from."""

import dataclasses
import math

Z90 = 1.6449
"""A normal distribution has 90% within this many standard deviations of its mean."""

Interval = tuple[float | None, float | None]
"""Low and high end; None where the data does not bound that side."""


def ends(interval: Interval) -> tuple[float, float]:
    """Low and high end; infinite where the data does not bound that side."""
    low, high = interval
    return (-math.inf if low is None else low), (math.inf if high is None else high)


def overlap(a: Interval | None, b: Interval | None) -> bool | None:
    """Whether two intervals meet; None where one is missing."""
    if a is None or b is None:
        return None
    (low_a, high_a), (low_b, high_b) = ends(a), ends(b)
    return low_a <= high_b and low_b <= high_a


@dataclasses.dataclass(frozen=True)
class ProfileCurve:
    """How the cost rises along one parameter, the others following; the interval ends where the rise crosses 1."""

    values: tuple[float, ...]
    rise: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class BootstrapSummary:
    """Estimates by parameter of so many ``samples``, None where one does not show it; ``failed`` are left out."""

    samples: int
    failed: int
    values: dict[str, list[float | None]]


@dataclasses.dataclass(frozen=True)
class McmcSummary:
    """Some draws by parameter of a chain; ``note`` says where it was too short."""

    samples: int
    acceptance: float
    autocorrelation: float
    note: str
    values: dict[str, list[float]]
