"""How far batches of steps scatter, steps that err together included."""

import dataclasses
import math

import numpy as np
from scipy import stats

from calibrate.watch.reference import spread
from calibrate.watch.thresholds import CLIPPED, LONGEST_RUN, SPREAD_SURE, TOLERANCE
from sim.steps.batch import Floats


@dataclasses.dataclass(frozen=True)
class Noise:
    """``step`` is one step's spread about the reference, ``batch`` that of a batch's mean as the test takes it.

    ``inflation`` is how many times the variance of a mean is what independent steps would give it.
    """

    step: float
    batch: float
    inflation: float

    def mean(self, values: Floats, about: float = 0.0) -> float:
        """The mean of deviations (n,), those far from ``about`` as far as counts."""
        return float(self.means(values[None], about)[0])

    def means(self, values: Floats, about: float = 0.0) -> Floats:
        """The mean of each row of deviations, likewise, shape (rows,)."""
        most = CLIPPED * max(
            self.step, TOLERANCE
        )  # or steps that hardly scatter could never leave the tolerance
        means: Floats = np.clip(values, about - most, about + most).mean(axis=1)
        return means

    def standard_error(self, steps: int) -> float:
        """That of the mean of so many steps."""
        return self.step * math.sqrt(self.inflation / max(steps, 1))


_LEAST = 1e-4
"""Batches that scatter by less are one another's copies, as of a simulator."""


def learn_noise(deviation: Floats, steps_in_batch: int) -> Noise:
    """The noise of deviations (n,) from the reference, in the order in which they came.

    The variance of a batch's mean is the largest that means over 1 to 10 batches suggest: correlation beyond a batch
    shows in the longer ones. Of it the upper end counts (χ², one degree a batch).
    """
    step = max(spread(deviation), _LEAST)
    alone = Noise(step, step, 1.0)
    count = len(deviation) // steps_in_batch
    batches = np.array(
        [alone.mean(part) for part in np.split(deviation[: count * steps_in_batch], count)]
    )
    variance = max(_variance_of_runs(batches, length) for length in _lengths(count))
    upper = (count - 1) / float(stats.chi2.ppf(1.0 - SPREAD_SURE, count - 1))
    batch = max(math.sqrt(variance * upper), _LEAST)
    return Noise(step, batch, max(variance * steps_in_batch / step**2, 1.0))


def _lengths(count: int) -> list[int]:
    longer = [length for length in (2, 5, LONGEST_RUN) if count // length >= LONGEST_RUN]
    return [1, *longer]


def _variance_of_runs(batches: Floats, length: int) -> float:
    """The variance of one batch that means of ``length`` batches suggest, were batches independent."""
    count = len(batches) // length
    means = batches[: count * length].reshape(count, length).mean(axis=1)
    return length * float(means.var(ddof=1))
