"""A sequential test whose false alarms are bounded for any length of stream: CUSUM over e-values of batches.

Under no change a batch's deviation z, in standard deviations, has mean 0 or less (towards either side, beyond the
tolerance), so that e^(λz − λ²/2) is an e-value. The Shiryaev-Roberts sum of their products, less the number of batches,
is a supermartingale, and CUSUM is never above that sum: within N batches the chance of reaching c is N/c at the most
(Doob; Shin, Ramdas, Rinaldo 2023, e-detectors). Slice k in order of appearance gets 1/(k·(k + 1)) of the rate, which
adds up to all of it, however many slices come.
"""

import dataclasses
import math

import numpy as np

from calibrate.watch.thresholds import BETS, STEPS_A_DAY, SURPRISE
from sim.steps.batch import Floats

_BETS = np.concatenate([BETS, np.negative(BETS)])
_COST = 0.5 * _BETS**2


def log_threshold(slice_number: int, steps_in_batch: int, false_alarms: float) -> float:
    """Ln c of the slice that came as number ``slice_number`` (from 1), for ``false_alarms`` a day over all slices."""
    batches_a_day = STEPS_A_DAY / steps_in_batch
    share = slice_number * (slice_number + 1)
    return math.log(batches_a_day * share * len(_BETS) / false_alarms)


@dataclasses.dataclass
class Detector:
    """CUSUM of every bet, towards slower (first half) and faster; ``since`` is where each last began to rise."""

    logs: Floats = dataclasses.field(default_factory=lambda: np.zeros(len(_BETS)))
    since: Floats = dataclasses.field(default_factory=lambda: np.full(len(_BETS), np.nan))

    def update(self, slower: float, faster: float, at: float) -> None:
        """Take in one batch that begins ``at``: its deviations beyond the tolerance towards either side."""
        half = len(BETS)
        z = np.empty(len(_BETS))
        z[:half] = max(min(slower, SURPRISE), -SURPRISE)
        z[half:] = max(min(faster, SURPRISE), -SURPRISE)
        begins = self.logs <= 0.0
        self.since[begins] = at
        self.logs[begins] = 0.0
        self.logs += _BETS * z - _COST

    @property
    def level(self) -> float:
        """The largest of all statistics, as a logarithm."""
        return float(self.logs.max())

    @property
    def began(self) -> float:
        """Where the largest of them began to rise: the estimate of when the change came."""
        return float(self.since[self.logs.argmax()])
