"""Step times inside compiled code: a latency model, an architecture, a GPU and a tp, reduced to a vector of constants.

roofline-v1 reads nothing of a step but its eight moments, so it is compiled whole. Any other model is called from
Python once a step (kind :data:`EXTERNAL`): slow, and exactly what the model says.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

from sim.architecture import Architecture
from sim.batch import Floats, StepTable
from sim.hardware import Hardware
from sim.latency import LatencyModel
from sim.moments import MOMENTS
from sim.roofline_v1 import RooflineV1, rates
from sim.roofline_v1_columns import Columns, phase_bytes, reduce_table

F = TypeVar("F", bound=Callable[..., Any])
# no check for a division by zero; inlined, because a call would copy the whole state of the scheduler
compiled = cast(Callable[[F], F], numba.njit(error_model="numpy", forceinline=True))

EXTERNAL, ROOFLINE_V1 = 0, 1


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
        return StepKernel(ROOFLINE_V1, _roofline_v1_constants(model, arch, hardware, tp))
    return StepKernel(EXTERNAL, np.zeros(1))


def _roofline_v1_constants(model: RooflineV1, arch: Architecture, hardware: Hardware, tp: int) -> Floats:
    """What one token, query-key pair, cached token and request adds to each side of both phases."""
    values = model.parameters(hardware)
    prefill_gemm, decode_gemm, attention, prefill_bytes, decode_bytes = rates(values)
    prefill_speedup, decode_speedup = tp ** -values["tpScalingExponent"], tp ** -values["decodeTpScalingExponent"]
    prompt, decode, pair = (_reduced(arch, tp, step) for step in (_PROMPT, _DECODE, _CONTEXT))
    prefill_mb, decode_mb = phase_bytes(_probe(arch, tp, *({name: 1.0} for name in MOMENTS)))  # linear in the moments
    return np.array(
        [
            prompt.prefill_gemm[0] * prefill_gemm * prefill_speedup,
            pair.decode_attention[0] * attention * prefill_speedup,
            *(prefill_mb[:5] * prefill_bytes / tp),
            decode.decode_gemm[0] * decode_gemm * decode_speedup,
            pair.decode_attention[0] * attention * decode_speedup,
            *(_weights_and_rest(decode_mb[6], weights=prefill_mb[0]) * decode_bytes * decode_speedup),
            decode_mb[7] * decode_bytes * decode_speedup,
            values["TOverheadMicros"],
            values["prefillOverheadMicros"],
            values["mixedPrefillOverheadMicros"],
            prompt.all_reduces[0] * values["allReduceLatency"]
            + prompt.layers[0] * values["perLayerOverhead"] * model.per_layer_overhead,
        ]
    )


_PROMPT = {"num_prefill": 1.0, "new_tokens": 1.0}
_DECODE = {"num_decode": 1.0}
_CONTEXT = {"num_decode": 1.0, "decode_context_tokens": 1.0}


def _reduced(arch: Architecture, tp: int, step: dict[str, float]) -> Columns:
    return reduce_table(_probe(arch, tp, step))


def _weights_and_rest(one_request: float, weights: float) -> Floats:
    """A lone decode's bytes, parted into the weights, which a phase reads once, and what each request adds."""
    return np.array([weights, one_request - weights])


def _probe(arch: Architecture, tp: int, *steps: dict[str, float]) -> StepTable:
    """A table of made-up steps, each given by its moments that are not 0."""
    moments = np.array([[step.get(name, 0.0) for step in steps] for name in MOMENTS])
    return StepTable((arch,), np.zeros(len(steps), dtype=np.intp), np.full(len(steps), tp, dtype=np.int64), moments)


@compiled
def step_time_us(kind: int, constants: Floats, moments: Floats) -> float:
    """Duration in µs of a step with ``moments`` (8,), by the formula ``kind``; NaN where that is in Python."""
    if kind == ROOFLINE_V1:
        return _roofline_v1_us(constants, moments)
    return np.nan


@compiled
def _roofline_v1_us(c: Floats, moments: Floats) -> float:
    num_prefill, num_decode, decode_context = moments[0], moments[6], moments[7]
    tokens = moments[1] + moments[3]
    share = _prefill_share(num_prefill, tokens, num_decode)
    time = 0.0
    if num_prefill > 0:
        compute = c[0] * tokens + c[1] * moments[5]
        memory = c[2] + c[3] * moments[1] + c[4] * moments[2] + c[5] * moments[3] + c[6] * moments[4]
        time += share * max(compute, memory) + num_prefill * (c[13] if num_decode == 0 else c[14])
    if num_decode > 0:
        compute = c[7] * num_decode + c[8] * decode_context
        memory = c[9] + c[10] * num_decode + c[11] * decode_context
        time += (1.0 - share) * max(compute, memory)
    several = max(num_prefill + num_decode, 2.0)
    return time + c[15] + c[12] * (1.0 + 0.15 * np.log2(several / 2.0) * (0.3 + 2.0 * num_decode / several))


@compiled
def _prefill_share(num_prefill: float, tokens: float, num_decode: float) -> float:
    if num_prefill == 0:
        return 0.0
    if num_decode == 0:
        return 1.0
    if tokens > 4 * num_decode and tokens > 100:
        return 0.75
    if num_decode > 2 * tokens and num_decode > 50:
        return 0.35
    return tokens / (tokens + num_decode)
