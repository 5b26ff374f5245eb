"""Logs of steps as a server has them: how often a slow-down is found, and how often one that is not there."""

import numpy as np

from benchmarks.watch.misfit import misfit
from benchmarks.watch.noises import Noise
from benchmarks.watch.setting import AFTER, BASELINE, HARDWARE, SLOWER, WITHIN, new_watch, settings
from calibrate.watch.ring import Steps
from calibrate.watch.slices import Slice
from calibrate.watch.thresholds import STEPS_A_DAY
from sim.steps.batch import Floats
from tests.watched import traffic, watched_rows


def power(noise: Noise, logs: int) -> dict[str, float]:
    """Decodes of all shapes that slow by 3% at a known step: the share found within 1,000, and before."""
    found = [_log(noise, seed) for seed in range(logs)]
    delays = [delay for delay, _ in found if delay is not None]
    return {
        "logs": logs,
        "found_within_1000": sum(delay <= WITHIN for delay in delays) / logs,
        "found_within_3000": len(delays) / logs,
        "median_delay": float(np.median(delays)) if delays else float("inf"),
        "false_alarms": sum(early for _, early in found),
    }


def _log(noise: Noise, seed: int) -> tuple[float | None, int]:
    """After how many steps a change was found, and how many alarms came before it."""
    rng = np.random.default_rng(seed)
    begin = BASELINE + 2000 + int(rng.integers(0, 1000))
    size = begin + AFTER
    steps = traffic(size, seed=seed, phases=(1.0, 0.0, 0.0))
    extra = noise(rng, size) + misfit(steps, rng)
    extra[begin:] += np.log(SLOWER)
    watch = new_watch()
    watch.take_in(watched_rows(steps, HARDWARE, log_extra=extra))
    after = [alarm.at - begin + 1 for alarm in watch.alarms if alarm.at >= begin]
    return (after[0] if after else None), sum(alarm.at < begin for alarm in watch.alarms)


def false_alarms(noise: Noise, days: int) -> dict[str, float]:
    """Days of one slice without a change, each with a reference of its own."""
    alarms = 0
    for day in range(days):
        rng = np.random.default_rng(10_000 + day)
        one = Slice(("decode",), 1, settings())
        for begin in range(0, STEPS_A_DAY + BASELINE, 500_000):
            rows = min(500_000, STEPS_A_DAY + BASELINE - begin)
            one.take_in(*_plain(noise(rng, rows), begin))
        alarms += len(one.alarms)
    return {"days": days, "alarms": alarms}


def _plain(deviation: Floats, begin: int) -> tuple[Steps, Floats]:
    """Steps of one shape."""
    rows = len(deviation)
    at = begin + np.arange(rows, dtype=np.float64)
    steps = Steps(np.zeros((8, rows)), np.zeros(rows, np.intp), deviation, at)
    return steps, np.tile(np.array([[5.0], [10.0], [0.0]]), rows)
