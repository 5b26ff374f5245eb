"""The latency models by name, and what all of them offer."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim.architecture import Architecture
from sim.database.table import MfuTable
from sim.errors import SimError, nearest
from sim.hardware import Hardware
from sim.models.roofline_v1.model import RooflineV1
from sim.models.roofline_v2.model import RooflineV2
from sim.models.roofline_v2_interp.model import RooflineV2Interp
from sim.models.roofline_v3.model import RooflineV3
from sim.steps.batch import Batch, Floats, StepTable


class LatencyModel(Protocol):
    """Predicts the duration of engine steps from a hardware configuration."""

    @property
    def name(self) -> str:
        """The model's name on the command line."""

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """What a fit may move."""

    @property
    def flat_all_reduce(self) -> bool:
        """Whether an all-reduce takes the same time for any number of bytes."""

    def parameters(self, hardware: Hardware) -> dict[str, float]:
        """The model's parameters with defaults filled in. Raises HardwareError if a required one is bad."""

    def limits(self, arch: Architecture) -> list[str]:
        """What the model leaves out or gets wrong for this architecture, in words; raises if it cannot compute it."""

    def predict_us(self, table: StepTable, hardware: Hardware) -> Floats:
        """Duration of every step in µs, shape (n,)."""

    def predict_with_jacobian_us(
        self, table: StepTable, hardware: Hardware, names: Sequence[str]
    ) -> tuple[Floats, Floats]:
        """Durations in µs, shape (n,), and their derivatives by the named parameters, shape (n, len(names))."""

    def regimes(self, table: StepTable, hardware: Hardware) -> NDArray[np.str_]:
        """Which side of the roofline bounds each step: ``compute``, ``memory``, ``host`` or ``communication``."""

    def step_time_us(self, batch: Batch, arch: Architecture, hardware: Hardware, tp: int = 1) -> float:
        """Duration of one step in µs."""


_DATABASE_MODELS: dict[str, Callable[[MfuTable], LatencyModel]] = {
    "roofline-v2": RooflineV2,
    "roofline-v2-interp": RooflineV2Interp,
}
_NAMES = ("roofline-v1", "roofline-v3", *_DATABASE_MODELS)


def has_model(name: str) -> bool:
    """Whether there is a latency model of that name."""
    return name in _NAMES


def needs_mfu_table(name: str) -> bool:
    """Whether the latency model of that name looks MFUs up in a benchmark database."""
    return name in _DATABASE_MODELS


def latency_model(name: str, *, per_layer_overhead: bool = False, mfu_table: MfuTable | None = None) -> LatencyModel:
    """The latency model of that name. Raises SimError, with the nearest valid name, for any other.

    ``per_layer_overhead`` makes roofline-v1 add ``perLayerOverhead`` for each layer; it ignores that key otherwise.
    roofline-v2 and roofline-v2-interp need ``mfu_table``.
    """
    if name == "roofline-v1":
        return RooflineV1(per_layer_overhead)
    if name == "roofline-v3":
        return RooflineV3()
    if name not in _DATABASE_MODELS:
        raise SimError(f"latency model {name!r} is not known (known: {', '.join(_NAMES)}){nearest(name, _NAMES)}")
    if mfu_table is None:
        raise SimError(f"{name} looks MFUs up in a benchmark database: give it one as mfu_table=load_mfu_table(…)")
    return _DATABASE_MODELS[name](mfu_table)
