"""From rates to a decision: replicas, cost and how sure each candidate is, best first."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calibrate.capacity.binding import Binding, what_binds
from calibrate.capacity.candidates import Candidate, Excluded
from calibrate.capacity.demand import Demand
from calibrate.capacity.slo import Slo
from calibrate.capacity.sweep import Assessed, CurvePoint
from calibrate.capacity.thresholds import BAND, SURE
from calibrate.records.errors import CalibrateError
from sim.hardware import canonical_gpu
from sim.steps.batch import Floats
from sim.units import MEGA, S_PER_HOUR


@dataclasses.dataclass(frozen=True)
class Band:
    """Low and high end of the 80% band of a figure."""

    low: float
    high: float

    @classmethod
    def of(cls, figures: Floats) -> "Band":
        """The band of draws (n,)."""
        outside = 50.0 * (1.0 - BAND)
        low, high = np.percentile(figures, [outside, 100.0 - outside]).tolist()
        return cls(low, high)


@dataclasses.dataclass(frozen=True)
class Fleet:
    """Replicas that carry a demand's peak: how many, their GPUs and cost an hour, and how likely they meet the SLO.

    ``sure`` of them meet it with a probability of nine in ten (None: no number does); ``mean`` carry the mean load.
    """

    replicas: int
    gpus: int
    cost_per_hour: float | None
    probability: float
    sure: int | None
    sure_cost_per_hour: float | None
    mean: int
    mean_cost_per_hour: float | None


@dataclasses.dataclass(frozen=True, eq=False)
class Choice:
    """A candidate with all that is known of it at the largest ``rate`` (1/s) at which it meets the objective.

    Tokens are those of prompts and outputs; ``rates`` are its draws', ``curve`` its latencies at lower rates. Costs
    are None without the GPU's price.
    """

    candidate: Candidate
    kv_cache_tokens: int
    rate: float
    band: Band
    rates: Floats
    tokens_per_s: float
    output_tokens_per_s: float
    cost_per_million_tokens: float | None
    cost_per_million_output_tokens: float | None
    latencies: Mapping[str, Any]
    curve: tuple[CurvePoint, ...]
    binding: Binding
    fleet: Fleet | None

    @property
    def rate_per_gpu(self) -> float:
        """Requests a second and GPU."""
        return self.rate / self.candidate.tp

    @property
    def output_tokens_per_s_per_gpu(self) -> float:
        """Output tokens a second and GPU."""
        return self.output_tokens_per_s / self.candidate.tp


@dataclasses.dataclass(frozen=True, eq=False)
class Recommendation:
    """All choices, best first, and what is not one. ``notes`` are what to know of the bands, ``next`` what to measure.

    ``ranked_by`` says in words what makes a choice better.
    """

    model: str
    slo: Slo
    demand: Demand | None
    choices: tuple[Choice, ...]
    excluded: tuple[Excluded, ...]
    ranked_by: str
    draws: int
    notes: tuple[str, ...]
    next: str = ""


def prices_of(given: Mapping[str, float], gpus: Sequence[str]) -> dict[str, float]:
    """The price of a GPU and hour by GPU. Raises CalibrateError for one that is no candidate, or not above 0."""
    by_name = {canonical_gpu(gpu).lower(): gpu for gpu in gpus}
    prices = {}
    for name, price in given.items():
        gpu = by_name.get(canonical_gpu(name).lower())
        if gpu is None:
            raise CalibrateError(
                f"--price {name}={price:g}: {name} is no candidate (--gpu gives {', '.join(gpus)}); leave it out, or "
                f"add --gpu {name}"
            )
        if not price > 0:
            raise CalibrateError(f"--price {name}={price:g}: must be above 0, per GPU and hour")
        prices[gpu] = price
    return prices


def choice_of(one: Assessed, price: float | None, demand: Demand | None) -> Choice:
    """What an assessed candidate amounts to at a price per GPU and hour."""
    assert one.found.best is not None
    requests = one.found.requests.unit
    output = one.found.rate * float(requests.output_tokens.mean())
    tokens = output + one.found.rate * float(requests.prompt_tokens.mean())
    hourly = None if price is None else price * one.candidate.tp
    return Choice(
        candidate=one.candidate,
        kv_cache_tokens=one.replica.engine.kv_cache_tokens,
        rate=one.found.rate,
        band=Band.of(one.rates) if len(one.rates) else Band(one.found.rate, one.found.rate),
        rates=one.rates,
        tokens_per_s=tokens,
        output_tokens_per_s=output,
        cost_per_million_tokens=_per_million(hourly, tokens),
        cost_per_million_output_tokens=_per_million(hourly, output),
        latencies=one.found.best.latencies_ms(),
        curve=one.curve,
        binding=what_binds(one.found),
        fleet=None if demand is None else _fleet(one, hourly, demand),
    )


def _per_million(hourly: float | None, per_s: float) -> float | None:
    return None if hourly is None else hourly / (per_s * S_PER_HOUR) * MEGA


def _fleet(one: Assessed, hourly: float | None, demand: Demand) -> Fleet:
    rates = one.rates if len(one.rates) else np.array([one.found.rate])
    replicas = math.ceil(demand.peak / one.found.rate)
    mean = math.ceil(demand.mean / one.found.rate)
    slow = float(np.quantile(rates, 1.0 - SURE, method="lower"))
    sure = math.ceil(demand.peak / slow) if slow > 0 else None

    def cost(number: int | None) -> float | None:
        return None if hourly is None or number is None else hourly * number

    return Fleet(
        replicas=replicas,
        gpus=replicas * one.candidate.tp,
        cost_per_hour=cost(replicas),
        probability=float(np.mean(rates * replicas >= demand.peak)),
        sure=sure,
        sure_cost_per_hour=cost(sure),
        mean=mean,
        mean_cost_per_hour=cost(mean),
    )


def ranked(choices: Sequence[Choice]) -> tuple[tuple[Choice, ...], str]:
    """The choices, best first, and what made them so: cost where every GPU has a price, else GPUs."""
    priced = all(one.cost_per_million_tokens is not None for one in choices)
    carried = all(one.fleet is not None for one in choices)
    by = "cost an hour" if priced else "GPUs"
    words = (
        f"{by} for the load that is carried"
        if carried
        else ("cost per token" if priced else "throughput per GPU")
    )
    return tuple(sorted(choices, key=lambda one: _burden(one, priced=priced))), words


def _burden(one: Choice, *, priced: bool) -> tuple[float, float]:
    """What is to be small: what carries the load, then what a token takes."""
    cost = one.cost_per_million_tokens
    token = cost if priced and cost is not None else one.candidate.tp / one.tokens_per_s
    if one.fleet is None:
        return (token, 0.0)
    hourly = one.fleet.cost_per_hour
    whole = hourly if priced and hourly is not None else float(one.fleet.gpus)
    return (whole, token)
