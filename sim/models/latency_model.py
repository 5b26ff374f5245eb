"""What every latency model offers, and what follows from the facts of its parameters alone."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sim.architecture import Architecture
from sim.errors import ArchitectureError
from sim.hardware import Hardware
from sim.models.parameter import Parameter
from sim.steps.batch import Batch, Floats, StepTable
from sim.steps.work import beyond_windows

PEAKS = ("TFlopsPeak", "BwPeakTBs")
"""Dense 16-bit TFLOP/s and TB/s of one GPU: the vendor's, never fitted."""


class LatencyModel(ABC):
    """Predicts the duration of engine steps from a hardware configuration.

    Attributes:
        name: The model's name on the command line.
        parameter_set: What a fit may move, in the order in which parameters claim what the data can show.
        parameter_names: Their names, derived.
        flat_all_reduce: Whether an all-reduce takes the same time for any number of bytes.
        counts_windows: Whether attention is cut at windows and chunks; else longer contexts are refused.
        shares_experts: Whether experts that GPUs share whole (``ep``) have a term.
        needs_mfu_table: Whether the model is made from a benchmark database, its one argument.
        kernel: The module with the model's compiled form for the serving simulator, where it has one.

    """

    name: ClassVar[str]
    parameter_set: ClassVar[tuple[Parameter, ...]]
    parameter_names: ClassVar[tuple[str, ...]]
    flat_all_reduce: ClassVar[bool] = False
    counts_windows: ClassVar[bool] = False
    shares_experts: ClassVar[bool] = False
    needs_mfu_table: ClassVar[bool] = False
    kernel: ClassVar[str | None] = None

    def __init_subclass__(cls, **kwargs: object) -> None:
        """Derive the names from the facts."""
        super().__init_subclass__(**kwargs)
        cls.parameter_names = tuple(
            parameter.name for parameter in getattr(cls, "parameter_set", ())
        )

    @classmethod
    def defaults(cls) -> dict[str, float]:
        """Values of keys that a configuration may leave out."""
        return {p.name: p.default for p in cls.parameter_set if p.default is not None}

    def parameters(self, hardware: Hardware) -> dict[str, float]:
        """The two peaks and every parameter, defaults filled in.

        Raises HardwareError for a peak or a required key that is missing, and for a rate that is zero.
        """
        values = {key: hardware.positive(key) for key in PEAKS}
        for parameter in self.parameter_set:
            values[parameter.name] = _value(parameter, hardware)
        return values

    def limits(self, arch: Architecture) -> list[str]:  # noqa: ARG002  # what a model of any architecture need not read
        """What the model leaves out or gets wrong for this architecture, in words; raises if it cannot compute it."""
        return []

    def remarks(self, arch: Architecture, hardware: Hardware) -> list[str]:  # noqa: ARG002  # most models say nothing of it
        """What a user is told of this architecture on this GPU: :meth:`limits`, and what the GPU lacks for it."""
        return self.limits(arch)

    def check(self, table: StepTable) -> None:
        """Raise ArchitectureError for steps that the model cannot compute: by their model, or beyond its windows."""
        for arch in table.architectures:
            self.limits(arch)
        beyond = self.beyond(table)
        if beyond.any():
            row = int(np.argmax(beyond))
            arch = table.architectures[table.arch_index[row]]
            raise ArchitectureError(f"row {row}: {beyond_window(self.name, arch)}")

    def beyond(self, table: StepTable) -> NDArray[np.bool_]:
        """Rows that are longer than the windows of their model, where the model does not count those, shape (n,)."""
        if self.counts_windows:
            return np.zeros(len(table), dtype=bool)
        return beyond_windows(table)

    def check_length(self, arch: Architecture, longest: float) -> None:
        """Raise ArchitectureError for a context of ``longest`` tokens beyond windows that the model does not count."""
        if not self.counts_windows and arch.window and longest > arch.window:
            raise ArchitectureError(beyond_window(self.name, arch))

    @abstractmethod
    def predict_us(self, table: StepTable, hardware: Hardware) -> Floats:
        """Duration of every step in µs, shape (n,)."""

    @abstractmethod
    def predict_with_jacobian_us(
        self, table: StepTable, hardware: Hardware, names: Sequence[str]
    ) -> tuple[Floats, Floats]:
        """Durations in µs, shape (n,), and their derivatives by the named parameters, shape (n, len(names))."""

    @abstractmethod
    def regimes(self, table: StepTable, hardware: Hardware) -> NDArray[np.str_]:
        """Which side of the roofline bounds each step: ``compute``, ``memory``, ``host`` or ``communication``.

        roofline-v4 has ``experts`` beside them.
        """

    def step_time_us(
        self, batch: Batch, arch: Architecture, hardware: Hardware, tp: int = 1
    ) -> float:
        """Duration of one step in µs."""
        return float(self.predict_us(StepTable.from_batches([batch], [arch], [tp]), hardware)[0])


def largest_part(
    compute: Floats, memory: Floats, host: Floats, communication: Floats, **others: Floats
) -> NDArray[np.str_]:
    """Which of four parts and ``others``, each of shape (n,), is the largest of each step, by name."""
    parts = np.stack([compute, memory, host, communication, *others.values()])
    names = np.array(["compute", "memory", "host", "communication", *others])
    largest: NDArray[np.str_] = names[parts.argmax(axis=0)]
    return largest


def refuse_unmodelled(model: str, arch: Architecture) -> None:
    """Raise ArchitectureError for layers, or a split of experts, that no term of the model counts."""
    if arch.ep > 1:
        raise ArchitectureError(
            f"{model} cannot compute {arch.name} with ep {arch.ep}: it has no term for expert parallelism; "
            "roofline-v4 has"
        )
    if arch.not_modelled:
        raise ArchitectureError(
            f"{model} cannot compute {arch.name}: no term for {'; '.join(arch.not_modelled)}"
        )


def beyond_window(model: str, arch: Architecture) -> str:
    """What a model of full attention cannot compute of this architecture, in words."""
    return (
        f"{model} counts attention in full: {arch.name} has {'; '.join(arch.windows)}, "
        f"so contexts beyond {arch.window} tokens are not modelled"
    )


def _value(parameter: Parameter, hardware: Hardware) -> float:
    if parameter.default is None:
        return hardware.positive(parameter.name)
    value = hardware.values.get(parameter.name, parameter.default)
    may_be_zero = parameter.lower <= 0 or (parameter.zero and value == 0)
    if value <= 0 and not may_be_zero:
        hardware.positive(parameter.name)
    return value
