"""roofline-v1 reduced to constants for one architecture on so many GPUs, and compiled: it reads moments only."""

import functools

import numpy as np

from sim.architecture import Architecture
from sim.hardware import Hardware
from sim.models.compiled import Lines, compiled, probe
from sim.models.roofline_v1.columns import Columns, phase_bytes, reduce_table
from sim.models.roofline_v1.model import RooflineV1, rates
from sim.steps.batch import Floats
from sim.steps.moments import MOMENTS

_PROMPT = {"num_prefill": 1.0, "new_tokens": 1.0}
_DECODE = {"num_decode": 1.0}
_CONTEXT = {"num_decode": 1.0, "decode_context_tokens": 1.0}
_MOMENTS = tuple({name: 1.0} for name in MOMENTS)


def constants(model: RooflineV1, arch: Architecture, hardware: Hardware, tp: int) -> Floats:
    """What one token, query-key pair, cached token and request adds to each side of both phases, in µs."""
    values = model.parameters(hardware)
    prefill_gemm, decode_gemm, attention, prefill_bytes, decode_bytes = rates(values)
    prefill_speedup = tp ** -values["tpScalingExponent"]
    decode_speedup = tp ** -values["decodeTpScalingExponent"]
    steps, prefill_mb, decode_mb = _work(arch, tp)
    prompt, decode, context = range(3)
    return np.array(
        [
            steps.prefill_gemm[prompt] * prefill_gemm * prefill_speedup,
            steps.decode_attention[context] * attention * prefill_speedup,
            *(prefill_mb[:5] * prefill_bytes / tp),
            steps.decode_gemm[decode] * decode_gemm * decode_speedup,
            steps.decode_attention[context] * attention * decode_speedup,
            *(
                _weights_and_rest(decode_mb[6], weights=prefill_mb[0])
                * decode_bytes
                * decode_speedup
            ),
            decode_mb[7] * decode_bytes * decode_speedup,
            values["TOverheadMicros"],
            values["prefillOverheadMicros"],
            values["mixedPrefillOverheadMicros"],
            steps.all_reduces[prompt] * values["allReduceLatency"]
            + steps.layers[prompt] * values["perLayerOverhead"] * model.per_layer_overhead,
        ]
    )


@functools.lru_cache(maxsize=32)
def _work(arch: Architecture, tp: int) -> tuple[Columns, Floats, Floats]:
    """The columns of three made-up steps, and each phase's bytes for one of each moment, in which they are linear."""
    return (
        reduce_table(probe(arch, tp, _PROMPT, _DECODE, _CONTEXT)),
        *phase_bytes(probe(arch, tp, *_MOMENTS)),
    )


def _weights_and_rest(one_request: float, weights: float) -> Floats:
    """A lone decode's bytes, parted into the weights, which a phase reads once, and what each request adds."""
    return np.array([weights, one_request - weights])


@compiled
def decode_lines(c: Floats, num_decode: float) -> Lines:
    """Compute and memory of a step of decodes, with its overheads, as lines over their cached tokens."""
    several = max(num_decode, 2.0)
    overhead = c[15] + c[12] * _overhead_growth(several, num_decode)
    memory = c[9] + c[10] * num_decode + overhead
    return c[7] * num_decode + overhead, c[8], memory, c[11], 0.0, 0.0


@compiled
def step_us(c: Floats, moments: Floats) -> float:
    """Duration in µs of a step with ``moments`` (8,), at least one prompt among them."""
    num_prefill = moments[0]
    num_decode = moments[6]
    decode_context = moments[7]
    tokens = moments[1] + moments[3]
    share = _prefill_share(tokens, num_decode)
    compute = c[0] * tokens + c[1] * moments[5]
    memory = c[2] + c[3] * moments[1] + c[4] * moments[2] + c[5] * moments[3] + c[6] * moments[4]
    time = share * max(compute, memory) + num_prefill * (c[13] if num_decode == 0 else c[14])
    if num_decode > 0:
        compute = c[7] * num_decode + c[8] * decode_context
        memory = c[9] + c[10] * num_decode + c[11] * decode_context
        time += (1.0 - share) * max(compute, memory)
    several = max(num_prefill + num_decode, 2.0)
    return time + c[15] + c[12] * _overhead_growth(several, num_decode)


@compiled
def _overhead_growth(several: float, num_decode: float) -> float:
    return 1.0 + 0.15 * np.log2(several / 2.0) * (0.3 + 2.0 * num_decode / several)


@compiled
def _prefill_share(tokens: float, num_decode: float) -> float:
    if num_decode == 0:
        return 1.0
    if tokens > 4 * num_decode and tokens > 100:
        return 0.75
    if num_decode > 2 * tokens and num_decode > 50:
        return 0.35
    return tokens / (tokens + num_decode)
