"""What a step must compute and move whatever the engine: the physical floor under its duration."""

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sim.architecture import Architecture
from sim.steps.batch import Floats, StepTable
from sim.units import MEGA


@dataclasses.dataclass(frozen=True)
class Work:
    """FLOPs of the matrix products and bytes read at the least, over all GPUs of a step; each of shape (n,)."""

    flops: Floats
    bytes: Floats

    def floor_us(
        self, table: StepTable, peak_tflops: Floats | float, peak_tb_per_s: float
    ) -> Floats:
        """The shortest duration in µs that the peaks of ``table.tp`` GPUs allow, shape (n,)."""
        compute = self.flops / (peak_tflops * MEGA)
        memory = self.bytes / (peak_tb_per_s * MEGA)
        floor: Floats = np.maximum(compute, memory) / table.tp
        return floor


def minimum_work(table: StepTable) -> Work:
    """Count only what no implementation avoids: two FLOPs a weight and token, 4·h·head_dim a query-key pair,
    every weight read once (of a mixture of experts, those of one token), every cached key and value read once, at
    the size that the model's ``kv_dtype`` says, else at that of a weight. Of attention that is not full (sparse,
    latent, beyond a window) nothing is counted.
    """
    new_tokens = table.moments[1] + table.moments[3]
    tokens = new_tokens + table.moments[6]
    pairs = table.moments[5] + table.moments[7]
    cached = table.moments[2] + table.moments[4] + table.moments[7]
    token_flops = per_row(table, lambda a: a.flops_per_token)
    countable = per_row(table, lambda a: float(not a.not_modelled)) * ~beyond_windows(table)
    pair_flops = countable * per_row(table, lambda a: a.attention_flops_per_pair)
    weight_bytes = per_row(table, lambda a: a.active_weight_bytes)
    kv_bytes = countable * per_row(table, _kv_bytes)
    return Work(token_flops * tokens + pair_flops * pairs, weight_bytes + kv_bytes * cached)


def beyond_windows(table: StepTable) -> NDArray[np.bool_]:
    """Whether a row's prompts or decodes are longer, on average, than the windows of its model, shape (n,)."""
    num_prefill, new, context, single, single_context, _, num_decode, decode_context = table.moments
    window = per_row(table, lambda a: float(a.window))
    prompts = (new + context + single + single_context) / np.maximum(num_prefill, 1)
    cached = decode_context / np.maximum(num_decode, 1)
    beyond: NDArray[np.bool_] = (window > 0) & (np.maximum(prompts, cached) > window)
    return beyond


def _kv_bytes(arch: Architecture) -> float:
    return arch.kv_bytes_per_token(bytes_per_value=arch.cached_value_bytes(arch.bytes_per_param))


def per_row(table: StepTable, quantity: Callable[[Architecture], float]) -> Floats:
    """A quantity of each row's architecture, shape (n,); one that no row has is not asked for it."""
    rows_of = np.bincount(table.arch_index, minlength=len(table.architectures))
    values = [
        quantity(arch) if rows else np.nan
        for arch, rows in zip(table.architectures, rows_of, strict=True)
    ]
    return np.array(values, dtype=np.float64)[table.arch_index]
