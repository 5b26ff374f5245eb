"""Kernel tables as ground truth: what they say of parameters by themselves, beside what the steps say.

These are steps 2 to 4 of the calibration guide: the bandwidth that memory-bound kernels reach and the rate that
compute-bound ones reach, as shares of the peaks, and the time of an all-reduce of no bytes and of each byte more.
``mfuDecode`` is not among them: a GEMM at a decode's batch is bound by memory, so that its rate is the bandwidth's. The
rate at which the cache is read is a parameter of roofline-v3 only; roofline-v1 has a constant there.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from calibrate.campaign.campaign import Campaign
from calibrate.campaign.physics import KERNELS
from calibrate.fitting.objective import MODEL_FLOOR
from calibrate.outcome.kernel_shares import (
    allreduce_lines,
    compute_bound_gemms,
    kernel_rows,
    long_caches,
    long_prompts,
    memory_bound_gemms,
    memory_shares,
)
from calibrate.outcome.result import KernelResult, ParameterResult
from calibrate.outcome.thresholds import FEWEST_GROUPS
from calibrate.records.interval import overlap
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.steps.batch import Floats

_PAIR_EXTRA_FLOPS = 4.0  # roofline-v1 counts 4·dh + 4 a pair and head
_GROWS = "allReduceSizeExponent"  # the rate of an all-reduce, with its size
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
    tables = {name: kernel_rows(campaigns, name) for name in KERNELS}
    prompts = tables["attention_prefill"]
    reduces = allreduce_lines(tables["allreduce"])

    copies = memory_shares(tables["memory"], hardware)
    loads = memory_bound_gemms(tables["gemm"], hardware)
    bandwidth = pd.concat([copies, loads])
    bandwidth_source = _named({"the bandwidth benchmark": copies, "memory-bound GEMMs": loads})

    gemms = compute_bound_gemms(tables["gemm"], hardware)
    vector = long_prompts(prompts, hardware, _PAIR_EXTRA_FLOPS)
    attention = long_prompts(prompts, hardware)
    caches = long_caches(tables["attention_decode"], hardware)
    link = reduces["gb_per_s"][reduces.index == 2]

    estimates = [
        _centre("BwEffConstant", bandwidth, bandwidth_source),
        _centre("bwEfficiencyFactor", bandwidth, bandwidth_source),
        _centre("weightBwFraction", bandwidth, bandwidth_source),
        _centre("mfuPrefill", gemms, "compute-bound GEMMs"),
        _centre("gemmMfu", gemms, "compute-bound GEMMs"),
        _centre("vectorPeakFraction", vector, "attention to long prompts"),
        _centre("attentionMfu", attention, "attention to long prompts"),
        _centre("kvBwFraction", caches, "attention to long caches"),
        _centre("allReduceLatency", reduces["latency_us"], "all-reduces, extrapolated to no bytes"),
        _centre("allReduceBwGBps", link, "all-reduces of two GPUs, by byte"),
    ]
    return [estimate for estimate in estimates if estimate is not None]


def compare_with_steps(
    estimates: Sequence[KernelEstimate], model: LatencyModel, parameters: Sequence[ParameterResult]
) -> tuple[KernelResult, ...]:
    """Each estimate of a parameter that the model reads, beside the value that the fit to steps has.

    Where a multiplier goes with a parameter, the kernels' value is divided by it: they see the product. ``agrees`` says
    whether the intervals meet; it is None unless the steps determined the parameter, and where neither has an interval.
    """
    by_name = {parameter.name: parameter for parameter in parameters}
    known = {estimate.parameter: estimate for estimate in estimates}
    if _GROWS in model.parameter_names:
        known.pop("allReduceBwGBps", None)  # of a straight line, which this model does not draw
    results = []
    for name in model.parameter_names:
        if name in known:
            multiplier = by_name.get(_MULTIPLIERS.get(name, ""))
            scale = 1.0 if multiplier is None else 1.0 / multiplier.value
            results.append(_beside(by_name[name], known[name], scale))
    return tuple(results)


def _beside(steps: ParameterResult, kernels: KernelEstimate, scale: float) -> KernelResult:
    """The kernels' value, times ``scale``, beside the steps'."""
    value = kernels.value * scale
    ci90 = None
    if kernels.ci90 is not None:
        low, high = kernels.ci90
        ci90 = (low * scale, high * scale)

    determined = steps.status in ("fitted", "at-bound")
    return KernelResult(
        parameter=steps.name,
        value=value,
        ci90=ci90,
        n=kernels.n,
        from_=kernels.source,
        steps_value=steps.value,
        agrees=_agree(value, ci90, steps) if determined else None,
    )


def kernel_warnings(results: Sequence[KernelResult]) -> list[str]:
    """A warning for every parameter of which steps and kernels say different things, by more than a model errs."""
    return [
        f"{result.parameter} is {result.steps_value:.3g} by the steps and {result.value:.3g} by the kernels "
        f"({result.from_}): the steps' value makes up for something that the model lacks, or steps and kernels were "
        "not measured alike."
        for result in results
        if result.agrees is False and _apart(result) > MODEL_FLOOR
    ]


def _centre(parameter: str, groups: pd.Series, source: str) -> KernelEstimate | None:
    if not len(groups):
        return None
    values = np.sort(groups.to_numpy(dtype=np.float64))
    return KernelEstimate(
        parameter=parameter,
        value=float(np.median(values)),
        ci90=median_interval(values),
        n=len(values),
        source=source,
    )


def median_interval(values: Floats) -> tuple[float, float] | None:
    """The 90% interval of a median from sorted independent values, shape (n,); None where too few.

    The narrowest pair of order statistics that holds it with 90% at the least, whatever the distribution (the sign
    test turned round: Conover, Practical Nonparametric Statistics, section 3.2).
    """
    n = len(values)
    if n < FEWEST_GROUPS:
        return None
    rank = int(stats.binom.ppf(0.05, n, 0.5))
    low = values[rank - 1]
    high = values[n - rank]
    return float(low), float(high)


def _agree(value: float, ci90: tuple[float, float] | None, steps: ParameterResult) -> bool | None:
    """Whether intervals meet; a value without one, or at its bound, stands for itself; None where neither has one."""
    if ci90 is None and steps.ci90 is None:
        return None
    stands = (steps.value, steps.value)
    return overlap(ci90 or (value, value), steps.ci90 or stands)


def _apart(result: KernelResult) -> float:
    """How far the values differ, as a share of the larger."""
    difference = abs(result.value - result.steps_value)
    return difference / max(abs(result.value), abs(result.steps_value))


def _named(parts: Mapping[str, pd.Series]) -> str:
    return " and ".join(name for name, part in parts.items() if len(part))
