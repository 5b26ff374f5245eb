"""What roofline-v3 needs of a table of steps: columns that no parameter touches."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim.architecture import Architecture, Experts
from sim.models.roofline_v1.columns import distinct_tp
from sim.models.smooth_maximum import cubed
from sim.steps.batch import Floats, StepTable
from sim.steps.work import per_row

SETUP_BYTES = 0.5e6
"""An all-reduce of so many bytes takes half of the extra time of a large one."""

LARGE_BYTES = 40e6
"""From this size on an all-reduce may take another algorithm, with a time of its own for each byte."""

_ACTIVATION_BYTES = (
    2.0  # of a hidden value and of a cached key or value; quantised weights leave both at 16 bits
)
_NO_EXPERTS = Experts(num_experts=1, experts_per_token=1, intermediate_size=0)


@dataclasses.dataclass(frozen=True)
class Columns:
    """A table as roofline-v3 sees it; every array has one entry a row and none depends on a parameter.

    FLOPs and bytes are those of one GPU, in 1e6: divided by TFLOP/s or TB/s they are µs. They stand here cubed, as
    the smooth maximum (a³ + b³)^(1/3) takes them.
    """

    gemm_flops_cubed: Floats
    gemm_bytes_cubed: Floats
    attention_flops_cubed: Floats
    attention_bytes_cubed: Floats
    head_flops_cubed: Floats
    head_bytes_cubed: Floats
    log_gemm_work: (
        Floats  # ln of the TFLOPs of a layer's GEMMs on one GPU; 0 in a step without a token
    )
    activation_megabytes: Floats  # that GEMMs read and write beside weights
    layers: Floats
    all_reduce_hops: Floats  # log2(2·tp) for each all-reduce
    all_reduce_setups: Floats  # all-reduces, each counted by how large it is, from 0 to 1
    all_reduce_kilobytes: Floats  # that one GPU sends in a ring; divided by GB/s they are µs
    large_megabytes: (
        Floats  # that one GPU receives from all others, in all-reduces above LARGE_BYTES
    )
    prefill: Floats  # 1 where the step has a prompt
    prefill_layers: Floats  # layers, where the step has a prompt
    prompts: Floats
    decodes: Floats
    tp_index: NDArray[np.intp]
    tp_values: Floats


def reduce_table(table: StepTable, fp8_speedup: float) -> Columns:
    """FLOPs, bytes and multiples of overheads of every row; fp8 GEMMs run at ``fp8_speedup`` times the 16-bit peak."""
    num_prefill, new, context, single, single_context, pairs, num_decode, decode_context = (
        table.moments
    )
    tokens = new + single + num_decode
    cached = context + single_context + decode_context + tokens
    sampled = num_prefill + num_decode
    pair_flops = per_row(table, lambda a: 1e-6 * a.attention_flops_per_pair)
    head = per_row(table, lambda a: 1e-6 * a.head_params)
    head_bytes = head * per_row(table, _at_least_16_bits)
    setups, kilobytes, large = _all_reduces(table, tokens)
    tp_values, tp_index = distinct_tp(table.tp)
    kv_megabytes = _kv_megabytes(table.architectures, tp_values)[table.arch_index, tp_index]
    layers = per_row(table, lambda a: float(a.num_layers))
    gemm_flops = per_row(table, lambda a: _gemm_megaflops(a, fp8_speedup)) * tokens / table.tp
    return Columns(
        gemm_flops_cubed=cubed(gemm_flops),
        gemm_bytes_cubed=cubed(_weight_megabytes(table, tokens) / table.tp),
        attention_flops_cubed=cubed(pair_flops * (pairs + decode_context + tokens) / table.tp),
        attention_bytes_cubed=cubed(kv_megabytes * cached),
        head_flops_cubed=cubed(2.0 * head * sampled / table.tp),
        head_bytes_cubed=cubed(head_bytes * (sampled > 0) / table.tp),
        log_gemm_work=np.log(np.where(gemm_flops > 0, 1e-6 * gemm_flops / layers, 1.0)),
        activation_megabytes=_activation_megabytes(table, tokens),
        layers=layers,
        all_reduce_hops=2.0 * layers * (np.log2(2.0 * tp_values) * (tp_values > 1))[tp_index],
        all_reduce_setups=setups,
        all_reduce_kilobytes=kilobytes,
        large_megabytes=large,
        prefill=(num_prefill > 0).astype(np.float64),
        prefill_layers=layers * (num_prefill > 0),
        prompts=num_prefill,
        decodes=num_decode,
        tp_index=tp_index,
        tp_values=tp_values,
    )


def all_reduce_bytes(arch: Architecture) -> float:
    """Bytes that one token adds to an all-reduce."""
    return arch.hidden_size * _ACTIVATION_BYTES


def _at_least_16_bits(arch: Architecture) -> float:
    return max(arch.bytes_per_param, _ACTIVATION_BYTES)


def _cached_value_bytes(arch: Architecture) -> float:
    return arch.cached_value_bytes(_at_least_16_bits(arch))


def _kv_megabytes(architectures: Sequence[Architecture], tp_values: Floats) -> Floats:
    """A cached token on one GPU, by architecture and tensor-parallel degree."""
    return 1e-6 * np.array(
        [
            [a.kv_bytes_per_token(int(tp), _cached_value_bytes(a)) / tp for tp in tp_values]
            for a in architectures
        ]
    )


def _gemm_megaflops(arch: Architecture, fp8_speedup: float) -> float:
    """FLOPs in 1e6 of one token's GEMMs, those of an fp8 model as so many 16-bit ones take."""
    return (
        1e-6
        * arch.flops_per_token
        / (fp8_speedup if arch.weight_bits == 8 and arch.dtype != "int8" else 1.0)
    )


def _activation_megabytes(table: StepTable, tokens: Floats) -> Floats:
    """Inputs and outputs of the GEMMs on one GPU.

    One side of each GEMM, input or output, has the model's whole width, on every GPU: four a layer. The other is
    split between them, and is as wide as the weights are many over the model's width.
    """
    whole = per_row(table, lambda a: 4.0 * a.num_layers * a.hidden_size)
    shared = per_row(table, lambda a: a.params_per_token / a.hidden_size)
    return 1e-6 * _ACTIVATION_BYTES * (whole + shared / table.tp) * tokens


def _weight_megabytes(table: StepTable, tokens: Floats) -> Floats:
    """Weights that a step reads: all of a dense model, of a mixture of experts those that some token chose.

    Tokens choose evenly and on their own: k of E experts each, so E·(1 − (1 − k/E)^tokens) are read.
    """
    everything = per_row(table, lambda a: 1e-6 * a.layer_weight_bytes) * (tokens > 0)
    if all(arch.experts is None for arch in table.architectures):
        return everything
    experts = per_row(table, lambda a: (a.experts or _NO_EXPERTS).num_experts)
    missed = per_row(table, lambda a: 1.0 - _active_share(a.experts or _NO_EXPERTS)) ** tokens
    one_expert = per_row(table, lambda a: 1e-6 * a.expert_bytes)
    read: Floats = everything - one_expert * experts * missed * (tokens > 0)
    return read


def _active_share(experts: Experts) -> float:
    return experts.experts_per_token / experts.num_experts


def _all_reduces(table: StepTable, tokens: Floats) -> tuple[Floats, Floats, Floats]:
    """All-reduces weighted by size, kilobytes sent by a GPU, and megabytes received in large ones; 0 at tp 1."""
    several, tp = table.tp > 1, table.tp.astype(np.float64)
    count = per_row(table, lambda a: 2.0 * a.num_layers) * several
    size = per_row(table, all_reduce_bytes) * tokens
    kilobytes = 1e-3 * count * size * 2.0 * (tp - 1.0) / tp
    large = 1e-6 * count * size * (tp - 1.0) * (size > LARGE_BYTES)
    return count * size / (size + SETUP_BYTES), kilobytes, large
