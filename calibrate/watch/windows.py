"""What is kept of a slice's past: its windows, a limited number of them."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from calibrate.records.interval import Z90
from calibrate.watch.thresholds import MOST_WINDOWS


@dataclasses.dataclass(frozen=True)
class Window:
    """Some steps of a slice in turn, from ``begins`` to ``ends``, of which a share is ``outside`` of the reference.

    ``log_factor`` is ln(measured/predicted) and ``log_change`` what that differs by from the reference, NaN where it is
    not learned yet or no step is inside; ``error`` is the standard error of both.
    """

    begins: float
    ends: float
    steps: int
    outside: float
    log_factor: float
    log_change: float
    error: float

    @property
    def factor(self) -> float:
        """Measured over predicted."""
        return float(np.exp(self.log_factor))

    @property
    def ci90(self) -> tuple[float, float]:
        """The factor's 90% interval."""
        low, high = np.exp(self.log_factor + np.array([-Z90, Z90]) * self.error)
        return float(low), float(high)

    @property
    def change(self) -> float | None:
        """The factor over the reference, − 1."""
        return None if np.isnan(self.log_change) else float(np.expm1(self.log_change))


def kept(windows: list[Window]) -> list[Window]:
    """The windows or, where there are too many, every two of them as one."""
    if len(windows) <= MOST_WINDOWS:
        return windows
    pairs = zip(windows[::2], windows[1::2], strict=False)
    odd = windows[-1:] if len(windows) % 2 else []
    return [*(_together(pair) for pair in pairs), *odd]


def _together(pair: Sequence[Window]) -> Window:
    first, last = pair
    steps = first.steps + last.steps
    share = first.steps / steps

    def mean(a: float, b: float) -> float:
        return share * a + (1.0 - share) * b

    return Window(
        first.begins,
        last.ends,
        steps,
        mean(first.outside, last.outside),
        mean(first.log_factor, last.log_factor),
        mean(first.log_change, last.log_change),
        float(np.hypot(share * first.error, (1.0 - share) * last.error)),
    )
