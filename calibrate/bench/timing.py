"""How long a run takes: warmed up, repeated as long as a point may last, summed up by median and spread."""

import dataclasses
import statistics
import time

from calibrate.bench.device import Clock, Device, Run
from sim.units import US_PER_S

# Clocks take some milliseconds to rise
_WARM_UP_RUNS, _LEAST_WARM_UP_S, _MOST_WARM_UP_S = (3, 0.02, 0.3)
_LEAST_REPEATS, _MOST_REPEATS = 5, 200


@dataclasses.dataclass(frozen=True)
class Timing:
    """``latency_us`` is the median of ``replicates`` runs, ``latency_std_us`` their standard deviation."""

    latency_us: float
    latency_std_us: float
    replicates: int


def measure(device: Device, run: Run, seconds: float, clock: Clock = "device") -> Timing:
    """Time ``run`` for about ``seconds``, at least five times, each with an empty cache.

    The first runs (of which kernels are chosen and compiled) are not counted.
    """
    _warm_up(device, run)
    start = time.perf_counter()
    trial_us = device.times_us(run, 1, clock)
    each_s = max(time.perf_counter() - start, trial_us[0] / US_PER_S)
    repeats = int(min(max(seconds / each_s, _LEAST_REPEATS), _MOST_REPEATS))
    times_us = device.times_us(run, repeats, clock)
    return Timing(statistics.median(times_us), statistics.stdev(times_us), repeats)


def _warm_up(device: Device, run: Run) -> None:
    start, runs, passed_s = time.perf_counter(), 0, 0.0
    while passed_s < _MOST_WARM_UP_S and (runs < _WARM_UP_RUNS or passed_s < _LEAST_WARM_UP_S):
        run()
        device.synchronize()
        runs, passed_s = runs + 1, time.perf_counter() - start
