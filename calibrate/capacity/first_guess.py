"""Where to begin to look for a rate: the closed form of a mean load at many rates at once."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from calibrate.capacity.replica import Replica
from calibrate.capacity.requests import Requests
from calibrate.capacity.slo import METRICS, Slo
from calibrate.serving.figures import Replay
from calibrate.serving.mean_load import MeanLoad
from calibrate.serving.point import ServingPoint
from calibrate.serving.points import FIGURES
from sim.serving.workload import Closed, Workload
from sim.steps.batch import Floats
from sim.units import US_PER_MS, US_PER_S

_RATES = 48


@dataclasses.dataclass(frozen=True)
class Guess:
    """The ``rate`` (1/s) at which the mean load seems to meet an objective, and the requests ``in_flight`` there."""

    rate: float
    in_flight: float


def first_guess(replica: Replica, requests: Requests, slo: Slo, alone_us: float) -> Guess:
    """The largest rate at which means are within the limits and the engine keeps up.

    ``alone_us`` is the end-to-end time of a request that is alone: no engine serves faster than its seats allow at
    that time.
    """
    slowest = US_PER_S / alone_us
    rates = np.geomspace(slowest / 4.0, slowest * replica.engine.max_num_seqs, _RATES)
    times_us = _mean_times_us(replica, requests, rates)
    in_flight = rates * times_us["e2e"] / US_PER_S
    holds = _keeps_up(replica, requests, rates, in_flight, times_us["itl"])
    for limit in slo.limits:
        holds &= ~(times_us[limit.metric] > limit.most_us)
    good = np.flatnonzero(holds)
    at = int(good[-1]) if len(good) else 0
    return Guess(float(rates[at]), float(max(in_flight[at], 1.0)))


def _mean_times_us(replica: Replica, requests: Requests, rates: Floats) -> dict[str, Floats]:
    lengths = requests.unit
    size = len(lengths)
    # the closed form reads requests, not how they were drawn
    unread = Workload(size, Closed(1), lengths, lengths)  # type: ignore[arg-type]
    point = ServingPoint(replica.arch, replica.tp, unread, replica.engine)
    traces = [(requests.at(float(rate)),) for rate in rates]
    replay = Replay((point,) * len(rates), tuple(traces))
    figures = MeanLoad.of(replay).figures_ms(replica.model, replica.hardware) * US_PER_MS
    return {metric: figures[:, FIGURES.index((metric, "mean"))] for metric in METRICS}


def _keeps_up(
    replica: Replica, requests: Requests, rates: Floats, in_flight: Floats, itl_us: Floats
) -> NDArray[np.bool_]:
    """Whether seats, budget and cache hold what is in flight, (n,)."""
    prompt = float(requests.unit.prompt_tokens.mean())
    output = float(requests.unit.output_tokens.mean())
    engine = replica.engine
    step_s = np.nan_to_num(itl_us) / US_PER_S
    seated: NDArray[np.bool_] = in_flight <= engine.max_num_seqs
    computed = rates * step_s * (prompt + output) <= engine.max_num_batched_tokens
    cached = in_flight * (prompt + output / 2.0) <= engine.kv_cache_tokens
    return seated & computed & cached
