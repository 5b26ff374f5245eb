"""A transformer as a latency model reads it: its sizes, and what it stores and computes by them.

Every count of weights, bytes and FLOPs is here. Models that reproduce another simulator count by its rules instead,
and say so where they do: roofline-v1 and -v2, and those of BLIS (:mod:`sim.models.roofline_v1.columns`).
"""

import dataclasses

from sim.errors import ArchitectureError, nearest
from sim.units import DTYPE_BYTES


@dataclasses.dataclass(frozen=True)
class Experts:
    """The mixture-of-experts part of a model.

    ``num_experts`` routed experts of which ``experts_per_token`` serve a token, each an MLP of
    ``intermediate_size``; ``shared_intermediate_size`` is the width of the always-active expert (0: none);
    the first ``num_dense_layers`` layers keep an ordinary MLP.
    """

    num_experts: int
    experts_per_token: int
    intermediate_size: int
    shared_intermediate_size: int = 0
    num_dense_layers: int = 0


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The sizes of one transformer that a latency model reads; immutable and hashable.

    ``num_kv_heads`` 0 means as many as ``num_heads``; ``intermediate_size`` 0 means 4 × ``hidden_size``
    (the conventions of Hugging Face files that leave the field out). ``head_dim`` is 0 where the file does
    not state it. ``num_mlp_matrices`` is 3 for a gated MLP and 2 for a plain one. ``kv_dtype`` is the type of cached
    keys and values where an engine was told one.
    """

    name: str
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int = 0
    intermediate_size: int = 0
    vocab_size: int = 0
    dtype: str = "bf16"
    bytes_per_param: float = 2.0
    head_dim: int = 0
    num_mlp_matrices: int = 3
    experts: Experts | None = None
    latent_attention: bool = False
    tied_embeddings: bool = False
    kv_dtype: str = ""

    @property
    def kv_heads(self) -> int:
        """Key/value heads, the default resolved."""
        return self.num_kv_heads or self.num_heads

    @property
    def mlp_size(self) -> int:
        """MLP width, the default resolved."""
        return self.intermediate_size or 4 * self.hidden_size

    @property
    def true_head_dim(self) -> float:
        """The head dimension the model really has: the explicit one, else hidden size / heads."""
        return float(self.head_dim or self.hidden_size / self.num_heads)

    @property
    def attention_params(self) -> float:
        """Weights of the four attention projections of one layer."""
        return 2.0 * self.hidden_size * self.true_head_dim * (self.num_heads + self.kv_heads)

    @property
    def params_per_token(self) -> float:
        """Weights of all layers that one token multiplies with (the active experts only); no embeddings."""
        return self._layer_params(active_only=True)

    @property
    def layer_params(self) -> float:
        """Weights of all layers, every expert counted; no embeddings."""
        return self._layer_params(active_only=False)

    @property
    def expert_params(self) -> float:
        """Weights of one routed expert in all layers that have it; 0 for a dense model."""
        if self.experts is None:
            return 0.0
        layers = self.num_layers - self.experts.num_dense_layers
        return float(
            layers * self.num_mlp_matrices * self.hidden_size * self.experts.intermediate_size
        )

    @property
    def head_params(self) -> float:
        """Weights of the output head, or of the embeddings: vocabulary × hidden size."""
        return float(self.vocab_size * self.hidden_size)

    @property
    def total_params(self) -> float:
        """Weights of the whole model with embeddings and output head."""
        return self.layer_params + self.head_params * (1 if self.tied_embeddings else 2)

    @property
    def weight_bytes(self) -> float:
        """Bytes of :attr:`total_params`, over all GPUs."""
        return self.total_params * self.bytes_per_param

    @property
    def layer_weight_bytes(self) -> float:
        """Bytes of :attr:`layer_params`, over all GPUs."""
        return self.layer_params * self.bytes_per_param

    @property
    def active_weight_bytes(self) -> float:
        """Bytes of :attr:`params_per_token`: what a step of one token reads of the layers."""
        return self.params_per_token * self.bytes_per_param

    @property
    def flops_per_token(self) -> float:
        """FLOPs of one token's matrix products in all layers: two a weight; no attention and no output head."""
        return 2.0 * self.params_per_token

    @property
    def attention_flops_per_pair(self) -> float:
        """FLOPs of one query-key pair in all layers and heads: its score and its share of the sum of values."""
        return 4.0 * self.num_layers * self.num_heads * self.true_head_dim

    def kv_bytes_per_token(self, tp: int = 1, bytes_per_value: float = 2.0) -> float:
        """Bytes that one cached token's keys and values take in all layers, over all ``tp`` GPUs together.

        A head is never split: beyond ``kv_heads`` GPUs each keeps a copy of one. Engines keep 16 bits a value
        whatever the weights are; give ``bytes_per_value`` for another cache.
        """
        heads = max(self.kv_heads, tp)
        return 2.0 * bytes_per_value * self.num_layers * heads * self.true_head_dim

    def cached_value_bytes(self, usual: float) -> float:
        """Bytes of one cached number: those of ``kv_dtype``, ``usual`` where none is stated."""
        return DTYPE_BYTES[self.kv_dtype] if self.kv_dtype else usual

    def layer_matrices(self, tp: int = 1) -> tuple[tuple[int, int], ...]:
        """Outputs and inputs (n, k) of a dense layer's four matrix products on one of ``tp`` GPUs.

        Queries, keys and values; attention output; gate and up; down.
        """
        head_dim = int(self.true_head_dim)
        heads = self.num_heads // tp
        kv_heads = max(self.kv_heads // tp, 1)
        return (
            ((heads + 2 * kv_heads) * head_dim, self.hidden_size),
            (self.hidden_size, heads * head_dim),
            ((self.num_mlp_matrices - 1) * self.mlp_size // tp, self.hidden_size),
            (self.hidden_size, self.mlp_size // tp),
        )

    def with_dtype(self, dtype: str) -> "Architecture":
        """The same model with its weights stored as ``dtype``. Raises ArchitectureError for an unknown type."""
        if dtype == self.dtype:
            return self
        if dtype not in DTYPE_BYTES:
            raise ArchitectureError(
                f"dtype {dtype!r} is not known (known: {', '.join(DTYPE_BYTES)}){nearest(dtype, DTYPE_BYTES)}"
            )
        return dataclasses.replace(self, dtype=dtype, bytes_per_param=DTYPE_BYTES[dtype])

    def with_kv_dtype(self, kv_dtype: str) -> "Architecture":
        """The same model with keys and values cached as ``kv_dtype``. Raises ArchitectureError for an unknown type."""
        if kv_dtype not in DTYPE_BYTES:
            raise ArchitectureError(
                f"kv_dtype {kv_dtype!r} is not known (known: {', '.join(DTYPE_BYTES)}){nearest(kv_dtype, DTYPE_BYTES)}"
            )
        return dataclasses.replace(self, kv_dtype=kv_dtype)

    def _layer_params(self, *, active_only: bool) -> float:
        if self.latent_attention:
            raise ArchitectureError(
                f"{self.name}: its multi-head latent attention (MLA) is not modelled"
            )
        matrix = float(self.num_mlp_matrices * self.hidden_size)
        attention = self.num_layers * self.attention_params
        if self.experts is None:
            return attention + self.num_layers * matrix * self.mlp_size
        moe, dense = self.experts, self.experts.num_dense_layers
        count = moe.experts_per_token if active_only else moe.num_experts
        expert_width = count * moe.intermediate_size + moe.shared_intermediate_size
        return attention + matrix * (
            (self.num_layers - dense) * expert_width + dense * self.mlp_size
        )
