"""How long a run takes, as nvbench measures it: cold samples until their mean is known well enough, then a batch.

Cold samples each begin with an emptied cache; their relative standard deviation is the noise. A batch is runs that
follow each other without a pause and find the cache as the run before left it.
"""

import dataclasses
import math
import statistics
import time

from calibrate.bench.device import Clock, Device, Run
from sim.units import US_PER_S

# Clocks take some milliseconds to rise
_WARM_UP_RUNS, _LEAST_WARM_UP_S, _MOST_WARM_UP_S = (3, 0.02, 0.3)
_BATCH_SHARE = 0.2  # of the samples: a batch has no spread to be learnt


@dataclasses.dataclass(frozen=True)
class Sampling:
    """When a point has been sampled enough: the relative standard error of its mean is ``max_noise`` at most.

    There are ``min_samples`` at least, whatever they take, and ``max_samples`` at most; no more are begun after
    ``timeout_s`` (None: as the sizes say).
    """

    max_noise: float = 0.005
    min_samples: int = 10
    max_samples: int = 1000
    timeout_s: float | None = None


NVBENCH = Sampling()
"""What nvbench does where nothing else is asked for: ten samples at least, a noise of 0.5%."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """``latency_us`` is the median of ``replicates`` cold samples, ``latency_std_us`` their standard deviation.

    ``noise`` is that deviation as a fraction of the mean, ``batch_us`` the time of a run of a batch.
    """

    latency_us: float
    latency_std_us: float
    replicates: int
    noise: float
    batch_us: float


def measure(
    device: Device, run: Run, sampling: Sampling, timeout_s: float, clock: Clock = "device"
) -> Timing:
    """Time ``run``. The first runs, of which kernels are chosen and compiled, are not counted."""
    _warm_up(device, run)
    samples_us = _cold_samples_us(device, run, sampling, timeout_s, clock)
    batch_us = device.batch_us(run, math.ceil(_BATCH_SHARE * len(samples_us)))
    return summary(samples_us, batch_us)


def summary(samples_us: list[float], batch_us: float) -> Timing:
    """What samples and a batch come to."""
    spread_us = statistics.stdev(samples_us)
    noise = spread_us / statistics.fmean(samples_us)
    return Timing(statistics.median(samples_us), spread_us, len(samples_us), noise, batch_us)


def _cold_samples_us(
    device: Device, run: Run, sampling: Sampling, timeout_s: float, clock: Clock
) -> list[float]:
    """Samples in rounds, each as many as there are already, until they are enough."""
    deadline_s = time.perf_counter() + timeout_s
    samples_us: list[float] = []
    wanted = max(sampling.min_samples, 2)
    while wanted > 0:
        samples_us += device.times_us(run, wanted, clock)
        left_s = deadline_s - time.perf_counter()
        wanted = _wanted(samples_us, sampling, left_s)
    return samples_us


def _wanted(samples_us: list[float], sampling: Sampling, left_s: float) -> int:
    """How many samples more; 0 once they are enough, or the time is up."""
    count = len(samples_us)
    mean_us = statistics.fmean(samples_us)
    standard_error = statistics.stdev(samples_us) / mean_us / math.sqrt(count)
    if standard_error <= sampling.max_noise or left_s <= 0:
        return 0
    in_time = math.ceil(US_PER_S * left_s / mean_us)
    return min(count, in_time, sampling.max_samples - count)


def _warm_up(device: Device, run: Run) -> None:
    start, runs, passed_s = time.perf_counter(), 0, 0.0
    while passed_s < _MOST_WARM_UP_S and (runs < _WARM_UP_RUNS or passed_s < _LEAST_WARM_UP_S):
        run()
        device.synchronize()
        runs, passed_s = runs + 1, time.perf_counter() - start
