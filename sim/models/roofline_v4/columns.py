"""What roofline-v4 needs of a table of steps: columns that no parameter touches.

What depends on a row's model and tp alone stands once for each such pair; rows point at it.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim.models.roofline_v3.columns import LARGE_BYTES
from sim.models.roofline_v4.layers import (
    AttentionWork,
    ExpertWork,
    LayerWork,
    Peaks,
    layer_work,
)
from sim.models.roofline_v4.mixed import MixedColumns
from sim.models.roofline_v4.reduces import RING, RING_BYTES, WAYS, OwnKernel, limits_bytes
from sim.models.roofline_v4.reduces import ways as ways_of
from sim.models.roofline_v4.routing import busiest
from sim.models.smooth_maximum import cubed
from sim.steps.batch import Floats, StepTable

_OF_ATTENTION = tuple(field.name for field in dataclasses.fields(AttentionWork))
_MIXED = tuple(field.name for field in dataclasses.fields(MixedColumns) if field.name != "rows")
NO_LIMIT = 1e15  # tokens, far above any context


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The work of each pair of model and tp, shapes (p,), ``gemm_flops`` (p, types): see LayerWork, ExpertWork."""

    gemm_flops: Floats
    gemm_bytes: Floats
    moved_bytes: Floats
    quantised_bytes: Floats
    quantised_layers: Floats
    latent_layers: Floats
    linear_layers: Floats
    head_flops: Floats
    head_bytes: Floats
    fixed_layers: Floats
    layers: Floats
    reduces: Floats
    reduced_bytes: Floats
    tp: Floats
    expert_layers: Floats
    expert_kernel: NDArray[np.intp]
    expert_width: Floats
    row_flops: Floats
    expert_bytes: Floats
    row_bytes: Floats
    token_bytes: Floats

    @property
    def hops(self) -> Floats:
        """log2(2·tp) for each all-reduce."""
        return self.reduces * np.log2(2.0 * self.tp)


@dataclasses.dataclass(frozen=True)
class Columns:
    """A table as roofline-v4 sees it; one entry a row unless ``pairs`` says otherwise, none depends on a parameter.

    FLOPs and bytes are one GPU's, in 1e6: divided by TFLOP/s or TB/s they are µs. Those of attention, (kinds, n), and
    of linear attention are cubed, as the smooth maximum (a³ + b³)^(1/3) takes them; launches of prompts and decodes
    stand in ``mixed`` instead.
    """

    pairs: Pairs
    pair: NDArray[np.intp]
    tokens: Floats
    any_token: Floats  # 1 where the step has one
    log_gemm_work: (
        Floats  # ln of the TFLOPs of a layer's GEMMs on one GPU; 0 in a step without a token
    )
    rows: Floats  # of experts, on the busiest GPU
    touched: Floats  # experts there
    attention_flops_cubed: Floats
    attention_bytes_cubed: Floats
    mixed: MixedColumns
    linear_flops_cubed: Floats
    linear_walked_cubed: Floats  # tokens of a prompt, times layers of linear attention
    state_bytes: Floats
    sampled: Floats
    reduce: NDArray[np.intp]  # the row's pair and its way of all-reduces: pair·3 + way
    log_ring: Floats  # ln of the size of a row's all-reduces over RING_BYTES where they go around a ring, else 0
    large_megabytes: (
        Floats  # that one GPU receives from all others, in all-reduces above LARGE_BYTES
    )
    prefill: Floats  # 1 where the step has a prompt
    prompts: Floats
    decodes: Floats


def reduce_table(table: StepTable, peaks: Peaks, own: OwnKernel) -> Columns:
    """The columns of a table, on GPUs of such ``peaks`` with such a kernel for all-reduces."""
    num_prefill, new, _, single, _, _, num_decode, _ = table.moments
    works, degrees, pair = _pairs(table, peaks)
    pairs = _stacked(works, degrees)
    prompt_tokens = new + single
    tokens = prompt_tokens + num_decode

    def linear(name: str) -> Floats:
        return np.array([getattr(work.linear, name) for work in works], dtype=np.float64)[pair]

    flops, moved, mixed = _attention(table, works, pair)
    rows, touched = _routed(works, pair, tokens)
    ways, log_ring, large = _reduces(pairs, pair, tokens, own)
    prefill = (num_prefill > 0).astype(np.float64)
    work = 1e-6 * (pairs.gemm_flops.sum(axis=1) / np.maximum(pairs.layers, 1.0))[pair] * tokens
    return Columns(
        pairs=pairs,
        pair=pair,
        tokens=tokens,
        any_token=(tokens > 0).astype(np.float64),
        log_gemm_work=np.log(np.where(work > 0, work, 1.0)),
        rows=rows,
        touched=touched,
        attention_flops_cubed=cubed(flops),
        attention_bytes_cubed=cubed(moved),
        mixed=mixed,
        linear_flops_cubed=cubed(linear("token_flops") * prompt_tokens),
        linear_walked_cubed=cubed(linear("layers") * prompt_tokens / np.maximum(num_prefill, 1.0)),
        state_bytes=linear("state_bytes") * (num_prefill + num_decode),
        sampled=num_prefill + num_decode,
        reduce=pair * len(WAYS) + ways,
        log_ring=log_ring,
        large_megabytes=large,
        prefill=prefill,
        prompts=num_prefill,
        decodes=num_decode,
    )


def _pairs(table: StepTable, peaks: Peaks) -> tuple[list[LayerWork], Floats, NDArray[np.intp]]:
    """The work of each pair of model and tp that some row has, its tp, and the pair of every row."""
    keys = table.arch_index * (int(table.tp.max(initial=1)) + 1) + table.tp
    _, first, pair = np.unique(keys, return_index=True, return_inverse=True)
    works = [
        layer_work(table.architectures[table.arch_index[row]], int(table.tp[row]), peaks)
        for row in first
    ]
    return works, table.tp[first].astype(np.float64), pair.astype(np.intp)


def _stacked(works: Sequence[LayerWork], degrees: Floats) -> Pairs:
    def each(name: str) -> Floats:
        return np.array([getattr(work, name) for work in works], dtype=np.float64)

    def of_experts(name: str) -> Floats:
        return np.array([getattr(work.experts, name) for work in works], dtype=np.float64)

    return Pairs(
        gemm_flops=each("gemm_flops").reshape(len(works), -1),
        gemm_bytes=each("gemm_bytes"),
        moved_bytes=each("moved_bytes"),
        quantised_bytes=each("quantised_bytes"),
        quantised_layers=each("quantised_layers"),
        latent_layers=each("latent_layers"),
        linear_layers=np.array([work.linear.layers for work in works]),
        head_flops=each("head_flops"),
        head_bytes=each("head_bytes"),
        fixed_layers=each("fixed_layers"),
        layers=each("layers"),
        reduces=each("reduces"),
        reduced_bytes=each("reduced_bytes"),
        tp=degrees,
        expert_layers=of_experts("layers"),
        expert_kernel=of_experts("kernel").astype(np.intp),
        expert_width=of_experts("width"),
        row_flops=of_experts("row_flops"),
        expert_bytes=of_experts("expert_bytes"),
        row_bytes=of_experts("row_bytes"),
        token_bytes=of_experts("token_bytes"),
    )


def _attention(
    table: StepTable, works: Sequence[LayerWork], pair: NDArray[np.intp]
) -> tuple[Floats, Floats, MixedColumns]:
    """1e6 FLOPs and bytes of each kind of attention of a row, (kinds, n), as many kinds as any model has; and those of
    mixed launches, which the former lack.

    Requests of a phase count as equal in length where a window or the longest of them counts: the table has sums only.
    """
    is_mixed = (table.moments[0] > 0) & (table.moments[6] > 0)
    rows = np.flatnonzero(is_mixed)
    kinds = max((len(work.attention) for work in works), default=0)
    flops, moved = np.zeros((kinds, len(table))), np.zeros((kinds, len(table)))
    mixed = np.zeros((len(_MIXED), kinds, len(rows)))
    for kind in range(kinds):
        work = [w.attention[kind] if kind < len(w.attention) else AttentionWork() for w in works]
        of_row = {name: _each(work, name)[pair] for name in _OF_ATTENTION}
        seen = _Seen.of(table.moments, of_row["width"])
        prompts = (
            of_row["prefill_flops"] * seen.pairs + of_row["context_flops"] * seen.prompt_context
        )
        decodes = of_row["decode_flops"] * seen.decoded
        joint = is_mixed & (of_row["joint_layers"] > 0)
        flops[kind] = (prompts + decodes) * ~joint
        moved[kind] = of_row["cached_bytes"] * seen.cached * ~joint
        alone = of_row["decode_flops"] * table.moments[6]
        parts = (
            prompts,
            decodes,
            alone,
            alone * seen.chunk,
            of_row["cached_bytes"] * seen.cached,
            of_row["joint_layers"] * seen.longest,
        )
        mixed[:, kind] = np.array([part[rows] for part in parts]) * joint[rows]
    return flops, moved, MixedColumns(rows, *mixed)


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What the attention of a step's requests sees, (n,): pairs of prompts, tokens of decodes, tokens cached by both,
    and of the means of prompts and of decodes the longer; ``chunk`` is the prompts' mean of new tokens.
    """

    pairs: Floats
    prompt_context: Floats
    decoded: Floats
    cached: Floats
    longest: Floats
    chunk: Floats

    @classmethod
    def of(cls, moments: Floats, width: Floats) -> "_Seen":
        num_prefill, new, context, single, single_context, pairs, num_decode, decoded = moments
        prompts, decodes = np.maximum(num_prefill, 1.0), np.maximum(num_decode, 1.0)
        prompt_tokens, prompt_context = new + single, context + single_context
        each_new, each_context = prompt_tokens / prompts, prompt_context / prompts
        limit = np.where(width > 0, width, NO_LIMIT)
        each_cached = np.minimum(each_context + each_new, limit)
        each_decoded = np.minimum(decoded / decodes + 1.0, limit)
        seen = num_decode * each_decoded
        prefill_pairs = np.where(
            each_new + each_context <= limit,
            pairs + prompt_tokens,
            num_prefill * pairs_within(each_context, each_new, limit),
        )
        return cls(
            pairs=prefill_pairs,
            prompt_context=prompt_context,
            decoded=seen,
            cached=num_prefill * each_cached + seen,
            longest=np.maximum(each_cached, each_decoded),
            chunk=each_new,
        )


def pairs_within(context: Floats, new: Floats, limit: Floats) -> Floats:
    """Σ min(position, limit) over ``new`` tokens after ``context``, the positions counted from 1."""
    full = np.minimum(np.maximum(limit - context, 0.0), new)
    return full * (context + 0.5 * (full + 1.0)) + (new - full) * limit


def _routed(
    works: Sequence[LayerWork], pair: NDArray[np.intp], tokens: Floats
) -> tuple[Floats, Floats]:
    experts = [work.experts for work in works]
    if not any(one.layers for one in experts):
        return np.zeros_like(tokens), np.zeros_like(tokens)
    per_token, count, ranks = (
        _each(experts, name)[pair] for name in ("per_token", "experts", "ranks")
    )
    rows, touched = busiest(tokens, per_token, count, ranks)
    has_experts = (_each(experts, "layers") > 0)[pair]
    return rows * has_experts, touched * has_experts


def _reduces(
    pairs: Pairs, pair: NDArray[np.intp], tokens: Floats, own: OwnKernel
) -> tuple[NDArray[np.intp], Floats, Floats]:
    """The way of a row's all-reduces, ln of the size of those around a ring, and megabytes received in large ones."""
    size = pairs.reduced_bytes[pair] * tokens
    few, most = (limit[pair] for limit in limits_bytes(pairs.tp, own))
    large = 1e-6 * pairs.reduces[pair] * size * (pairs.tp[pair] - 1.0) * (size > LARGE_BYTES)
    ways = ways_of(size, few, most)
    ring = (ways == RING) & (size > 0)
    return ways, np.log(np.where(ring, size / RING_BYTES, 1.0)), large


def _each(works: Sequence[AttentionWork] | Sequence[ExpertWork], name: str) -> Floats:
    return np.array([getattr(work, name) for work in works], dtype=np.float64)
