"""What keeps a replica from carrying more, in words."""

import dataclasses

import numpy as np

from calibrate.capacity.search import RateFound, Trial
from calibrate.capacity.thresholds import QUEUED, SLOWEST_PERCENTILE
from sim.serving.result import REASONS

_KEYS = (None, "max_num_seqs", "kv_cache", "max_num_batched_tokens")
_OTHERS = {"goodput": "goodput", "saturation": "the engine falls behind"}


@dataclasses.dataclass(frozen=True)
class Binding:
    """The ``limits`` that a little more load misses, what requests then ``wait_for`` (None: nothing), and ``words``.

    ``limits`` are names of the objective's, ``goodput``, and ``saturation`` where the engine falls behind.
    """

    limits: tuple[str, ...]
    waits_for: str | None
    words: str


def what_binds(found: RateFound) -> Binding:
    """What binds at the rate found."""
    if found.best is None and not found.alone.attainment.met:
        missed = found.alone.attainment.missed
        return Binding(missed, None, f"{_named(missed)} even for one request at a time")
    if found.beyond is None:
        return Binding((), None, "nothing at any rate that was tried")
    return _at(found.beyond)


def _at(trial: Trial) -> Binding:
    behind = ("saturation",) if trial.falls_behind else ()
    limits = (*trial.attainment.missed, *behind)
    named = _named(limits)
    reason = _waited_for(trial) if _queues(limits) else 0
    if not reason:
        return Binding(limits, None, f"{named}: steps take too long")
    return Binding(limits, _KEYS[reason], f"{named}: requests wait for {REASONS[reason]}")


def _queues(limits: tuple[str, ...]) -> bool:
    """Whether a queue can be what misses these: gaps between tokens have none."""
    own = [name for name in limits if name != "goodput"] or limits
    return any(not name.startswith("itl") for name in own)


def _waited_for(trial: Trial) -> int:
    """What the slowest requests waited for, by the numbers of the engine's steps; 0 where they hardly queued."""
    served = trial.served
    over_e2e = any(name.startswith("e2e") for name in trial.attainment.missed)
    times_us = served.e2e_us if over_e2e else served.ttft_us
    slowest = times_us >= np.percentile(times_us, SLOWEST_PERCENTILE)
    queued = float(served.queueing_us[slowest].sum() / times_us[slowest].sum())
    waited_us = served.totals.waited_us[1:]
    if queued < QUEUED or not waited_us.any():
        return 0
    return int(waited_us.argmax()) + 1


def _named(limits: tuple[str, ...]) -> str:
    words = []
    for name in limits:
        metric, _, statistic = name.partition("_")
        words.append(f"{metric.upper()} {statistic}" if statistic else _OTHERS[name])
    return ", ".join(words)


def unreachable(found: RateFound) -> str:
    """Why no rate meets an objective, with the figures that miss it."""
    if found.alone.attainment.met:
        return "the objective is out of reach at any rate: requests arrive in bursts that it does not allow"
    attainment = found.alone.attainment
    beyond = [
        f"{figure}, against {figure.limit}" for figure in attainment.figures if not figure.met
    ]
    said = beyond or [f"{attainment.share:.1%} of requests are within all limits"]
    return f"the objective is out of reach even for one request at a time: {', '.join(said)}"
