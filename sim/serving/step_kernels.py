"""Step times inside compiled code: a latency model, an architecture, a GPU and a tp, reduced to a vector of constants.

roofline-v1 and roofline-v3 read nothing of a step but its eight moments, so they are compiled whole. Any other model is
called from Python once a step (kind :data:`EXTERNAL`): slow, and exactly what the model says.
"""

import dataclasses

import numpy as np

from sim.architecture import Architecture
from sim.hardware import Hardware
from sim.models.compiled import Lines, compiled
from sim.models.registry import LatencyModel
from sim.models.roofline_v1 import kernel as roofline_v1_kernel
from sim.models.roofline_v1.model import RooflineV1
from sim.models.roofline_v3 import kernel as roofline_v3_kernel
from sim.models.roofline_v3.model import RooflineV3
from sim.steps.batch import Floats

EXTERNAL, ROOFLINE_V1, ROOFLINE_V3 = range(3)


@dataclasses.dataclass(frozen=True, eq=False)
class StepKernel:
    """How the compiled loop finds the duration of a step: which formula, and its constants (k,), in µs."""

    kind: int
    constants: Floats

    def step_time_us(self, moments: Floats) -> float:
        """Duration in µs of a step with these moments (8,); only where ``kind`` is not :data:`EXTERNAL`."""
        return float(step_time_us(self.kind, self.constants, moments))


def step_kernel(model: LatencyModel, arch: Architecture, hardware: Hardware, tp: int) -> StepKernel:
    """The compiled form of ``model`` for one architecture on ``tp`` GPUs. Raises HardwareError, ArchitectureError."""
    model.limits(arch)
    if isinstance(model, RooflineV1):
        return StepKernel(ROOFLINE_V1, roofline_v1_kernel.constants(model, arch, hardware, tp))
    if isinstance(model, RooflineV3):
        return StepKernel(ROOFLINE_V3, roofline_v3_kernel.constants(model, arch, hardware, tp))
    return StepKernel(EXTERNAL, np.zeros(1))


@compiled
def step_time_us(kind: int, constants: Floats, moments: Floats) -> float:
    """Duration in µs of a step with ``moments`` (8,), by the formula ``kind``, which is not :data:`EXTERNAL`."""
    if moments[0] == 0:
        return decode_time_us(decode_lines(kind, constants, moments[6]), moments[7])
    if kind == ROOFLINE_V1:
        return roofline_v1_kernel.step_us(constants, moments)
    return roofline_v3_kernel.step_us(constants, moments)


@compiled
def decode_lines(kind: int, constants: Floats, num_decode: float) -> Lines:
    """Duration of a step of so many decodes by their cached tokens: the larger of two lines."""
    if kind == ROOFLINE_V1:
        return roofline_v1_kernel.decode_lines(constants, num_decode)
    return roofline_v3_kernel.decode_lines(constants, num_decode)


@compiled
def decode_time_us(lines: Lines, context: float) -> float:
    """Duration in µs of a step of decodes that together have ``context`` tokens cached."""
    return max(lines[0] + lines[1] * context, lines[2] + lines[3] * context)
