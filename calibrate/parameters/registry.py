"""Finds parameters by name; what each of them is stands with the latency models."""

from collections.abc import Iterable

from calibrate.records.errors import CalibrateError
from sim.errors import nearest
from sim.models.latency_model import LatencyModel
from sim.models.parameter import Parameter
from sim.models.registry import PARAMETERS
from sim.models.request_times import REQUEST_TIMES

STAGES = (
    *("bandwidth", "prefill", "decode", "tensor-parallel", "mixed", "multipliers"),
    *("gemm", "attention", "experts", "all-reduce", "engine"),
    "serving",
)
"""The calibration guide's order, then that of the rooflines of layers; each stage seeds the next."""


REQUEST_TIME_NAMES = tuple(parameter.name for parameter in REQUEST_TIMES)


def in_order(names: Iterable[str], model: LatencyModel) -> tuple[str, ...]:
    """Those of some names that a model reads or that are times around the engine, in the order of their claims."""
    wanted = set(names)
    return tuple(name for name in (*model.parameter_names, *REQUEST_TIME_NAMES) if name in wanted)


def tuned_names(model: LatencyModel) -> tuple[str, ...]:
    """What serving results move by default: times and factors that kernels alone do not show."""
    return tuple(p.name for p in (*model.parameter_set, *REQUEST_TIMES) if p.is_tuned)


def find_parameter(name: str) -> Parameter:
    """The parameter of that name, whatever its case. Raises CalibrateError with the nearest name."""
    by_lower = {known.lower(): parameter for known, parameter in PARAMETERS.items()}
    if name.lower() not in by_lower:
        raise CalibrateError(
            f"no parameter {name!r} (`calibrate show parameters` lists them){nearest(name, PARAMETERS)}"
        )
    return by_lower[name.lower()]
