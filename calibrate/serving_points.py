"""Rows of ``serving`` tables as what can be simulated: a workload, an engine, and the figures that were measured.

What a row leaves out is filled in here and nowhere else; :attr:`ServingPoints.assumptions` says what, and for how many
rows.
"""

import dataclasses
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.campaign import Campaign, load_model
from calibrate.errors import CalibrateError
from calibrate.serving import overloaded
from sim.architecture import Architecture
from sim.batch import Floats
from sim.engine import EngineLimits, kv_cache_tokens
from sim.errors import SimError
from sim.hardware import Hardware
from sim.latency import LatencyModel
from sim.workload import Closed, Constant, Fixed, Lengths, Load, LogNormal, Normal, Stage, Workload

METRICS = ("ttft", "itl", "e2e")
STATISTICS = ("mean", "p50", "p90", "p99")
FIGURES = tuple((metric, statistic) for metric in METRICS for statistic in STATISTICS)
"""What may be measured of a load point, in ms: the columns of :attr:`ServingPoints.measured_ms`."""

Row = Mapping[Hashable, Any]

_ROUNDS = 10  # requests of each client of a closed load
_REQUESTS = 1000
_BATCHED_TOKENS, _SEQS = 8192, 1024  # what vLLM's server takes by itself on a GPU of 70 GiB or more
_KV_TOKENS = 1 << 20
_WIDE = 0.4  # lengths that spread by more of their mean are lognormal: a normal would often be cut at one token


@dataclasses.dataclass(frozen=True, eq=False)
class ServingPoint:
    """One load point: what was asked of which engine."""

    arch: Architecture
    tp: int
    workload: Workload
    engine: EngineLimits


@dataclasses.dataclass(frozen=True, eq=False)
class ServingPoints:
    """n load points. ``frame`` has their labels: campaign, line, model, tp, engine, run, stage, load.

    ``measured_ms`` (n, 12) has the columns :data:`FIGURES`, NaN where a row gives no such figure. ITL is
    (E2E − TTFT)/(output − 1) wherever both are given, for what clients call ITL may count stream chunks.
    """

    points: tuple[ServingPoint, ...]
    frame: pd.DataFrame
    measured_ms: Floats
    assumptions: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.points)

    def take(self, rows: NDArray[np.bool_]) -> "ServingPoints":
        """The points of some rows."""
        kept = tuple(point for point, keep in zip(self.points, rows, strict=True) if keep)
        frame = self.frame[rows].reset_index(drop=True)
        return dataclasses.replace(self, points=kept, frame=frame, measured_ms=self.measured_ms[rows])


def serving_points(campaigns: Sequence[Campaign], hardware: Hardware, model: LatencyModel) -> ServingPoints:
    """The load points of some campaigns that were not overloaded and that ``model`` can compute.

    Raises CalibrateError if there is none, saying what was left out.
    """
    assumed: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    points, labels, measured = [], [], []
    for campaign in campaigns:
        serving = campaign.serving
        crowded = overloaded(serving) if len(serving) else np.empty(0, dtype=bool)
        left_out["the engine was overloaded: its queue, not its steps, made the figures"] += int(crowded.sum())
        rows = serving[~crowded].to_dict("records")
        warm = _warm(rows)
        for row, is_warm in zip(rows, warm, strict=True):
            figures = _measured(row, per_token=campaign.info.itl == "per-token")
            if np.isnan(figures).all():
                left_out["no latency in it"] += 1
                continue
            try:
                points.append(_point(campaign, row, hardware, model, assumed, warm=is_warm))
            except SimError as error:
                left_out[str(error)] += 1
                continue
            measured.append(figures)
            labels.append(_labels(campaign, row))
    notes = tuple(f"{count} serving rows left out: {why}." for why, count in left_out.items() if count)
    if not points:
        raise CalibrateError(" ".join(["no serving row to fit to.", *notes]))
    words = tuple(f"{count} of {len(points)} serving rows {what}." for what, count in assumed.items())
    return ServingPoints(tuple(points), pd.DataFrame(labels), np.array(measured), (*notes, *words))


def _labels(campaign: Campaign, row: Row) -> dict[str, Any]:
    run = str(row.get("run_id") or "") or f"line {row['line']}"
    texts = {name: str(row.get(name) or "") for name in ("engine", "dtype", "stage", "load")}
    return {"campaign": campaign.name, "line": row["line"], "model": row["model"], "tp": int(row["tp"]), **texts} | {
        "run": f"{campaign.name}/{run}"
    }


def _warm(rows: Sequence[Row]) -> list[bool]:
    """Whether an earlier stage of a row's run asked the same prompts."""
    seen: set[object] = set()
    warm = []
    for row in rows:
        warm.append(row.get("run_id", "") in seen)
        if row.get("run_id"):
            seen.add(row["run_id"])
    return warm


def _point(
    campaign: Campaign,
    row: Row,
    hardware: Hardware,
    model: LatencyModel,
    assumed: Counter[str],
    *,
    warm: bool,
) -> ServingPoint:
    arch, tp = load_model(campaign.folder, str(row["model"])), int(_number(row, "tp"))
    if dtype := row.get("dtype"):
        arch = arch.with_dtype(str(dtype))
    model.limits(arch)
    load, requests = _load(row, assumed)
    engine = _engine(row, arch, hardware, tp, assumed)
    prompt, distinct = _number(row, "input_tokens_mean"), _number(row, "distinct_prompts", 0.0)
    cached = min(_number(row, "cached_input_tokens_mean", 0.0), prompt - 1) if not distinct else 0.0
    workload = Workload(
        num_requests=requests,
        load=load,
        prompt=_lengths(prompt - cached, _number(row, "input_tokens_std", 0.0)),
        output=_lengths(_number(row, "output_tokens_mean"), _number(row, "output_tokens_std", 0.0)),
        shared_tokens=round(cached),
        distinct_prompts=round(distinct),
        warm=warm or cached > 0,
    )
    return ServingPoint(arch, tp, workload, engine)


def _load(row: Row, assumed: Counter[str]) -> tuple[Load, int]:
    rate, concurrency = _number(row, "request_rate", np.nan), _number(row, "concurrency", np.nan)
    requests = _number(row, "num_requests", np.nan)
    if str(row.get("load")) == "closed" or np.isnan(rate):
        if np.isnan(concurrency):
            raise SimError("neither concurrency nor request_rate is given")
        if np.isnan(requests):
            assumed[f"do not say how many requests were sent: {_ROUNDS} of each client are simulated"] += 1
            requests = _ROUNDS * concurrency
        return Closed(round(concurrency)), round(requests)
    if np.isnan(requests):
        assumed[f"do not say how many requests were sent: {_REQUESTS} are simulated"] += 1
        requests = _REQUESTS
    # a stage's gaps are exponential, and its mean rate is the one that was asked for, whatever the seed
    return (Constant(rate) if str(row.get("load")) == "constant" else Stage(rate)), round(requests)


def _engine(row: Row, arch: Architecture, hardware: Hardware, tp: int, assumed: Counter[str]) -> EngineLimits:
    given = {
        name: round(_number(row, name))
        for name in ("max_num_batched_tokens", "max_num_seqs", "kv_cache_tokens", "block_size")
        if not np.isnan(_number(row, name, np.nan))
    }
    for name, usual in (("max_num_batched_tokens", _BATCHED_TOKENS), ("max_num_seqs", _SEQS)):
        if name not in given:
            assumed[f"do not say {name}: {usual}, vLLM's default, is taken"] += 1
            given[name] = usual
    if "kv_cache_tokens" not in given:
        try:
            given["kv_cache_tokens"] = kv_cache_tokens(arch, hardware, tp)
            assumed["do not say how large the KV cache is: what 90% of the memory leaves is taken"] += 1
        except SimError:
            given["kv_cache_tokens"] = _KV_TOKENS
            assumed["do not say how large the KV cache is, nor is the GPU's memory known: it is taken as ample"] += 1
    prefill_first = str(row.get("engine") or "").lower().startswith("sglang")
    return dataclasses.replace(EngineLimits(prefill_first=prefill_first), **given)  # type: ignore[arg-type]  # as above


def _lengths(mean: float, std: float) -> Lengths:
    if not std > 0:
        return Fixed(max(round(mean), 1))
    return LogNormal(mean, std) if std > _WIDE * mean else Normal(mean, std)


def _measured(row: Row, *, per_token: bool) -> Floats:
    figures = {(m, s): _number(row, f"{m}_ms_{s}", np.nan) for m, s in FIGURES}
    gaps = _number(row, "output_tokens_mean", np.nan) - 1.0
    if not per_token:
        figures.update({("itl", statistic): np.nan for statistic in STATISTICS[1:]})
    between = figures["e2e", "mean"] - figures["ttft", "mean"]
    if not np.isnan(between):
        figures["itl", "mean"] = between / gaps if gaps > 0 else np.nan
    return np.array([value if value > 0 else np.nan for value in figures.values()])


def _number(row: Row, name: str, otherwise: float | None = None) -> float:
    value = row.get(name)
    if isinstance(value, int | float | np.number) and not np.isnan(value):
        return float(value)
    if otherwise is None:
        raise SimError(f"{name} is not given")
    return otherwise
