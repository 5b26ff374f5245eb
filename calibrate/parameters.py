"""The parameters a fit may move: unit, physical bounds, the guide's range, and what makes each visible."""

import dataclasses
import math

from calibrate.errors import CalibrateError
from sim.batch import Floats
from sim.errors import nearest

_SMALLEST = 1e-3


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One key of the configuration.

    ``lower`` and ``upper`` are physical and hard; ``guide`` is the calibration guide's range, which only warns.
    ``tied_to`` names the parameter with which only its product (or sum) shows: it is held unless freed by name.
    ``stage`` is the step of the calibration that first fits it. A parameter that may be negative counts on a linear
    scale, every other on a logarithmic one.
    """

    name: str
    unit: str
    lower: float
    upper: float
    guide: tuple[float, float]
    stage: str
    meaning: str
    seen_in: str
    tied_to: str | None = None

    @property
    def is_linear(self) -> bool:
        """Whether it counts on a linear scale."""
        return self.lower < 0

    def size(self, value: float) -> float:
        """What a change of the parameter is measured against: its value, or the least (linear: all) of the guide's."""
        return self.guide[1] - self.guide[0] if self.is_linear else max(value, self.guide[0])

    def widened(self, below: float, above: float) -> tuple[float, float]:
        """The guide's range widened by factors within the bounds, a linear one by its own width on both sides."""
        low, high = self.guide
        if self.is_linear:
            return max(self.lower, 2 * low - high), min(self.upper, 2 * high - low)
        return max(self.lower, low / below, _SMALLEST), min(self.upper, high * above)

    def extent(self, low: float, high: float) -> float:
        """How far apart two values are in what sensitivities are taken by: ln θ, or θ in sizes if linear."""
        return (high - low) / self.size(low) if self.is_linear else math.log(high / low)

    @property
    def middle(self) -> float:
        """The middle of the guide's range on the parameter's scale."""
        low, high = self.guide
        return (low + high) / 2 if self.is_linear or low <= 0 else float((low * high) ** 0.5)

    def between(self, low: float, high: float, share: Floats) -> Floats:
        """Values at ``share`` (from 0 to 1) of the way from ``low`` to ``high`` on the parameter's scale."""
        values: Floats = low + (high - low) * share if self.is_linear else low * (high / low) ** share
        return values


def _efficiency(name: str, guide: tuple[float, float], stage: str, meaning: str, seen_in: str) -> Parameter:
    return Parameter(name, "–", 0.001, 1.0, guide, stage, meaning, seen_in)


def _factor(name: str, guide: tuple[float, float], stage: str, meaning: str, tied_to: str) -> Parameter:
    return Parameter(name, "–", 0.05, 5.0, guide, stage, meaning, f"only its product with {tied_to} shows", tied_to)


def _overhead(name: str, guide: tuple[float, float], stage: str, unit: str, meaning: str, seen_in: str) -> Parameter:
    return Parameter(name, unit, 0.0, 1e5, guide, stage, meaning, seen_in)


_V1 = (
    _efficiency(
        "BwEffConstant",
        (0.6, 0.8),
        "bandwidth",
        "share of the peak memory bandwidth that is reached",
        "memory-bound steps: decode at small batch",
    ),
    _overhead(
        "TOverheadMicros",
        (20.0, 100.0),
        "bandwidth",
        "µs/step",
        "host time of a step, growing with its requests",
        "short steps; many requests a step",
    ),
    _efficiency(
        "mfuPrefill",
        (0.5, 0.7),
        "prefill",
        "share of the peak FLOP/s that prefill GEMMs reach",
        "compute-bound prefill: long prompts",
    ),
    _efficiency(
        "vectorPeakFraction",
        (0.05, 0.15),
        "prefill",
        "rate of attention arithmetic as a share of the peak FLOP/s",
        "prefill of very long prompts",
    ),
    _overhead(
        "prefillOverheadMicros",
        (50.0, 200.0),
        "prefill",
        "µs/request",
        "time per prompt in a step without decodes",
        "short prompts in large prefill batches",
    ),
    _efficiency(
        "mfuDecode",
        (0.08, 0.15),
        "decode",
        "share of the peak FLOP/s that decode GEMMs reach",
        "compute-bound decode: batch 128 and more",
    ),
    Parameter(
        "tpScalingExponent",
        "–",
        0.0,
        2.0,
        (0.7, 0.9),
        "tensor-parallel",
        "prefill speed-up on tp GPUs is tp to this power",
        "compute-bound prefill at two tp or more",
    ),
    Parameter(
        "decodeTpScalingExponent",
        "–",
        0.01,
        2.0,
        (0.95, 1.0),
        "tensor-parallel",
        "decode speed-up on tp GPUs is tp to this power",
        "decode at two tp or more",
    ),
    _overhead(
        "allReduceLatency",
        (10.0, 100.0),
        "tensor-parallel",
        "µs",
        "time of one all-reduce, two a layer where tp > 1",
        "steps with tp above 1 beside steps with tp 1",
    ),
    _overhead(
        "mixedPrefillOverheadMicros",
        (25.0, 100.0),
        "mixed",
        "µs/request",
        "time per prompt in a step with decodes",
        "steps with prefill and decode requests",
    ),
    _factor("mfuPrefillMultiplier", (0.8, 1.2), "multipliers", "correction of mfuPrefill", "mfuPrefill"),
    _factor("mfuDecodeMultiplier", (0.8, 1.2), "multipliers", "correction of mfuDecode", "mfuDecode"),
    _factor(
        "prefillBwFactor", (0.8, 1.0), "multipliers", "bandwidth of prefill steps over BwEffConstant", "BwEffConstant"
    ),
    _factor(
        "decodeBwFactor", (0.7, 1.0), "multipliers", "bandwidth of decode steps over BwEffConstant", "BwEffConstant"
    ),
    _overhead(
        "perLayerOverhead",
        (0.0, 10.0),
        "ignored",
        "µs/layer",
        "read and ignored by roofline-v1",
        "no step: roofline-v1 ignores it",
    ),
)


_V3 = (
    Parameter(
        "gemmMfu",
        "–",
        0.1,
        1.0,
        (0.4, 0.9),
        "gemm",
        "share of the peak FLOP/s that matrix products reach",
        "compute-bound steps: prompts of a thousand tokens or more",
    ),
    Parameter(
        "weightBwFraction",
        "–",
        0.2,
        1.0,
        (0.6, 0.9),
        "gemm",
        "share of the peak memory bandwidth at which weights are read",
        "steps of few tokens",
    ),
    Parameter(
        "layerMicros",
        "µs/layer",
        0.0,
        300.0,
        (5.0, 60.0),
        "gemm",
        "GPU time of a layer beside GEMMs, attention and all-reduce",
        "short steps",
    ),
    Parameter(
        "attentionMfu",
        "–",
        0.02,
        1.0,
        (0.2, 0.9),
        "attention",
        "share of the peak FLOP/s that attention reaches",
        "prefill of long prompts",
    ),
    Parameter(
        "kvBwFraction",
        "–",
        0.1,
        1.0,
        (0.5, 0.95),
        "attention",
        "share of the peak memory bandwidth at which cached keys and values are read",
        "decode of many requests with long contexts",
    ),
    Parameter(
        "allReduceHopMicros",
        "µs",
        0.0,
        300.0,
        (1.0, 40.0),
        "all-reduce",
        "latency of an all-reduce for each doubling of tp",
        "decode at two tp or more",
    ),
    Parameter(
        "allReduceBwGBps",
        "GB/s",
        1.0,
        2000.0,
        (20.0, 600.0),
        "all-reduce",
        "rate at which a GPU sends in an all-reduce, at tp 2",
        "prefill at tp above 1",
    ),
    Parameter(
        "allReduceTpExponent",
        "–",
        -1.0,
        4.0,
        (-0.5, 1.0),
        "all-reduce",
        "time for each byte sent grows with tp/2 to this power",
        "prefill at two tp above 1 or more",
    ),
    Parameter(
        "allReduceSetupMicros",
        "µs",
        0.0,
        300.0,
        (2.0, 50.0),
        "all-reduce",
        "extra time of an all-reduce of more than 0.5 MB",
        "steps of a few hundred tokens at tp above 1",
    ),
    Parameter(
        "allReduceLargeMicrosPerMB",
        "µs/MB",
        0.0,
        100.0,
        (0.2, 10.0),
        "engine",
        "extra time of an all-reduce above 40 MB for each megabyte of every other GPU",
        "prefill of several thousand tokens at tp above 1",
    ),
    Parameter(
        "hostLayerMicros",
        "µs/layer",
        0.0,
        1500.0,
        (30.0, 500.0),
        "engine",
        "host time of a layer, hidden while the GPU takes longer",
        "short steps of an engine whose host is slow",
    ),
    Parameter(
        "hostPrefillMicros",
        "µs/step",
        0.0,
        200_000.0,
        (1000.0, 40_000.0),
        "engine",
        "host time of a step with a prompt, hidden while the GPU takes longer",
        "short prompts on an engine whose host is slow",
    ),
    Parameter(
        "requestMicros",
        "µs/request",
        0.0,
        5000.0,
        (5.0, 400.0),
        "engine",
        "time for each decode of a step that nothing hides",
        "decode at large batch",
    ),
    Parameter(
        "promptMicros",
        "µs/request",
        0.0,
        50_000.0,
        (50.0, 3000.0),
        "engine",
        "time for each prompt of a step that nothing hides",
        "short prompts in large prefill batches",
    ),
)

PARAMETERS = {parameter.name: parameter for parameter in (*_V1, *_V3)}
"""Every parameter by name, in the order in which they claim what the data can show."""

STAGES = (
    *("bandwidth", "prefill", "decode", "tensor-parallel", "mixed", "multipliers"),
    *("gemm", "attention", "all-reduce", "engine"),
)
"""The calibration guide's order, then roofline-v3's; each stage seeds the next."""


def find_parameter(name: str) -> Parameter:
    """The parameter of that name, whatever its case. Raises CalibrateError with the nearest name."""
    by_lower = {known.lower(): parameter for known, parameter in PARAMETERS.items()}
    if name.lower() not in by_lower:
        raise CalibrateError(
            f"no parameter {name!r} (`calibrate show parameters` lists them){nearest(name, PARAMETERS)}"
        )
    return by_lower[name.lower()]
