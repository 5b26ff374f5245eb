"""The parameters a fit may move: unit, physical bounds, the guide's range, and what makes each visible."""

import dataclasses
from collections.abc import Iterable

from calibrate.parameters.parameter import Parameter
from calibrate.parameters.roofline_v3 import ROOFLINE_V3
from calibrate.records.errors import CalibrateError
from sim.errors import nearest


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
    dataclasses.replace(
        _efficiency(
            "bwEfficiencyFactor",
            (0.6, 0.8),
            "bandwidth",
            "share of the peak memory bandwidth that is reached, in the database models",
            "memory-bound steps: decode at small batch",
        ),
        zero="off",
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
    Parameter(
        "perLayerOverhead",
        "µs/layer",
        0.001,
        1e5,
        (1.0, 10.0),
        "ignored",
        "read and ignored by roofline-v1",
        "no step: roofline-v1 ignores it",
        zero="none",
    ),
)

REQUEST_TIMES = (
    Parameter(
        "apiMicros",
        "µs/request",
        0.0,
        1e6,
        (1000.0, 20_000.0),
        "serving",
        "time from a client's request to the engine's seeing it",
        "time to first token of a server",
    ),
    Parameter(
        "apiPromptTokenMicros",
        "µs/token",
        0.0,
        1e4,
        (0.1, 10.0),
        "serving",
        "the same for each token of the prompt",
        "time to first token at prompts of several lengths",
    ),
    Parameter(
        "apiOutputTokenMicros",
        "µs/token",
        0.0,
        1e5,
        (1.0, 1000.0),
        "serving",
        "time of each output token on its way to the client that nothing hides",
        "inter-token latency of a server",
    ),
)
"""Times around the engine: no step holds them, the server does. Every latency model can have them."""

PARAMETERS = {parameter.name: parameter for parameter in (*_V1, *ROOFLINE_V3, *REQUEST_TIMES)}
"""Every parameter by name, in the order in which they claim what the data can show."""

_PER_LAYER = dataclasses.replace(PARAMETERS["perLayerOverhead"], stage="bandwidth", seen_in="short steps")
_REPLACED = ("TOverheadMicros", "prefillOverheadMicros", "mixedPrefillOverheadMicros")
_IN_MODEL = {
    "roofline-v2": {
        **{name: dataclasses.replace(PARAMETERS[name], replaced_by="perLayerOverhead") for name in _REPLACED},
        "perLayerOverhead": dataclasses.replace(
            _PER_LAYER, meaning="host time of a layer, in place of the three overheads", zero="off"
        ),
    },
    "roofline-v2-interp": {
        "perLayerOverhead": dataclasses.replace(_PER_LAYER, meaning="host time of a layer on one GPU")
    },
}

STAGES = (
    *("bandwidth", "prefill", "decode", "tensor-parallel", "mixed", "multipliers"),
    *("gemm", "attention", "all-reduce", "engine"),
    "serving",
)
"""The calibration guide's order, then roofline-v3's; each stage seeds the next."""


def parameter_in(model: str, name: str) -> Parameter:
    """What a parameter means in a model. Bounds, unit and guide are the same in all models."""
    return _IN_MODEL.get(model, {}).get(name, PARAMETERS[name])


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Those of some names that are parameters, in the registry's order."""
    return tuple(name for name in PARAMETERS if name in set(names))


def find_parameter(name: str) -> Parameter:
    """The parameter of that name, whatever its case. Raises CalibrateError with the nearest name."""
    by_lower = {known.lower(): parameter for known, parameter in PARAMETERS.items()}
    if name.lower() not in by_lower:
        raise CalibrateError(
            f"no parameter {name!r} (`calibrate show parameters` lists them){nearest(name, PARAMETERS)}"
        )
    return by_lower[name.lower()]
