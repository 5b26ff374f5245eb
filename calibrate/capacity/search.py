"""The largest rate of requests at which one replica meets an objective: bisection with common random numbers."""

import dataclasses
import math

import numpy as np

from calibrate.capacity.first_guess import first_guess
from calibrate.capacity.replica import Replica
from calibrate.capacity.requests import Asked, Requests
from calibrate.capacity.slo import Attainment, Slo, judge
from calibrate.capacity.thresholds import (
    DEVIATIONS,
    FEWEST_REQUESTS,
    FILLINGS,
    FIRST_STEP,
    GROWTH,
    LARGEST_STEP,
    MOST_REQUESTS,
    MOST_TRIALS,
    SLOWEST,
    TOLERANCE,
    WARM_UP,
)
from sim.serving.result import ServingResult, percentiles_ms
from sim.units import US_PER_S


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """A replica under one load: how the requests after the warm-up stand to the objective, and what was served."""

    rate: float
    attainment: Attainment
    served: ServingResult

    @property
    def falls_behind(self) -> bool:
        """Whether the queue grows, or what is in flight, by more than chance makes it."""
        return self.served.saturated or _grows(self.served)

    @property
    def holds(self) -> bool:
        """Whether the objective is met by an engine that keeps up."""
        return self.attainment.met and not self.falls_behind

    def latencies_ms(self) -> dict[str, dict[str, float] | None]:
        """Mean, p50, p90 and p99 in ms of the requests that are judged, by metric; None where none has any."""
        skipped = warm_up(len(self.served))
        times = {
            "ttft": self.served.ttft_us,
            "itl": self.served.itl_us,
            "e2e": self.served.e2e_us,
        }
        return {f"{name}_ms": percentiles_ms(of[skipped:]) for name, of in times.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class Alone:
    """Requests one after another: how they stand to the objective, and their mean end-to-end time."""

    attainment: Attainment
    e2e_us: float


@dataclasses.dataclass(frozen=True, eq=False)
class RateFound:
    """``best`` is the trial of the largest rate that holds, ``beyond`` that of the smallest that does not.

    ``best`` is None where not even requests one after another meet the objective, ``beyond`` where no rate misses it.
    """

    requests: Requests
    alone: Alone
    best: Trial | None
    beyond: Trial | None
    trials: int

    @property
    def rate(self) -> float:
        """Requests a second; 0 where none holds."""
        return 0.0 if self.best is None else self.best.rate

    @property
    def beyond_rate(self) -> float | None:
        """The smallest rate that was seen to miss the objective; None where none does."""
        return None if self.beyond is None else self.beyond.rate


def find_rate(
    replica: Replica, workload: Asked, slo: Slo, seed: int = 0, size: int | None = None
) -> RateFound:
    """The largest rate of a workload that ``replica`` carries within ``slo``, to one part in a hundred.

    All rates see the same requests and unit gaps, drawn with ``seed``: ``size`` of them, else as many as pass through
    the engine several times over. The search begins where the closed form of the mean load says.
    Raises WorkloadError for a request that could never be served, CalibrateError for a load without a rate.
    """
    requests = Requests.drawn(workload, seed, size or FEWEST_REQUESTS)
    alone = serve_alone(replica, requests, slo)
    if not alone.attainment.met:
        return RateFound(requests, alone, None, None, 1)
    guess = first_guess(replica, requests, slo, alone.e2e_us)
    if size is None:
        requests = Requests.drawn(workload, seed, enough(guess.in_flight))
    return search(replica, requests, slo, alone, guess.rate)


def warm_up(size: int) -> int:
    """How many of so many requests meet an engine that is still filling, and are not judged."""
    return int(WARM_UP * size)


def enough(in_flight: float) -> int:
    """Requests of a load in which so many are in flight: it must settle."""
    return int(np.clip(FILLINGS * in_flight, FEWEST_REQUESTS, MOST_REQUESTS))


def serve_alone(replica: Replica, requests: Requests, slo: Slo) -> Alone:
    """How requests that are alone stand to the objective."""
    served = replica.serve(requests.alone)
    return Alone(judge(served, slo), float(served.e2e_us.mean()))


def attempt(replica: Replica, requests: Requests, slo: Slo, rate: float) -> Trial:
    """The replica under the requests at ``rate``."""
    served = replica.serve(requests.at(rate))
    return Trial(rate, judge(served, slo, warm_up(len(requests))), served)


def _grows(served: ServingResult) -> bool:
    """Whether more requests are in flight at the last arrival than half way there, beyond chance."""
    half = len(served) // 2
    ends_us = served.arrival_us[[half, -1]]
    finished = np.searchsorted(np.sort(served.finish_us), ends_us)
    before, after = (np.array([half, len(served)]) - finished).tolist()
    chance = DEVIATIONS * math.sqrt(max(before, after, 1))
    allowed = GROWTH * (len(served) - half) + chance
    return bool(after - before > allowed)


def search(
    replica: Replica,
    requests: Requests,
    slo: Slo,
    alone: Alone,
    guess: float,
    step: float = FIRST_STEP,
    tolerance: float = TOLERANCE,
) -> RateFound:
    """Step away from ``guess``, further each time, until one rate holds and another does not; then bisect."""
    slowest = SLOWEST * US_PER_S / alone.e2e_us
    best: Trial | None = None
    beyond: Trial | None = None
    rate, trials = guess, 0
    while trials < MOST_TRIALS and (beyond is None or beyond.rate > slowest):
        trial = attempt(replica, requests, slo, rate)
        trials += 1
        best, beyond = (trial, beyond) if trial.holds else (best, trial)
        if best is None or beyond is None:
            rate *= step if trial.holds else 1.0 / step
            step = min(step**2, LARGEST_STEP)
        elif beyond.rate <= best.rate * (1.0 + tolerance):
            break
        else:
            rate = math.sqrt(best.rate * beyond.rate)
    return RateFound(requests, alone, best, beyond, trials)
