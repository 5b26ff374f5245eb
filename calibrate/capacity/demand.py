"""What all replicas together must carry: a rate, or the busiest window and the mean of a trace."""

import dataclasses
import math

import numpy as np

from calibrate.capacity.thresholds import PEAK_WINDOW_S
from calibrate.records.errors import CalibrateError
from sim.serving.workload import Trace
from sim.units import US_PER_S


@dataclasses.dataclass(frozen=True)
class Demand:
    """Requests a second: the ``peak`` that must be carried, and the ``mean``. ``source`` says whence."""

    peak: float
    mean: float
    source: str


def demand_of_rate(rate: float) -> Demand:
    """A rate, at any time. Raises CalibrateError unless it is above 0."""
    if not (math.isfinite(rate) and rate > 0):
        raise CalibrateError(
            f"--rate {rate:g}: must be above 0 requests a second; leave it out to see what one replica carries"
        )
    return Demand(rate, rate, f"{rate:g} requests a second")


def demand_of_trace(requests: Trace, name: str) -> Demand:
    """The busiest window of a trace and its mean. Raises CalibrateError where all arrive at once."""
    arrival_s = requests.arrival_us / US_PER_S
    span_s = float(arrival_s[-1] - arrival_s[0])
    if not span_s > 0:
        raise CalibrateError(
            f"--trace {name}: all requests arrive at once: there is no rate in it; give --rate"
        )
    window_s = min(PEAK_WINDOW_S, span_s)
    within = np.searchsorted(arrival_s, arrival_s + window_s, side="right")
    busiest = float((within - np.arange(len(arrival_s))).max())
    mean = len(arrival_s) / span_s
    peak = max(busiest / window_s, mean)
    said = f"{name}: {peak:.3g} requests a second in its busiest {window_s:.3g} s, {mean:.3g} on average"
    return Demand(peak, mean, said)
