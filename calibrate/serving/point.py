"""A row of a ``serving`` table as what can be simulated: a workload and an engine.

What a row leaves out is filled in here and nowhere else, and said.
"""

import dataclasses
import functools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from calibrate.campaign.campaign import Campaign
from calibrate.campaign.step_rows import load_model
from calibrate.records.schema import GREEDY
from calibrate.serving.thresholds import (
    AMPLE_TOKENS,
    OUT_OF_STEP,
    REQUESTS,
    REQUESTS_PER_CLIENT,
    WIDE,
)
from sim.architecture import ALL_TOKENS, Architecture, Sampling
from sim.errors import HardwareError, WorkloadError
from sim.hardware import Hardware, memory_bytes
from sim.models.latency_model import LatencyModel
from sim.serving.engine import EngineLimits, kv_cache_tokens, usual_limits
from sim.serving.engine_kinds import engine_kind
from sim.serving.lengths import Fixed, Lengths, LogNormal, Normal
from sim.serving.simulation import check_servable
from sim.serving.workload import Closed, Constant, Gamma, Load, Stage, Workload
from sim.steps.batch import SERVED_AS, served_as

SEEDS = tuple(range(16))
"""With which the requests of a load point may be drawn."""


Row = Mapping[Hashable, Any]
"""A row of a serving table, by column."""


@dataclasses.dataclass(frozen=True, eq=False)
class ServingPoint:
    """One load point: what was asked of which engine; ``tails`` if more than means were measured."""

    arch: Architecture
    tp: int
    workload: Workload
    engine: EngineLimits
    tails: bool = True


def read_point(
    campaign: Campaign,
    row: Row,
    hardware: Hardware,
    model: LatencyModel,
    *,
    warm: bool,
    seeds: Sequence[int] = SEEDS,
) -> tuple[ServingPoint, list[str]]:
    """A row as it is simulated, with requests drawn by any of ``seeds``, and what had to be assumed for it.

    Raises ArchitectureError for a model that cannot be computed, WorkloadError for a row that says too little or that
    the engine could not serve, HardwareError for weights that do not fit.
    """
    assumed: list[str] = []
    load_here = functools.partial(load_model, campaign.folder)
    served = {name: row[name] for name in SERVED_AS if name in row}
    arch = served_as(load_here, str(row["model"]), served)
    kind = engine_kind(str(row.get("engine") or ""))
    arch = dataclasses.replace(arch, sampling=_sampling(row, kind.sampled(arch).sampling))
    tp = int(number(row, "tp"))
    model.limits(arch)
    load, requests = _load(row, assumed)
    engine = _engine(row, arch, hardware, tp, assumed)
    output_mean = number(row, "output_tokens_mean")
    output_std = number(row, "output_tokens_std", np.nan)
    if np.isnan(output_std) and isinstance(load, Closed) and not engine.prefill_first:
        assumed.append(
            f"of a closed load give no spread of outputs: {OUT_OF_STEP:.0%} keeps requests out of step"
        )
        output_std = OUT_OF_STEP * output_mean
    prompt = number(row, "input_tokens_mean")
    distinct = number(row, "distinct_prompts", 0.0)
    cached = min(number(row, "cached_input_tokens_mean", 0.0), prompt - 1) if not distinct else 0.0
    workload = Workload(
        num_requests=requests,
        load=load,
        prompt=_lengths(prompt - cached, number(row, "input_tokens_std", 0.0)),
        output=_lengths(output_mean, output_std),
        shared_tokens=round(cached),
        distinct_prompts=round(distinct),
        warm=warm or cached > 0,
    )
    for seed in seeds:
        trace = workload.draw(seed)
        check_servable(trace, engine)
        model.check_length(arch, trace.longest)
    return ServingPoint(arch, tp, workload, engine), assumed


def _sampling(row: Row, usual: Sampling) -> Sampling:
    """How a run drew its tokens: as the row says, else as engines take it from the model's own file."""
    if row.get("sampling") == GREEDY:
        return ALL_TOKENS
    top_k = number(row, "top_k", usual.top_k)
    return usual.changed(number(row, "top_p", usual.top_p), round(top_k))


def _load(row: Row, assumed: list[str]) -> tuple[Load, int]:
    rate = number(row, "request_rate", np.nan)
    concurrency = number(row, "concurrency", np.nan)
    requests = number(row, "num_requests", np.nan)
    if str(row.get("load")) == "closed" or np.isnan(rate):
        if np.isnan(concurrency):
            raise WorkloadError("neither concurrency nor request_rate is given")
        if np.isnan(requests):
            assumed.append(
                f"do not say how many requests were sent: {REQUESTS_PER_CLIENT} of each client are simulated"
            )
            requests = REQUESTS_PER_CLIENT * concurrency
        return Closed(round(concurrency)), round(requests)
    if np.isnan(requests):
        assumed.append(f"do not say how many requests were sent: {REQUESTS} are simulated")
        requests = REQUESTS
    return _arrivals(row, rate, assumed), round(requests)


def _arrivals(row: Row, rate: float, assumed: list[str]) -> Load:
    """An open load of ``rate`` requests a second; Poisson where the row does not say how they arrive."""
    if row.get("load") == "constant":
        return Constant(rate)
    if row.get("load") == "gamma":
        return Gamma(rate, number(row, "arrival_cv"))
    if row.get("load") != "poisson":
        assumed.append("do not say how requests arrive: Poisson is taken")
    # a stage's gaps are exponential, and its mean rate is the one that was asked for, whatever the seed
    return Stage(rate)


def _engine(
    row: Row, arch: Architecture, hardware: Hardware, tp: int, assumed: list[str]
) -> EngineLimits:
    names = ("max_num_batched_tokens", "max_num_seqs", "kv_cache_tokens", "block_size")
    given = {
        name: round(value) for name in names if not np.isnan(value := number(row, name, np.nan))
    }
    usual = usual_limits(given)
    for name, value in usual.items():
        assumed.append(f"do not say {name}: {value}, vLLM's default, is taken")
    if "kv_cache_tokens" not in given:
        running = number(row, "input_tokens_mean") + number(row, "output_tokens_mean") / 2.0
        usual["kv_cache_tokens"] = _kv_tokens(arch, hardware, tp, running, assumed)
    prefill_first = engine_kind(str(row.get("engine") or "")).prefill_first
    return dataclasses.replace(EngineLimits(prefill_first=prefill_first), **{**usual, **given})  # type: ignore[arg-type]  # as above


def _kv_tokens(
    arch: Architecture, hardware: Hardware, tp: int, running: float, assumed: list[str]
) -> int:
    try:
        memory_bytes(hardware)
    except HardwareError:
        assumed.append(
            "do not say how large the KV cache is, nor is the GPU's memory known: it is taken as ample"
        )
        return AMPLE_TOKENS
    assumed.append("do not say how large the KV cache is: what 90% of the memory leaves is taken")
    return kv_cache_tokens(arch, hardware, tp, request_tokens=running)


def _lengths(mean: float, std: float) -> Lengths:
    if not std > 0:
        return Fixed(max(round(mean), 1))
    return LogNormal(mean, std) if std > WIDE * mean else Normal(mean, std)


def number(row: Row, name: str, otherwise: float | None = None) -> float:
    """A cell of a row; what stands for it where it is empty. Raises WorkloadError where nothing does."""
    value = row.get(name)
    if isinstance(value, int | float | np.number) and not np.isnan(value):
        return float(value)
    if otherwise is None:
        raise WorkloadError(f"{name} is not given")
    return otherwise
