"""What roofline-v1 needs of a table of steps: a dozen columns that no parameter touches."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from sim.architecture import Architecture
from sim.errors import ArchitectureError
from sim.models.latency_model import refuse_unmodelled
from sim.steps.batch import Floats, StepTable
from sim.steps.work import per_row

_PREFILL_KV_REUSE, _PREFILL_ACTIVATIONS = 0.92, 0.85
_DECODE_KV_REUSE, _DECODE_ACTIVATIONS = 0.80, 0.75


@dataclasses.dataclass(frozen=True)
class Columns:
    """A table as roofline-v1 sees it; every array has one entry a row and none depends on a parameter.

    Mixing weights are folded in (they are never negative, so they pass through the maximum). FLOPs are in
    1e6, bytes in 1e6: divided by TFLOP/s or TB/s they are µs.
    """

    prefill_gemm: Floats
    prefill_attention: Floats
    prefill_bytes: Floats  # already divided by tp
    decode_gemm: Floats
    decode_attention: Floats
    decode_bytes: Floats
    step_overheads: Floats  # multiples of TOverheadMicros
    all_reduces: Floats  # 2 a layer where tp > 1
    pure_prefills: Floats
    mixed_prefills: Floats
    layers: Floats
    tp_index: NDArray[np.intp]
    tp_values: Floats


def head_dim(arch: Architecture) -> float:
    """Hidden size / heads, a float: this model never reads an explicit head dimension."""
    return arch.hidden_size / arch.num_heads


def dense_limits(
    model: str, arch: Architecture, counted_head_dim: float, mlp_matrices: int = 3
) -> list[str]:
    """Where a model of dense transformers departs from ``arch``. Raises ArchitectureError if it cannot count it."""
    refuse_unmodelled(model, arch)
    if arch.experts is not None:
        raise ArchitectureError(
            f"{model} cannot compute {arch.name}: no term for a mixture of experts"
        )
    found = []
    if arch.head_dim and arch.head_dim != counted_head_dim:
        found.append(
            f"{model} takes the head dimension of {arch.name} as {counted_head_dim:g} "
            f"(hidden size / heads); it is {arch.head_dim}"
        )
    if arch.num_mlp_matrices != mlp_matrices:
        found.append(
            f"{model} counts {mlp_matrices} MLP matrices a layer; {arch.name} has {arch.num_mlp_matrices}"
        )
    return found


def weights_per_layer(arch: Architecture, counted_head_dim: float, mlp_matrices: int = 3) -> float:
    """Weights of a dense layer by the rules of the simulators that such a model reproduces.

    Not ``arch.layer_params``, on purpose: Q and O are hidden × hidden, the head dimension is hidden size / heads, and
    an MLP has ``mlp_matrices``, whatever the model has. FLOPs and bytes of attention are counted likewise.
    """
    d = arch.hidden_size
    return (
        2.0 * d * d
        + 2.0 * d * arch.kv_heads * counted_head_dim
        + float(mlp_matrices) * d * arch.mlp_size
    )


def _weights_per_layer(arch: Architecture) -> float:
    return weights_per_layer(arch, head_dim(arch))


def reduce_table(table: StepTable) -> Columns:
    """FLOPs, bytes and multiples of overheads of every row, the mixing weights folded in."""
    _, new, _, single, _, pairs, num_decode, decode_context = table.moments
    gemm = per_row(table, lambda a: 2e-6 * a.num_layers * _weights_per_layer(a))
    attention = per_row(table, lambda a: 1e-6 * a.num_layers * a.num_heads * (4 * head_dim(a) + 4))
    prefill_bytes, decode_bytes = phase_bytes(table)
    prefill_share, decode_share = mixing_weights(table)
    step_overheads, all_reduces, pure_prefills, mixed_prefills = overhead_multiples(table)
    tp_values, tp_index = distinct_tp(table.tp)
    return Columns(
        prefill_gemm=prefill_share * gemm * (new + single),
        prefill_attention=prefill_share * attention * pairs,
        prefill_bytes=prefill_share * prefill_bytes / table.tp,
        decode_gemm=decode_share * gemm * num_decode,
        decode_attention=decode_share * attention * decode_context,
        decode_bytes=decode_share * decode_bytes,
        step_overheads=step_overheads,
        all_reduces=all_reduces,
        pure_prefills=pure_prefills,
        mixed_prefills=mixed_prefills,
        layers=per_row(table, lambda a: float(a.num_layers)),
        tp_index=tp_index,
        tp_values=tp_values,
    )


def phase_bytes(table: StepTable) -> tuple[Floats, Floats]:
    """Bytes in 1e6 of the prefill and of the decode phase over all GPUs: weights, keys and values, activations."""
    num_prefill, new, context, single, single_context, _, num_decode, decode_context = table.moments
    weights = per_row(
        table, lambda a: 1e-6 * a.num_layers * a.bytes_per_param * _weights_per_layer(a)
    )
    kv = per_row(
        table,
        lambda a: (
            2e-6 * a.num_layers * a.kv_heads * head_dim(a) * a.cached_value_bytes(a.bytes_per_param)
        ),
    )
    hidden = per_row(table, lambda a: 1e-6 * a.num_layers * a.hidden_size * a.bytes_per_param)

    def one_token_bytes(count: Floats, tokens: Floats) -> Floats:
        return kv * (count + _DECODE_KV_REUSE * tokens) + _DECODE_ACTIVATIONS * hidden * count

    prefill_bytes = kv * (new + _PREFILL_KV_REUSE * context) + _PREFILL_ACTIVATIONS * hidden * new
    prefill_bytes += one_token_bytes(single, single_context)
    return (
        weights * (num_prefill > 0) + prefill_bytes,
        weights * (num_decode > 0) + one_token_bytes(num_decode, decode_context),
    )


def mixing_weights(table: StepTable) -> tuple[Floats, Floats]:
    """Shares of the prefill and of the decode time in a step."""
    num_prefill = table.moments[0]
    num_decode = table.moments[6]
    tokens = table.moments[1] + table.moments[3]
    total = np.maximum(tokens + num_decode, 1.0)
    prefill = tokens / total
    np.copyto(prefill, 0.35, where=(num_decode > 2 * tokens) & (num_decode > 50))
    np.copyto(prefill, 0.75, where=(tokens > 4 * num_decode) & (tokens > 100))
    np.copyto(prefill, 1.0, where=num_decode == 0)
    np.copyto(prefill, 0.0, where=num_prefill == 0)
    decode = np.where(num_decode > 0, 1.0 - prefill, 0.0)
    prefill *= num_prefill > 0
    return prefill, decode


def overhead_multiples(table: StepTable) -> tuple[Floats, Floats, Floats, Floats]:
    """How often a step pays the step overhead, an all-reduce, and a prompt's overhead without and with decodes.

    The first is 1 + 0.15·log2(N/2)·(0.3 + 2·nD/N) for N > 2 requests, nD of them decodes, else 1.
    """
    num_prefill = table.moments[0]
    num_decode = table.moments[6]
    several = np.maximum(num_prefill + num_decode, 2.0)
    steps: Floats = 1.0 + 0.15 * np.log2(several / 2.0) * (0.3 + 2.0 * num_decode / several)
    all_reduces = np.where(table.tp > 1, per_row(table, lambda a: 2.0 * a.num_layers), 0.0)
    return (
        steps,
        all_reduces,
        np.where(num_decode == 0, num_prefill, 0.0),
        np.where(num_decode > 0, num_prefill, 0.0),
    )


def distinct_tp(tp: NDArray[np.int64]) -> tuple[Floats, NDArray[np.intp]]:
    """The degrees in ``tp`` (n,), ascending, and which of them each row has."""
    if tp.size and tp.max() < 4096:  # a counting sort; tensor-parallel degrees are small
        values = np.flatnonzero(np.bincount(tp))
        lookup = np.zeros(values[-1] + 1, dtype=np.intp)
        lookup[values] = np.arange(len(values))
        return values.astype(np.float64), lookup[tp]
    values, index = np.unique(tp, return_inverse=True)
    return values.astype(np.float64), index.astype(np.intp)
