"""Rows of ``serving`` tables as what can be simulated: a workload, an engine, and the figures that were measured.

What a row leaves out is filled in here and nowhere else; :attr:`ServingPoints.assumptions` says what, and for how many
rows.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.campaign.campaign import Campaign
from calibrate.campaign.serving_rules import overloaded
from calibrate.campaign.step_rows import load_model
from calibrate.records.errors import CalibrateError
from calibrate.records.schema import GREEDY
from calibrate.serving.thresholds import (
    AMPLE_TOKENS,
    OUT_OF_STEP,
    REQUESTS,
    REQUESTS_PER_CLIENT,
    SKEWED,
    WIDE,
)
from sim.architecture import ALL_TOKENS, Architecture, Sampling
from sim.errors import ArchitectureError, HardwareError, WorkloadError
from sim.hardware import Hardware, memory_bytes
from sim.models.latency_model import LatencyModel
from sim.serving.engine import EngineLimits, kv_cache_tokens, usual_limits
from sim.serving.engine_kinds import engine_kind
from sim.serving.lengths import Fixed, Lengths, LogNormal, Normal
from sim.serving.simulation import check_servable
from sim.serving.workload import Closed, Constant, Gamma, Load, Stage, Workload
from sim.steps.batch import SERVED_AS, Floats, served_as

METRICS = ("ttft", "itl", "e2e")
STATISTICS = ("mean", "p50", "p90", "p99")
FIGURES = tuple((metric, statistic) for metric in METRICS for statistic in STATISTICS)
"""What may be measured of a load point, in ms: the columns of :attr:`ServingPoints.measured_ms`."""

SEEDS = tuple(range(16))
"""With which the requests of a load point may be drawn."""

_TAILS = [statistic != "mean" for _, statistic in FIGURES]
Row = Mapping[Hashable, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class ServingPoint:
    """One load point: what was asked of which engine; ``tails`` if more than means were measured."""

    arch: Architecture
    tp: int
    workload: Workload
    engine: EngineLimits
    tails: bool = True


@dataclasses.dataclass(frozen=True, eq=False)
class ServingPoints:
    """n load points. ``frame`` has their labels: campaign, line, model, tp, engine, run, stage, load.

    ``measured_ms`` (n, 12) has the columns :data:`FIGURES`, NaN where a row gives no such figure. ITL is
    (E2E − TTFT)/(output − 1) wherever both are given, for what clients call ITL may count stream chunks.
    ``assumptions`` says what rows did not say, ``left_out`` which rows are not among the points, and why.
    """

    points: tuple[ServingPoint, ...]
    frame: pd.DataFrame
    measured_ms: Floats
    assumptions: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.points)

    @property
    def skewed(self) -> NDArray[np.bool_]:
        """The mean times to first token that a few requests made, by their percentiles, shape (n, 12)."""
        median, tail = (FIGURES.index(("ttft", statistic)) for statistic in ("p50", "p99"))
        few = self.measured_ms[:, tail] > SKEWED * self.measured_ms[:, median]
        skewed = np.zeros(self.measured_ms.shape, dtype=bool)
        skewed[few, FIGURES.index(("ttft", "mean"))] = True
        return skewed

    def take(self, rows: NDArray[np.bool_]) -> "ServingPoints":
        """The points of some rows."""
        kept = tuple(point for point, keep in zip(self.points, rows, strict=True) if keep)
        frame = self.frame[rows].reset_index(drop=True)
        return dataclasses.replace(
            self, points=kept, frame=frame, measured_ms=self.measured_ms[rows]
        )


def serving_points(
    campaigns: Sequence[Campaign], hardware: Hardware, model: LatencyModel
) -> ServingPoints:
    """The load points of some campaigns to fit to: those that were not overloaded and that ``model`` can compute.

    Raises CalibrateError if there is none, saying what was left out.
    """
    points = usable_points(campaigns, hardware, model)
    if not len(points):
        raise CalibrateError(" ".join(["no serving row to fit to.", *points.left_out]))
    engines = sorted(set(points.frame["engine"]))
    if len(engines) == 1:
        return points
    note = (
        f"The serving rows are of {len(engines)} engines ({', '.join(engines)}), fitted as one: what an engine "
        "adds differs; give one campaign at a time with --campaign."
    )
    return dataclasses.replace(points, assumptions=(note, *points.assumptions))


def usable_points(
    campaigns: Sequence[Campaign], hardware: Hardware, model: LatencyModel
) -> ServingPoints:
    """The load points of some campaigns that were not overloaded and that ``model`` can compute, which may be none."""
    assumed: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    points, labels, measured = [], [], []
    for campaign in campaigns:
        for row, is_warm in _rows(campaign, left_out):
            figures = _measured(row, campaign.info.itl)
            if np.isnan(figures).all():
                left_out["no latency in it"] += 1
                continue
            try:
                point, taken = _point(campaign, row, hardware, model, warm=is_warm)
            except (ArchitectureError, HardwareError, WorkloadError) as error:
                left_out[str(error)] += 1
                continue
            assumed.update(taken)
            tails = not np.isnan(figures[_TAILS]).all()
            points.append(dataclasses.replace(point, tails=tails))
            measured.append(figures)
            labels.append(_labels(campaign, row))
    return ServingPoints(
        points=tuple(points),
        frame=pd.DataFrame(labels),
        measured_ms=np.reshape(measured, (len(points), len(FIGURES))),
        assumptions=tuple(
            f"{count} of {len(points)} serving rows {what}." for what, count in assumed.items()
        ),
        left_out=tuple(f"{count} serving rows left out: {why}." for why, count in left_out.items()),
    )


def _rows(campaign: Campaign, left_out: Counter[str]) -> Iterator[tuple[Row, bool]]:
    """The rows that were not overloaded, each with whether an earlier stage of its run asked the same prompts."""
    if not len(campaign.serving):
        return
    seen: set[object] = set()
    for row, crowded in zip(
        campaign.serving.to_dict("records"), overloaded(campaign.serving), strict=True
    ):
        run = row.get("run_id", "")
        if crowded:
            left_out["the engine was overloaded: its queue, not its steps, made the figures"] += 1
        else:
            yield row, run in seen
        if run:
            seen.add(run)


def _labels(campaign: Campaign, row: Row) -> dict[str, Any]:
    run = str(row.get("run_id") or "") or f"line {row['line']}"
    texts = {name: str(row.get(name) or "") for name in ("engine", "dtype", "stage", "load")}
    return {
        "campaign": campaign.name,
        "line": row["line"],
        "model": row["model"],
        "tp": int(row["tp"]),
        **texts,
    } | {"run": f"{campaign.name}/{run}"}


def _point(
    campaign: Campaign, row: Row, hardware: Hardware, model: LatencyModel, *, warm: bool
) -> tuple[ServingPoint, list[str]]:
    """A row as it is simulated, and what had to be assumed for it.

    Raises ArchitectureError for a model that cannot be computed, WorkloadError for a row that says too little or that
    the engine could not serve, HardwareError for weights that do not fit.
    """
    assumed: list[str] = []
    load_here = functools.partial(load_model, campaign.folder)
    served = {name: row[name] for name in SERVED_AS if name in row}
    arch = served_as(load_here, str(row["model"]), served)
    kind = engine_kind(str(row.get("engine") or ""))
    arch = dataclasses.replace(arch, sampling=_sampling(row, kind.sampled(arch).sampling))
    tp = int(_number(row, "tp"))
    model.limits(arch)
    load, requests = _load(row, assumed)
    engine = _engine(row, arch, hardware, tp, assumed)
    output_mean = _number(row, "output_tokens_mean")
    output_std = _number(row, "output_tokens_std", np.nan)
    if np.isnan(output_std) and isinstance(load, Closed) and not engine.prefill_first:
        assumed.append(
            f"of a closed load give no spread of outputs: {OUT_OF_STEP:.0%} keeps requests out of step"
        )
        output_std = OUT_OF_STEP * output_mean
    prompt = _number(row, "input_tokens_mean")
    distinct = _number(row, "distinct_prompts", 0.0)
    cached = min(_number(row, "cached_input_tokens_mean", 0.0), prompt - 1) if not distinct else 0.0
    workload = Workload(
        num_requests=requests,
        load=load,
        prompt=_lengths(prompt - cached, _number(row, "input_tokens_std", 0.0)),
        output=_lengths(output_mean, output_std),
        shared_tokens=round(cached),
        distinct_prompts=round(distinct),
        warm=warm or cached > 0,
    )
    for seed in SEEDS:
        trace = workload.draw(seed)
        check_servable(trace, engine)
        model.check_length(arch, trace.longest)
    return ServingPoint(arch, tp, workload, engine), assumed


def _sampling(row: Row, usual: Sampling) -> Sampling:
    """How a run drew its tokens: as the row says, else as engines take it from the model's own file."""
    if row.get("sampling") == GREEDY:
        return ALL_TOKENS
    top_k = _number(row, "top_k", usual.top_k)
    return usual.changed(_number(row, "top_p", usual.top_p), round(top_k))


def _load(row: Row, assumed: list[str]) -> tuple[Load, int]:
    rate = _number(row, "request_rate", np.nan)
    concurrency = _number(row, "concurrency", np.nan)
    requests = _number(row, "num_requests", np.nan)
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
        return Gamma(rate, _number(row, "arrival_cv"))
    if row.get("load") != "poisson":
        assumed.append("do not say how requests arrive: Poisson is taken")
    # a stage's gaps are exponential, and its mean rate is the one that was asked for, whatever the seed
    return Stage(rate)


def _engine(
    row: Row, arch: Architecture, hardware: Hardware, tp: int, assumed: list[str]
) -> EngineLimits:
    names = ("max_num_batched_tokens", "max_num_seqs", "kv_cache_tokens", "block_size")
    given = {
        name: round(value) for name in names if not np.isnan(value := _number(row, name, np.nan))
    }
    usual = usual_limits(given)
    for name, value in usual.items():
        assumed.append(f"do not say {name}: {value}, vLLM's default, is taken")
    if "kv_cache_tokens" not in given:
        usual["kv_cache_tokens"] = _kv_tokens(arch, hardware, tp, assumed)
    prefill_first = engine_kind(str(row.get("engine") or "")).prefill_first
    return dataclasses.replace(EngineLimits(prefill_first=prefill_first), **{**usual, **given})  # type: ignore[arg-type]  # as above


def _kv_tokens(arch: Architecture, hardware: Hardware, tp: int, assumed: list[str]) -> int:
    try:
        memory_bytes(hardware)
    except HardwareError:
        assumed.append(
            "do not say how large the KV cache is, nor is the GPU's memory known: it is taken as ample"
        )
        return AMPLE_TOKENS
    assumed.append("do not say how large the KV cache is: what 90% of the memory leaves is taken")
    return kv_cache_tokens(arch, hardware, tp)


def _lengths(mean: float, std: float) -> Lengths:
    if not std > 0:
        return Fixed(max(round(mean), 1))
    return LogNormal(mean, std) if std > WIDE * mean else Normal(mean, std)


def _measured(row: Row, itl: str) -> Floats:
    """The figures (12,) in ms; a client's own ITL counts as far as ``itl`` says that it is one of tokens."""
    figures = {(m, s): _number(row, f"{m}_ms_{s}", np.nan) for m, s in FIGURES}
    gaps = _number(row, "output_tokens_mean", np.nan) - 1.0
    unlike = {"per-token": (), "per-chunk": STATISTICS}.get(itl, STATISTICS[1:])
    figures.update({("itl", statistic): np.nan for statistic in unlike})
    between = figures["e2e", "mean"] - figures["ttft", "mean"]
    if not np.isnan(between):
        figures["itl", "mean"] = between / gaps if gaps > 0 else np.nan
    return np.array([value if value > 0 else np.nan for value in figures.values()])


def _number(row: Row, name: str, otherwise: float | None = None) -> float:
    value = row.get(name)
    if isinstance(value, int | float | np.number) and not np.isnan(value):
        return float(value)
    if otherwise is None:
        raise WorkloadError(f"{name} is not given")
    return otherwise
