"""Kernel tables as ground truth: what they say of parameters by themselves, beside what the steps say.

These are steps 2 to 4 of the calibration guide: the bandwidth that memory-bound kernels reach and the rate that
compute-bound ones reach, as shares of the peaks, and the time of an all-reduce of no bytes and of each byte more.
``mfuDecode`` is not among them: a GEMM at a decode's batch is bound by memory, so that its rate is the bandwidth's. The
rate at which the cache is read is a parameter of roofline-v3 only; roofline-v1 has a constant there.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from calibrate.campaign.campaign import Campaign
from calibrate.campaign.physics import KERNELS
from calibrate.campaign.thresholds import CACHED_BYTES
from calibrate.fitting.objective import MODEL_FLOOR
from calibrate.outcome.result import KernelResult, ParameterResult
from calibrate.outcome.thresholds import CLEARLY, FEWEST_GROUPS, FEWEST_SIZES, PROMPT_ROWS
from calibrate.records.interval import overlap
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.steps.batch import Floats
from sim.units import KILO, MEGA

_PAIR_EXTRA_FLOPS = 4.0  # roofline-v1 counts 4·dh + 4 a pair and head
_HEADS = ["num_heads", "num_kv_heads", "head_dim"]
_WIDE = {"": True, "bf16": True, "fp16": True, "bfloat16": True, "float16": True}
_MULTIPLIERS = {"BwEffConstant": "decodeBwFactor", "mfuPrefill": "mfuPrefillMultiplier"}


@dataclasses.dataclass(frozen=True)
class KernelEstimate:
    """A parameter from kernels: the median over ``n`` groups of them (shapes, degrees), its interval from five on."""

    parameter: str
    value: float
    ci90: tuple[float, float] | None
    n: int
    source: str


def kernel_estimates(campaigns: Sequence[Campaign], hardware: Hardware) -> list[KernelEstimate]:
    """What the 16-bit kernels of some campaigns determine; nothing where they have none of a kind."""
    tables = {name: _rows(campaigns, name) for name in KERNELS}
    bandwidth = [_memory(tables["memory"], hardware), _memory_bound_gemms(tables["gemm"], hardware)]
    shares = pd.concat(bandwidth)
    source = _named(("the bandwidth benchmark", "memory-bound GEMMs"), bandwidth)
    gemms = _compute_bound_gemms(tables["gemm"], hardware)
    lines = _lines(tables["allreduce"])
    prompts = tables["attention_prefill"]
    pairs = "attention to long prompts"
    found = [
        _centre("BwEffConstant", shares, source),
        _centre("bwEfficiencyFactor", shares, source),
        _centre("weightBwFraction", shares, source),
        _centre("mfuPrefill", gemms, "compute-bound GEMMs"),
        _centre("gemmMfu", gemms, "compute-bound GEMMs"),
        _centre("vectorPeakFraction", _long_prompts(prompts, hardware, _PAIR_EXTRA_FLOPS), pairs),
        _centre("attentionMfu", _long_prompts(prompts, hardware), pairs),
        _centre(
            "kvBwFraction",
            _long_caches(tables["attention_decode"], hardware),
            "attention to long caches",
        ),
        _centre("allReduceLatency", lines["latency_us"], "all-reduces, extrapolated to no bytes"),
        _centre(
            "allReduceBwGBps",
            lines["gb_per_s"][lines.index == 2],
            "all-reduces of two GPUs, by byte",
        ),
    ]
    return [estimate for estimate in found if estimate is not None]


def compare_with_steps(
    estimates: Sequence[KernelEstimate], model: LatencyModel, parameters: Sequence[ParameterResult]
) -> tuple[KernelResult, ...]:
    """Each estimate of a parameter that the model reads, beside the value that the fit to steps has.

    Where a multiplier goes with a parameter, the kernels' value is divided by it: they see the product. ``agrees`` says
    whether the intervals meet; it is None unless the steps determined the parameter, and where neither has an interval.
    """
    by_name = {p.name: p for p in parameters}
    known = {estimate.parameter: estimate for estimate in estimates}
    results = []
    for name in (name for name in model.parameter_names if name in known):
        p, estimate = by_name[name], known[name]
        multiplier = by_name.get(_MULTIPLIERS.get(name, ""))
        scale = 1.0 if multiplier is None else 1.0 / multiplier.value
        value = estimate.value * scale
        ci90 = (
            None if estimate.ci90 is None else (estimate.ci90[0] * scale, estimate.ci90[1] * scale)
        )
        agrees = _agree(value, ci90, p) if p.status in ("fitted", "at-bound") else None
        results.append(
            KernelResult(name, value, ci90, estimate.n, estimate.source, p.value, agrees)
        )
    return tuple(results)


def kernel_warnings(results: Sequence[KernelResult]) -> list[str]:
    """A warning for every parameter of which steps and kernels say different things, by more than a model errs."""
    return [
        f"{r.parameter} is {r.steps_value:.3g} by the steps and {r.value:.3g} by the kernels ({r.from_}): the steps' "
        "value makes up for something that the model lacks, or steps and kernels were not measured alike."
        for r in results
        if r.agrees is False and _apart(r) > MODEL_FLOOR
    ]


def _rows(campaigns: Sequence[Campaign], name: str) -> pd.DataFrame:
    found = [
        campaign.kernels[name] for campaign in campaigns if len(campaign.kernels.get(name, ()))
    ]
    rows = pd.concat(found, ignore_index=True) if found else pd.DataFrame()
    return (
        rows[rows["dtype"].str.lower().map(_WIDE).fillna(False).astype(bool)]
        if "dtype" in rows
        else rows
    )


def _times(name: str, rows: pd.DataFrame, hardware: Hardware) -> tuple[Floats, Floats]:
    """What the arithmetic and the traffic of each kernel take at the peaks, in µs, shape (n,) each."""
    work, ones = KERNELS[name].work(rows), np.ones(len(rows))
    compute: Floats = work.flops / (hardware.positive("TFlopsPeak") * MEGA) * ones
    memory: Floats = work.bytes / (hardware.positive("BwPeakTBs") * MEGA) * ones
    return compute, memory


def _memory(rows: pd.DataFrame, hardware: Hardware) -> pd.Series:
    """Shares of the peak bandwidth by operation and size."""
    if not len(rows):
        return pd.Series(dtype=float)
    rows = rows[rows["bytes"] >= CACHED_BYTES]
    _, memory = _times("memory", rows, hardware)
    return _by_group(memory / rows["latency_us"], rows, ["op", "bytes"])


def _memory_bound_gemms(rows: pd.DataFrame, hardware: Hardware) -> pd.Series:
    """Shares of the peak bandwidth by weight matrix, of those that no cache holds."""
    if not len(rows):
        return pd.Series(dtype=float)
    compute, memory = _times("gemm", rows, hardware)
    large = memory * hardware.positive("BwPeakTBs") * MEGA >= CACHED_BYTES
    bound = large & (memory > CLEARLY * compute)
    return _by_group((memory / rows["latency_us"])[bound], rows[bound], ["k", "n"])


def _compute_bound_gemms(rows: pd.DataFrame, hardware: Hardware) -> pd.Series:
    """Shares of the peak FLOP/s by weight matrix."""
    if not len(rows):
        return pd.Series(dtype=float)
    compute, memory = _times("gemm", rows, hardware)
    bound = (compute > CLEARLY * memory) & (rows["m"].to_numpy() >= PROMPT_ROWS)
    return _by_group((compute / rows["latency_us"])[bound], rows[bound], ["k", "n"])


def _long_prompts(rows: pd.DataFrame, hardware: Hardware, extra_flops: float = 0.0) -> pd.Series:
    """Rates of attention by configuration and batch: 4·dh FLOPs a pair and head, and what a model adds to them."""
    if not len(rows):
        return pd.Series(dtype=float)
    rows = rows[rows["seq_len"] >= PROMPT_ROWS]
    pairs = rows["batch_size"] * rows["seq_len"] * (rows["seq_len"] - 1) / 2
    flops = rows["num_heads"] * (4 * rows["head_dim"] + extra_flops) * pairs
    least_us = flops / (hardware.positive("TFlopsPeak") * MEGA)
    return _by_group(least_us / rows["latency_us"], rows, [*_HEADS, "batch_size"])


def _long_caches(rows: pd.DataFrame, hardware: Hardware) -> pd.Series:
    """Shares of the peak bandwidth at which decodes read a cache that no other cache holds, by configuration."""
    if not len(rows):
        return pd.Series(dtype=float)
    compute, memory = _times("attention_decode", rows, hardware)
    large = memory * hardware.positive("BwPeakTBs") * MEGA >= CACHED_BYTES
    bound = large & (memory > compute)
    return _by_group((memory / rows["latency_us"])[bound], rows[bound], _HEADS)


def _lines(rows: pd.DataFrame) -> pd.DataFrame:
    """All-reduces by degree: time of no bytes and rate of bytes, by the line with the least relative errors."""
    found = {}
    for tp, part in rows[rows["tp"] > 1].groupby("tp") if len(rows) else ():
        if part["bytes"].nunique() >= FEWEST_SIZES:
            slope, intercept = np.polyfit(
                part["bytes"], part["latency_us"], 1, w=1 / part["latency_us"]
            )
            bytes_per_us = 1.0 / max(float(slope), 1e-12)
            found[tp] = {"latency_us": max(float(intercept), 0.0), "gb_per_s": bytes_per_us / KILO}
    return pd.DataFrame.from_dict(
        found, orient="index", columns=["latency_us", "gb_per_s"], dtype=float
    )


def _by_group(shares: pd.Series, rows: pd.DataFrame, keys: list[str]) -> pd.Series:
    return shares.groupby([rows[key] for key in keys]).median()


def _centre(parameter: str, groups: pd.Series, source: str) -> KernelEstimate | None:
    if not len(groups):
        return None
    values = np.sort(groups.to_numpy(dtype=np.float64))
    return KernelEstimate(
        parameter, float(np.median(values)), median_interval(values), len(values), source
    )


def median_interval(values: Floats) -> tuple[float, float] | None:
    """The 90% interval of a median from sorted independent values, shape (n,); None where too few.

    The narrowest pair of order statistics that holds it with 90% at the least, whatever the distribution (the sign
    test turned round: Conover, Practical Nonparametric Statistics, section 3.2).
    """
    n = len(values)
    if n < FEWEST_GROUPS:
        return None
    low = int(stats.binom.ppf(0.05, n, 0.5))
    return float(values[low - 1]), float(values[n - low])


def _agree(value: float, ci90: tuple[float, float] | None, steps: ParameterResult) -> bool | None:
    """Whether intervals meet; a value without one, or at its bound, stands for itself; None where neither has one."""
    if ci90 is None and steps.ci90 is None:
        return None
    stands = (steps.value, steps.value)
    return overlap(ci90 or (value, value), steps.ci90 or stands)


def _apart(r: KernelResult) -> float:
    """How far the values differ, as a share of the larger."""
    return abs(r.value - r.steps_value) / max(abs(r.value), abs(r.steps_value))


def _named(names: Sequence[str], parts: Sequence[pd.Series]) -> str:
    return " and ".join(name for name, part in zip(names, parts, strict=True) if len(part))
