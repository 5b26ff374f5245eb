"""The largest rate of every candidate, and of every server that each could turn out to be."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np

from calibrate.capacity.binding import unreachable
from calibrate.capacity.candidates import Candidate, Excluded, Replicas
from calibrate.capacity.replica import Replica
from calibrate.capacity.requests import Asked, Requests
from calibrate.capacity.search import RateFound, Trial, attempt, find_rate, search
from calibrate.capacity.slo import Slo
from calibrate.capacity.thresholds import (
    CURVE,
    DRAW_SHARE,
    DRAW_STEP,
    DRAW_TOLERANCE,
    FEWEST_REQUESTS,
)
from calibrate.capacity.uncertainty import Draw, Uncertainty
from calibrate.records.workers import in_parts
from sim.errors import WorkloadError
from sim.steps.batch import Floats


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """99th percentiles in ms at a rate; None of ITL where outputs have one token."""

    rate_per_s: float
    ttft_ms_p99: float
    itl_ms_p99: float | None


@dataclasses.dataclass(frozen=True, eq=False)
class Assessed:
    """A candidate's largest rate, and those of ``rates`` (n,) that it might have, by draw; 0 where it meets nothing.

    ``curve`` are its latencies at shares of that rate.
    """

    candidate: Candidate
    replica: Replica
    found: RateFound
    draws: tuple[Draw, ...]
    rates: Floats
    curve: tuple[CurvePoint, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Question:
    """What is asked of every candidate: a workload within an objective, how many draws, from which seed."""

    workload: Asked
    slo: Slo
    draws: int
    seed: int
    size: int | None = None


def sweep(
    replicas: Replicas,
    unknown: Mapping[str, Uncertainty],
    question: Question,
    jobs: int = -1,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[list[Assessed], list[Excluded]]:
    """Every candidate assessed; those that meet the objective at no rate are excluded.

    They run side by side: on threads here, as the compiled simulator lets go of the interpreter, or on Dask's workers.
    ``progress`` is told how many are done.
    """
    ask = functools.partial(_assess, question=question)
    tasks = [(one, replica, unknown[one.gpu]) for one, replica in replicas.items()]
    assessed: list[Assessed] = []
    excluded: list[Excluded] = []
    for done, found in enumerate(in_parts(ask, tasks, jobs, "threads"), 1):
        if isinstance(found, Assessed):
            assessed.append(found)
        else:
            excluded.append(found)
        progress(done)
    return assessed, excluded


def _assess(
    candidate: Candidate, replica: Replica, unknown: Uncertainty, *, question: Question
) -> Assessed | Excluded:
    limits = candidate.max_num_seqs, candidate.max_num_batched_tokens
    try:
        found = find_rate(replica, question.workload, question.slo, question.seed, question.size)
    except WorkloadError as error:
        return Excluded(candidate.gpu, candidate.tp, str(error), *limits)
    if found.best is None:
        return Excluded(candidate.gpu, candidate.tp, unreachable(found), *limits)
    draws = tuple(unknown.draws(question.draws, question.seed, candidate.tp))
    rates = [_rate(replica, question, found, draw) for draw in draws]
    return Assessed(
        candidate, replica, found, draws, np.array(rates), _curve(replica, question, found)
    )


def _rate(replica: Replica, question: Question, found: RateFound, draw: Draw) -> float:
    """The largest rate of one server that could be.

    A server all of whose times are longer by a factor is the same server with time stretched: it meets limits L at
    the rate r where the plain one meets L/factor at r·factor.
    """
    factor = {"itl": draw.slower, "e2e": draw.slower, "ttft": draw.first_token_slower}
    limits = [limit.scaled(1.0 / factor[limit.metric]) for limit in question.slo.limits]
    slo = dataclasses.replace(question.slo, limits=tuple(limits))
    one = replica.with_values(dict(draw.values))
    size = question.size or max(int(DRAW_SHARE * len(found.requests)), FEWEST_REQUESTS)
    requests = Requests.drawn(question.workload, draw.seed, size)
    plain = search(one, requests, slo, found.alone, found.rate, DRAW_STEP, DRAW_TOLERANCE)
    return plain.rate / draw.slower


def _curve(replica: Replica, question: Question, found: RateFound) -> tuple[CurvePoint, ...]:
    trials = [attempt(replica, found.requests, question.slo, share * found.rate) for share in CURVE]
    return tuple(_curve_point(trial) for trial in trials)


def _curve_point(trial: Trial) -> CurvePoint:
    times = trial.latencies_ms()
    ttft, itl = times["ttft_ms"], times["itl_ms"]
    assert ttft is not None
    return CurvePoint(trial.rate, ttft["p99"], None if itl is None else itl["p99"])
