"""Engine steps composed of separately measured kernels.

A step is, layer by layer, its attention and its feed-forward part, each followed by an all-reduce; and once the LM
head, for one token of each request. Attention is four GEMMs' first two (queries, keys and values; output) and the
attention kernel at the heads of one rank; latent attention is one measured module, its projections in it. Linear
attention is three GEMMs (its inputs, the rates in 16 bits, its output), the convolution and the recurrence. A dense
feed-forward part is two GEMMs. A part with experts is the router's GEMM in 16 bits, the experts as measured together,
and shared experts as dense GEMMs. Latencies are interpolated linearly in log space inside the measured grid; a point
outside it is NaN. A head wider than every measured GEMM is computed in equal parts, one after the other.
"""

import dataclasses
import math
from collections.abc import Iterator

from calibrate.importers.aiconfigurator_tables import EXPERT_TYPES, GEMM_TYPES, KernelTables
from sim.architecture import Architecture, LayerGroup
from sim.architecture.attention import (
    Attention,
    GroupedAttention,
    LatentAttention,
    LinearAttention,
)

_NAN = float("nan")
_GEMM_OF_CACHE = {"": "bfloat16", "bf16": "bfloat16", "fp16": "bfloat16", "fp8": "fp8"}


@dataclasses.dataclass(frozen=True)
class Step:
    """``batch`` prompts of ``length`` tokens, or as many decodes with ``length`` tokens cached each."""

    phase: str
    batch: int
    length: int

    @property
    def tokens(self) -> int:
        """Tokens that the step computes."""
        return self.batch * self.length if self.phase == "prefill" else self.batch


@dataclasses.dataclass(frozen=True)
class Ranks:
    """How a model is split: ``tp`` GPUs share attention and dense parts, of them ``ep`` share the experts whole."""

    tp: int
    ep: int = 1


@dataclasses.dataclass(frozen=True)
class Composer:
    """Composes steps of any architecture from one GPU's tables."""

    tables: KernelTables

    def latency_ms(self, arch: Architecture, ranks: Ranks, step: Step) -> float:
        """The duration of a step; NaN where some kernel was not measured near it."""
        layers = sum(
            group.count * self._layer_ms(arch, group, ranks, step) for group in arch.layer_groups
        )
        return layers + self._head_ms(arch, ranks.tp, step.batch)

    def _layer_ms(self, arch: Architecture, group: LayerGroup, ranks: Ranks, step: Step) -> float:
        reduce = self._all_reduce_ms(arch, ranks.tp, step)
        total = 0.0
        if group.attention is not None:
            total += self._attention_ms(arch, group.attention, ranks.tp, step) + reduce
        if group.mlp_size or group.experts:
            total += self._feed_forward_ms(arch, group, ranks, step) + reduce
        return total

    def _attention_ms(self, arch: Architecture, attention: Attention, tp: int, step: Step) -> float:
        match attention:
            case GroupedAttention():
                return self._grouped_ms(arch, attention, tp, step)
            case LatentAttention(indexer=None):
                return self._latent_ms(arch, attention, tp, step)
            case LinearAttention():
                return self._linear_ms(arch, attention, tp, step)
            case _:
                return _NAN

    def _grouped_ms(
        self, arch: Architecture, attention: GroupedAttention, tp: int, step: Step
    ) -> float:
        heads, kv_heads = attention.heads // tp, max(attention.kv_heads // tp, 1)
        width = int(attention.head_dim)
        table = (
            self.tables.prefill_attention
            if step.phase == "prefill"
            else self.tables.decode_attention
        )
        window = attention.width if attention.width and step.length > attention.width else 0
        cache = _GEMM_OF_CACHE[arch.kv_dtype]
        kernel = table.latency_ms((heads, kv_heads, width, window, cache), step.batch, step.length)
        dtype = arch.part_dtypes.attention
        d = arch.hidden_size
        queries = (heads * (2 if attention.gated else 1) + 2 * kv_heads) * width
        return (
            kernel
            + self._gemm_ms(dtype, step.tokens, queries, d)
            + self._gemm_ms(dtype, step.tokens, d, heads * width)
        )

    def _latent_ms(
        self, arch: Architecture, attention: LatentAttention, tp: int, step: Step
    ) -> float:
        table = self.tables.latent_prefill if step.phase == "prefill" else self.tables.latent_decode
        dtype = GEMM_TYPES.get(arch.part_dtypes.attention, "")
        measured = (arch.hidden_size, attention.query_rank, attention.cache_rank) == _LATENT_SIZES
        if table is None or not measured:
            return _NAN
        shape = (attention.heads // tp, dtype, _GEMM_OF_CACHE[arch.kv_dtype])
        return table.latency_ms(shape, step.batch, step.length)

    def _linear_ms(
        self, arch: Architecture, attention: LinearAttention, tp: int, step: Step
    ) -> float:
        prefill = step.phase == "prefill"
        table = self.tables.linear_prefill if prefill else self.tables.linear_decode
        if table is None or attention.key_heads % tp:
            return _NAN
        key_heads, value_heads = attention.key_heads // tp, attention.value_heads // tp
        shape = (
            key_heads,
            value_heads,
            attention.key_dim,
            attention.value_dim,
            attention.convolution,
        )
        point = (step.batch, step.length) if prefill else (step.batch,)
        dtype, d = arch.part_dtypes.attention, arch.hidden_size
        values = value_heads * attention.value_dim
        return (
            table.latency_ms(shape, *point)
            + self._gemm_ms(dtype, step.tokens, attention.convolved_width // tp + values, d)
            + self._gemm_ms("bf16", step.tokens, max(2 * value_heads, _NARROWEST), d)
            + self._gemm_ms(dtype, step.tokens, d, values)
        )

    def _feed_forward_ms(
        self, arch: Architecture, group: LayerGroup, ranks: Ranks, step: Step
    ) -> float:
        total = 0.0
        if group.mlp_size:
            total += self._mlp_ms(arch, arch.part_dtypes.mlp, group.mlp_size, group, ranks.tp, step)
        if group.experts:
            total += self._experts_ms(arch, group, ranks, step)
        return total

    def _mlp_ms(
        self, arch: Architecture, dtype: str, width: int, group: LayerGroup, tp: int, step: Step
    ) -> float:
        inputs = (group.matrices - 1) * width // tp
        return self._gemm_ms(dtype, step.tokens, inputs, arch.hidden_size) + self._gemm_ms(
            dtype, step.tokens, arch.hidden_size, width // tp
        )

    def _experts_ms(self, arch: Architecture, group: LayerGroup, ranks: Ranks, step: Step) -> float:
        experts = group.experts
        if experts is None or self.tables.experts is None or experts.latent_size:
            return _NAN
        shape = (
            EXPERT_TYPES.get(arch.part_dtypes.experts, ""),
            arch.hidden_size,
            experts.intermediate_size,
            experts.experts_per_token,
            experts.num_experts,
            ranks.tp // ranks.ep,
            ranks.ep,
        )
        routed = self.tables.experts.latency_ms(shape, step.tokens)
        outputs = max(experts.num_experts, _NARROWEST)
        router = self._gemm_ms("bf16", step.tokens, outputs, arch.hidden_size)
        shared = experts.shared_intermediate_size
        always = (
            self._mlp_ms(arch, arch.part_dtypes.shared_experts, shared, group, ranks.tp, step)
            if shared
            else 0.0
        )
        return routed + router + always

    def _gemm_ms(self, dtype: str, m: float, n: float, k: float) -> float:
        return self.tables.gemm.latency_ms((GEMM_TYPES.get(dtype, ""),), m, n, k)

    def _all_reduce_ms(self, arch: Architecture, tp: int, step: Step) -> float:
        if tp == 1:
            return 0.0
        return self.tables.all_reduce.latency_ms((tp,), step.tokens * arch.hidden_size)

    def _head_ms(self, arch: Architecture, tp: int, requests: int) -> float:
        grid = self.tables.gemm.grid("bfloat16")
        if grid is None:
            return _NAN
        width = arch.vocab_size / tp
        parts = math.ceil(width / float(grid.axes[1][-1]))
        return parts * grid.latency_ms(requests, width / parts, arch.hidden_size)


_NARROWEST = 32  # outputs: the narrowest measured GEMM, whose one tile fewer outputs (a router's, rates) fill too

_LATENT_SIZES = (7168, 1536, 512)
"""Model width, query rank and cache rank of the measured module: DeepSeek-V3's, which Kimi-K2 shares."""


def sweep(
    prefill: tuple[tuple[int, ...], tuple[int, ...]],
    decode: tuple[tuple[int, ...], tuple[int, ...]],
) -> Iterator[Step]:
    """Steps at every pair of batch and length, prefill first."""
    for phase, (batches, lengths) in (("prefill", prefill), ("decode", decode)):
        for batch in batches:
            for length in lengths:
                yield Step(phase, batch, length)
