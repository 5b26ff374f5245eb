"""roofline-v4 reduced to constants for one architecture on so many GPUs, and compiled: it reads moments only.

A batch of decodes has as many query-key pairs as cached tokens: both sides of its attention are straight lines, and so
is their smooth maximum; in layers with a window, up to the window.
"""

import functools
from collections.abc import Mapping

import numpy as np

from sim.architecture import Architecture
from sim.errors import ArchitectureError
from sim.hardware import Hardware, own_reduce_bytes
from sim.models.compiled import Lines, compiled, probe
from sim.models.roofline_v3.columns import LARGE_BYTES
from sim.models.roofline_v4.columns import NO_LIMIT, Columns, pairs_within, reduce_table
from sim.models.roofline_v4.layers import AttentionWork, LayerWork, Peaks, layer_work
from sim.models.roofline_v4.model import RooflineV4, relative_peaks
from sim.models.roofline_v4.rates import rates
from sim.models.roofline_v4.reduces import RING, RING_BYTES, OwnKernel, limits_bytes
from sim.models.roofline_v4.routing import above_mean, busiest_above
from sim.steps.batch import Floats

_KINDS = 2  # of attention: one in full, one cut at a window
_OF_REDUCES = 31  # µs of a token in all-reduces by their way, then those whatever their size
_FIRST_KIND, _KIND_SIZE = 38, 7

_busiest = compiled(busiest_above)
_pairs_within = compiled(pairs_within)


def constants(model: RooflineV4, arch: Architecture, hardware: Hardware, tp: int) -> Floats:
    """What one token, pair, cached token, row of experts and request adds to each side of the rooflines, in µs.

    Raises ArchitectureError for an architecture with windows of several widths.
    """
    values = model.parameters(hardware)
    peaks, own = relative_peaks(hardware), own_reduce_bytes(hardware)
    work, columns = _work(arch, tp, peaks, own)
    rate = rates(columns.pairs, values)
    exponent, larger = values["gemmMfuExponent"], values["allReduceSizeExponent"]
    experts, pairs = work.experts, columns.pairs
    fixed = [
        rate.gemm_flops[0] * np.exp(-exponent * columns.log_gemm_work[0]),
        -exponent,
        rate.gemm_bytes[0] ** 3,
        rate.moved[0] + rate.quantised[0] + rate.token_moved[0],
        rate.fixed[0],
        rate.expert_row[0],
        rate.expert_bytes[0],
        rate.row_moved[0],
        values["padTokens"],
        experts.per_token,
        experts.experts,
        experts.ranks,
        above_mean(np.array(experts.ranks)),
        experts.layers,
        rate.head_flops[0] ** 3,
        rate.head_bytes[0] ** 3,
        *(limit[0] / work.reduced_bytes for limit in limits_bytes(pairs.tp, own)),
        1e-6 * work.reduces * work.reduced_bytes * (tp - 1.0) * values["allReduceLargeMicrosPerMB"],
        LARGE_BYTES / work.reduced_bytes,
        pairs.layers[0] * values["hostLayerMicros"],
        values["hostPrefillMicros"],
        values["requestMicros"],
        values["promptMicros"],
        values["mixedDecodeRows"],
        values["mixedDecodeTokens"],
        values["mixedChunkShare"],
        values["gemmPadTokens"],
        work.linear.state_bytes * rate.state,
        work.linear.token_flops * np.cbrt(rate.linear_flop_cubed),
        work.linear.layers * values["linearWalkMicros"],
        *rate.reduced[:RING],
        rate.reduced[RING] * (RING_BYTES / work.reduced_bytes) ** -larger,
        *rate.reduces,
        larger,
    ]
    added = pairs.layers[0] * values["prefillLayerMicros"]
    kinds = [_kind(one, rate.attention_cubed, values) for one in _kinds(work, arch)]
    return np.array([*fixed, *(figure for kind in kinds for figure in kind), added])


def _kind(
    work: AttentionWork, rates_cubed: tuple[float, float], values: Mapping[str, float]
) -> list[float]:
    """µs of a pair in a prefill and in a decode, of a token of context, of a cached token; the window; whether launches
    mix, and then the µs of a token of the longest context.
    """
    flops, moved = np.cbrt(rates_cubed)
    return [
        work.prefill_flops * flops,
        work.decode_flops * flops,
        work.context_flops * flops,
        work.cached_bytes * moved,
        work.width or NO_LIMIT,
        min(work.joint_layers, 1.0),
        work.joint_layers * values["mixedWalkMicros"],
    ]


def _kinds(work: LayerWork, arch: Architecture) -> list[AttentionWork]:
    """The attention in full, and that with a window; no work where a model has none."""
    full = [one for one in work.attention if not one.width]
    cut = [one for one in work.attention if one.width]
    if len(full) > 1 or len(cut) > 1:
        raise ArchitectureError(
            f"{RooflineV4.name} cannot simulate {arch.name}: it has attention of more than one size or window"
        )
    return [*(full or [AttentionWork()]), *(cut or [AttentionWork(width=NO_LIMIT)])]


@functools.lru_cache(maxsize=32)
def _work(arch: Architecture, tp: int, peaks: Peaks, own: OwnKernel) -> tuple[LayerWork, Columns]:
    """The work of the architecture, and the columns of a step of one decode."""
    one_decode = probe(arch, tp, {"num_decode": 1.0})
    return layer_work(arch, tp, peaks), reduce_table(one_decode, peaks, own)


@compiled
def decode_lines(c: Floats, num_decode: float) -> Lines:
    """GPU and host of a step of decodes, with what each request adds, as lines over their cached tokens."""
    added = c[22] * num_decode
    full, cut = _FIRST_KIND, _FIRST_KIND + _KIND_SIZE
    every = np.cbrt(c[full + 1] ** 3 + c[full + 3] ** 3)
    within = np.cbrt(c[cut + 1] ** 3 + c[cut + 3] ** 3)
    gpu = _without_attention_us(c, num_decode, num_decode) + (every + within) * num_decode
    return gpu + added, every, c[20] + added, 0.0, within, (c[cut + 4] - 1.0) * num_decode


@compiled
def step_us(c: Floats, moments: Floats) -> float:
    """Duration in µs of a step with ``moments`` (8,), at least one prompt among them."""
    prompts, decodes = moments[0], moments[6]
    new = moments[1] + moments[3]
    context = moments[2] + moments[4]
    tokens = new + decodes
    gpu = _without_attention_us(c, tokens, prompts + decodes)
    each_new, each_context = new / prompts, context / prompts
    each_decoded = moments[7] / max(decodes, 1.0) + 1.0
    for kind in range(_KINDS):
        k = _FIRST_KIND + kind * _KIND_SIZE
        limit = c[k + 4]
        pairs = moments[5] + new
        if each_new + each_context > limit:
            pairs = prompts * _pairs_within(each_context, each_new, limit)
        seen, walked = min(each_decoded, limit), min(each_context + each_new, limit)
        moved = c[k + 3] * (prompts * walked + decodes * seen)
        rows, longest = decodes * seen, 0.0
        if decodes * c[k + 5] > 0:
            rows = decodes * c[24] * (seen + c[25] + c[26] * each_new)
            longest = c[k + 6] * max(walked, seen)
        flops = c[k] * pairs + c[k + 1] * rows + c[k + 2] * context
        gpu += np.cbrt(flops**3 + moved**3 + longest**3)
    gpu += np.cbrt((c[29] * new) ** 3 + (c[30] * each_new) ** 3)
    added = c[22] * decodes + c[23] * prompts + c[_FIRST_KIND + _KINDS * _KIND_SIZE]
    return max(gpu, c[20] + c[21]) + added


@compiled
def _without_attention_us(c: Floats, tokens: float, sampled: float) -> float:
    """GEMMs with what they move, states, experts, the output head, all-reduces and the fixed time of layers."""
    compute = c[0] * tokens ** c[1] * (tokens + c[27])
    total = np.cbrt(compute**3 + c[2]) + c[3] * tokens + c[4]
    total += np.cbrt(c[14] * sampled**3 + c[15]) + c[28] * sampled
    way = _OF_REDUCES + (tokens >= c[16]) + (tokens >= c[17])
    total += c[way] * tokens + c[way + 3]
    if tokens >= c[17]:
        total += c[way] * tokens * (tokens ** c[37] - 1.0)
    if tokens > c[19]:
        total += c[18] * tokens
    if c[13] > 0:
        rows, touched = _busiest(tokens, c[9], c[10], c[11], c[12])  # type: ignore[arg-type]  # as compiled
        products = c[5] * (rows + c[8] * touched)
        total += np.cbrt(products**3 + (c[6] * touched) ** 3) + c[7] * rows
    return total
