"""roofline-v3 reduced to constants for one architecture on so many GPUs, and compiled: it reads moments only.

A batch of decodes has as many query-key pairs as cached tokens: both sides of its attention are straight lines, and so
is their smooth maximum. Only the first of many equal batches takes cube roots.
"""

import functools

import numpy as np

from sim.architecture import Architecture
from sim.hardware import Hardware
from sim.models.compiled import Lines, compiled, probe
from sim.models.roofline_v3.columns import LARGE_BYTES, Columns, all_reduce_bytes, reduce_table
from sim.models.roofline_v3.model import RooflineV3, fp8_speedup, rates
from sim.steps.batch import Floats

# no token but one request reads all that every step reads; endless tokens read every expert
_ENDLESS = 1e30
_STEPS = ({"num_decode": 1 / _ENDLESS}, {"num_decode": 1.0}, {"num_decode": _ENDLESS})


def constants(model: RooflineV3, arch: Architecture, hardware: Hardware, tp: int) -> Floats:
    """What one token, pair, cached token and request adds to each side of three rooflines and to the rest, in µs."""
    values = model.parameters(hardware)
    work = _work(arch, tp, fp8_speedup(hardware))
    one, endless = 1, 2
    rate = rates(work, values, slice(None))
    read_by_none, read_by_one, all_read = np.cbrt(work.gemm_bytes_cubed * rate.weight_bytes)
    experts = all_read - read_by_none
    count = work.all_reduce_setups[endless]
    attention_flops = work.attention_flops_cubed[one] * rate.attention_flops
    attention_bytes = work.attention_bytes_cubed[one] * rate.kv_bytes
    return np.array(
        [
            np.cbrt(work.gemm_flops_cubed[one] * rate.gemm_flops[one]),
            all_read,
            experts,
            (all_read - read_by_one) / experts
            if experts
            else 0.0,  # the share of experts that a token leaves unread
            attention_flops,
            attention_bytes,
            np.cbrt(attention_flops + attention_bytes),
            work.head_flops_cubed[one] * rate.head_flops,
            work.head_bytes_cubed[one] * rate.weight_bytes,
            work.layers[one] * values["layerMicros"]
            + work.all_reduce_hops[one] * values["allReduceHopMicros"],
            work.all_reduce_kilobytes[one] * rate.sent_kilobyte[0]
            + work.activation_megabytes[one] * rate.moved_megabyte,
            count * values["allReduceSetupMicros"],
            count / work.all_reduce_setups[one] - 1.0
            if count
            else 1.0,  # tokens that make half of a large all-reduce
            work.large_megabytes[endless] / _ENDLESS * values["allReduceLargeMicrosPerMB"],
            LARGE_BYTES / all_reduce_bytes(arch),
            work.layers[one] * values["hostLayerMicros"],
            values["hostPrefillMicros"],
            values["requestMicros"],
            values["promptMicros"],
            work.layers[one] * values["prefillLayerMicros"],
            1.0 - values["gemmMfuExponent"],
        ]
    )


@functools.lru_cache(maxsize=32)
def _work(arch: Architecture, tp: int, fp8_speedup: float) -> Columns:
    return reduce_table(probe(arch, tp, *_STEPS), fp8_speedup)


@compiled
def decode_lines(c: Floats, num_decode: float) -> Lines:
    """GPU and host of a step of decodes, with what each request adds, as lines over their cached tokens."""
    added = c[17] * num_decode
    return (
        _without_attention_us(c, num_decode, num_decode) + c[6] * num_decode + added,
        c[6],
        c[15] + added,
        0.0,
        0.0,
        0.0,
    )


@compiled
def step_us(c: Floats, moments: Floats) -> float:
    """Duration in µs of a step with ``moments`` (8,), at least one prompt among them."""
    tokens = moments[1] + moments[3] + moments[6]
    pairs = moments[5] + moments[7] + tokens
    cached = moments[2] + moments[4] + moments[7] + tokens
    gpu = _without_attention_us(c, tokens, moments[0] + moments[6])
    gpu += np.cbrt(c[4] * pairs * pairs * pairs + c[5] * cached * cached * cached)
    return max(gpu, c[15] + c[16]) + c[17] * moments[6] + c[18] * moments[0] + c[19]


@compiled
def _without_attention_us(c: Floats, tokens: float, sampled: float) -> float:
    """GEMMs with what they move, the output head, all-reduces and the fixed time of layers."""
    compute = c[0] * tokens ** c[20]
    memory = c[1] - c[2] * c[3] ** tokens if c[2] > 0 else c[1]
    gemm = np.cbrt(compute * compute * compute + memory * memory * memory)
    head = np.cbrt(c[7] * sampled * sampled * sampled + c[8])
    large = c[13] * tokens if tokens > c[14] else 0.0
    return gemm + head + c[9] + c[10] * tokens + c[11] * (tokens / (tokens + c[12])) + large
