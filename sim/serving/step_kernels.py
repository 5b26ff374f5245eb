"""Step times inside compiled code: a latency model, an architecture, a GPU and a tp, reduced to a vector of constants.

A model that reads nothing of a step but its eight moments can be compiled whole: it names the module of its compiled
form (``constants``, ``step_us`` and ``decode_lines``, see :mod:`sim.models.roofline_v1.kernel`). Any other model is
called from Python once a step (kind :data:`EXTERNAL`): slow, and exactly what the model says.
"""

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from sim.architecture import Architecture
from sim.hardware import Hardware
from sim.models.compiled import Lines, compiled, entrance
from sim.models.latency_model import LatencyModel
from sim.models.registry import LATENCY_MODELS
from sim.steps.batch import Floats

EXTERNAL = -1
COMPILED: dict[type[LatencyModel], ModuleType] = {
    model: importlib.import_module(model.kernel)
    for model in LATENCY_MODELS.values()
    if model.kernel
}
"""The compiled form of every registered model that has one; a model's kind is its place here."""

_KINDS = {model: kind for kind, model in enumerate(COMPILED)}
_Formula = Callable[[int, Floats, Any], Any]


def _by_kind(functions: Sequence[Callable[[Floats, Any], Any]]) -> _Formula:
    """A compiled function of kind, constants and an argument that calls the one of ``functions`` of that kind."""
    last = functions[-1]

    def only(kind: int, constants: Floats, argument: Any) -> Any:  # noqa: ARG001  # called like those that choose
        return last(constants, argument)

    chosen: _Formula = compiled(only)
    for number in reversed(range(len(functions) - 1)):
        chosen = _either(number, functions[number], chosen)
    return chosen


def _either(number: int, function: Callable[[Floats, Any], Any], others: _Formula) -> _Formula:
    def choose(kind: int, constants: Floats, argument: Any) -> Any:
        if kind == number:
            return function(constants, argument)
        return others(kind, constants, argument)

    return compiled(choose)


_step_us = _by_kind([form.step_us for form in COMPILED.values()])
_decode_lines = _by_kind([form.decode_lines for form in COMPILED.values()])


@dataclasses.dataclass(frozen=True, eq=False)
class StepKernel:
    """How the compiled loop finds the duration of a step: which formula, and its constants (k,), in µs."""

    kind: int
    constants: Floats

    def step_time_us(self, moments: Floats) -> float:
        """Duration in µs of a step with these moments (8,); only where ``kind`` is not :data:`EXTERNAL`."""
        return float(_from_python(self.kind, self.constants, moments))


def step_kernel(model: LatencyModel, arch: Architecture, hardware: Hardware, tp: int) -> StepKernel:
    """The compiled form of ``model`` for one architecture on ``tp`` GPUs. Raises HardwareError, ArchitectureError."""
    model.limits(arch)
    kind = _KINDS.get(type(model), EXTERNAL)
    constants = (
        np.zeros(1)
        if kind == EXTERNAL
        else COMPILED[type(model)].constants(model, arch, hardware, tp)
    )
    return StepKernel(kind, constants)


@compiled
def step_time_us(kind: int, constants: Floats, moments: Floats) -> float:
    """Duration in µs of a step with ``moments`` (8,), by the formula ``kind``, which is not :data:`EXTERNAL`."""
    if moments[0] == 0:
        return decode_time_us(decode_lines(kind, constants, moments[6]), moments[7])
    return _step_us(kind, constants, moments)  # type: ignore[no-any-return]  # as compiled


@compiled
def decode_lines(kind: int, constants: Floats, num_decode: float) -> Lines:
    """Duration of a step of so many decodes by their cached tokens: the larger of two lines."""
    return _decode_lines(kind, constants, num_decode)  # type: ignore[no-any-return]  # as compiled


@compiled
def decode_time_us(lines: Lines, context: float) -> float:
    """Duration in µs of a step of decodes that together have ``context`` tokens cached."""
    first = lines[0] + lines[1] * context + lines[4] * min(context, lines[5])
    return max(first, lines[2] + lines[3] * context)


@entrance
def _from_python(kind: int, constants: Floats, moments: Floats) -> float:
    return step_time_us(kind, constants, moments)
