"""A transformer as a latency model reads it: its sizes, and what it stores and computes by them.

Every count of weights, bytes and FLOPs is here. Models that reproduce another simulator count by its rules instead,
and say so where they do: roofline-v1 and -v2, and those of BLIS (:mod:`sim.models.roofline_v1.columns`).
"""

import dataclasses
import functools

from sim.architecture.attention import Attention, GroupedAttention, LatentAttention
from sim.architecture.layers import Experts, LayerGroup
from sim.architecture.peculiarities import kind_of_layers, limited_attention, unusual_layers
from sim.architecture.sampling import ALL_TOKENS, Sampling
from sim.architecture.weights import WeightBytes, WeightTypes, bits, check_type, part_type
from sim.errors import ArchitectureError
from sim.units import DTYPE_BYTES

_HEAD_BYTES = 2.0  # embeddings and output head of quantised checkpoints stay in 16 bits


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The sizes of one transformer that a latency model reads; immutable and hashable.

    ``num_kv_heads`` 0 means as many as ``num_heads``; ``intermediate_size`` 0 means 4 × ``hidden_size``
    (the conventions of Hugging Face files that leave the field out). ``head_dim`` is 0 where the file does
    not state it. ``num_mlp_matrices`` is 3 for a gated MLP and 2 for a plain one. These sizes describe layers that
    are all alike, but for ``experts``; where layers differ or are of another kind, ``groups`` describes them, and
    counts go by it. ``stored`` is given where parts of a layer are stored in types of their own, ``kv_dtype`` where
    an engine was told the type of cached keys and values, or the checkpoint asks for one. ``moe_dtype``
    likewise of its experts. ``multimodal``:
    it is the language part of a larger model. ``ep``: so many GPUs share the routed experts, each whole; the rest of
    the parallelism splits their width. ``sampling`` is how tokens are drawn unless a client says otherwise.
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
    tied_embeddings: bool = False
    groups: tuple[LayerGroup, ...] = ()
    stored: WeightBytes | None = None
    kv_dtype: str = ""
    multimodal: bool = False
    moe_dtype: str = ""
    ep: int = 1
    sampling: Sampling = ALL_TOKENS

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

    @functools.cached_property
    def layer_groups(self) -> tuple[LayerGroup, ...]:
        """All layers, those alike together."""
        if self.groups:
            return self.groups
        attention = GroupedAttention(self.num_heads, self.kv_heads, self.true_head_dim)
        matrices = self.num_mlp_matrices
        if self.experts is None:
            return (LayerGroup(self.num_layers, attention, self.mlp_size, None, matrices),)
        dense = self.experts.num_dense_layers
        groups = (
            LayerGroup(dense, attention, self.mlp_size, None, matrices),
            LayerGroup(self.num_layers - dense, attention, 0, self.experts, matrices),
        )
        return tuple(group for group in groups if group.count)

    @functools.cached_property
    def kind(self) -> str:
        """What sets its layers apart, in words: ``dense``, ``experts``, ``latent attention, experts``."""
        return kind_of_layers(self.layer_groups)

    @property
    def latent_attention(self) -> bool:
        """Whether some layer has multi-head latent attention (MLA)."""
        return any(isinstance(attention, LatentAttention) for _, attention in self._attentions)

    @property
    def window(self) -> int:
        """Tokens up to which every layer's attention is full: the narrowest window or chunk; 0: no limit."""
        return min((a.width for _, a in self._attentions if a.width), default=0)

    @property
    def not_modelled(self) -> tuple[str, ...]:
        """What no model of full attention in layers alike has a term for, in words; windows and chunks are not here."""
        return tuple(unusual_layers(self.layer_groups))

    @property
    def windows(self) -> tuple[str, ...]:
        """Its sliding windows and chunks, in words; up to :attr:`window` tokens they make no difference."""
        return tuple(limited_attention(self.layer_groups))

    @property
    def attention_params(self) -> float:
        """Weights of the attention projections of one layer; of the first group where layers differ."""
        return self.layer_groups[0].attention_params(self.hidden_size)

    @property
    def params_per_token(self) -> float:
        """Weights of all layers that one token multiplies with (the active experts only); no embeddings."""
        return sum(
            g.count
            * (
                self._always_active(g)
                + (g.experts.experts_per_token if g.experts else 0)
                * g.expert_params(self.hidden_size)
            )
            for g in self.layer_groups
        )

    @property
    def layer_params(self) -> float:
        """Weights of all layers, every expert counted; no embeddings."""
        always = sum(g.count * self._always_active(g) for g in self.layer_groups)
        return always + self._routed_params

    @property
    def expert_params(self) -> float:
        """Weights of one routed expert in all layers that have it; 0 for a dense model."""
        return float(sum(g.count * g.expert_params(self.hidden_size) for g in self.layer_groups))

    @property
    def kilologits(self) -> float:
        """Thousands of logits that are made for each request of a step: its vocabulary."""
        return self.vocab_size / 1000.0

    @property
    def head_params(self) -> float:
        """Weights of the output head, or of the embeddings: vocabulary × hidden size."""
        return float(self.vocab_size * self.hidden_size)

    @property
    def total_params(self) -> float:
        """Weights of the whole model with embeddings and output head."""
        return self.layer_params + self._embedding_params

    @property
    def active_params(self) -> float:
        """Weights that serve one token: all of a dense model; of a mixture of experts those that it multiplies with,
        the output head included and the embeddings, which are looked up, left out.
        """
        has_experts = any(group.experts for group in self.layer_groups)
        return self.params_per_token + self.head_params if has_experts else self.total_params

    @property
    def weight_bytes(self) -> float:
        """Bytes of :attr:`total_params`, over all GPUs; embeddings and head in 16 bits at least."""
        head_bytes = max(self.bytes_per_param, _HEAD_BYTES)
        return self.layer_weight_bytes + self._embedding_params * head_bytes

    @property
    def layer_weight_bytes(self) -> float:
        """Bytes of :attr:`layer_params`, over all GPUs."""
        always = sum(g.count * self._always_active_bytes(g) for g in self.layer_groups)
        return always + self._routed_params * self.part_bytes.experts

    @property
    def expert_bytes(self) -> float:
        """Bytes of :attr:`expert_params`."""
        return self.expert_params * self.part_bytes.experts

    @property
    def active_weight_bytes(self) -> float:
        """Bytes of :attr:`params_per_token`: what a step of one token reads of the layers."""
        return sum(
            g.count
            * (
                self._always_active_bytes(g)
                + (g.experts.experts_per_token if g.experts else 0)
                * g.expert_params(self.hidden_size)
                * self.part_bytes.experts
            )
            for g in self.layer_groups
        )

    @property
    def weight_bits(self) -> int:
        """32, 16, 8 or 4: bits of a number of the weight type, its scales left out."""
        return bits(self.bytes_per_param)

    @property
    def part_dtypes(self) -> WeightTypes:
        """The weight type of each part: the model's own, or 16 bits where a part is stored so."""
        types = [
            part_type(size, self.dtype, self.bytes_per_param)
            for size in dataclasses.astuple(self.part_bytes)
        ]
        attention, mlp, shared, experts = types
        return WeightTypes(attention, mlp, shared, self.moe_dtype or experts)

    @property
    def flops_per_token(self) -> float:
        """FLOPs of one token's matrix products in all layers: two a weight; no attention and no output head."""
        return 2.0 * self.params_per_token

    @property
    def attention_flops_per_pair(self) -> float:
        """FLOPs of one query-key pair in all layers and heads: its score and its share of the sum of values."""
        return float(sum(n * attention.flops_per_pair for n, attention in self._attentions))

    def kv_bytes_per_token(self, tp: int = 1, bytes_per_value: float = 2.0) -> float:
        """Bytes that one cached token takes in all layers that see it, over all ``tp`` GPUs together.

        A head is never split: beyond ``kv_heads`` GPUs each keeps a copy of one. Engines keep 16 bits a value
        whatever the weights are; give ``bytes_per_value`` for another cache.
        """
        return float(
            sum(n * a.cache_bytes_per_token(tp, bytes_per_value) for n, a in self._attentions)
        )

    def cache_bytes(self, tokens: float, tp: int = 1, bytes_per_value: float = 2.0) -> float:
        """Bytes that a request of so many tokens takes, over all ``tp`` GPUs: beyond a window a layer keeps no more.

        Recurrent layers keep a state whatever the length. ``bytes_per_value`` as for :meth:`kv_bytes_per_token`.
        """
        return float(
            sum(n * a.cache_bytes(tokens, tp, bytes_per_value) for n, a in self._attentions)
        )

    @property
    def state_bytes(self) -> float:
        """Bytes that recurrent layers keep of a request whatever its length, over all GPUs."""
        return float(sum(n * attention.state_bytes for n, attention in self._attentions))

    def check_tp(self, tp: int) -> None:
        """Raise ArchitectureError for a degree that does not divide the attention heads, or that ``ep`` does not."""
        if self.num_heads % tp:
            degrees = ", ".join(str(n) for n in (1, 2, 4, 8, 16) if self.num_heads % n == 0)
            raise ArchitectureError(
                f"tp {tp} does not divide the {self.num_heads} attention heads of {self.name}: use {degrees}"
            )
        if tp % self.ep:
            raise ArchitectureError(
                f"ep {self.ep} does not divide tp {tp} of {self.name}: experts are shared between the GPUs of tp; "
                "attention data parallelism (dp) is not modelled"
            )

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
        check_type("dtype", dtype)
        size = DTYPE_BYTES[dtype]
        return dataclasses.replace(self, dtype=dtype, bytes_per_param=size, stored=None)

    def with_kv_dtype(self, kv_dtype: str) -> "Architecture":
        """The same model with keys and values cached as ``kv_dtype``. Raises ArchitectureError for an unknown type."""
        check_type("kv_dtype", kv_dtype)
        return dataclasses.replace(self, kv_dtype=kv_dtype)

    def with_moe_dtype(self, dtype: str) -> "Architecture":
        """The same model with its routed experts stored as ``dtype``. Raises ArchitectureError for an unknown type.

        So it does where there are none.
        """
        check_type("moe_dtype", dtype)
        if not any(group.experts for group in self.layer_groups):
            raise ArchitectureError(f"moe_dtype {dtype}: {self.name} has no experts: leave it out")
        stored = dataclasses.replace(self.part_bytes, experts=DTYPE_BYTES[dtype])
        return dataclasses.replace(self, stored=stored, moe_dtype=dtype)

    def with_ep(self, ep: int) -> "Architecture":
        """The same model with its experts shared between ``ep`` GPUs. Raises ArchitectureError if that cannot be."""
        counts = {g.experts.num_experts for g in self.layer_groups if g.experts}
        if ep > 1 and not counts:
            raise ArchitectureError(f"ep {ep}: {self.name} has no experts: leave it 1")
        uneven = [count for count in counts if count % ep]
        if uneven:
            raise ArchitectureError(
                f"ep {ep} does not divide the {uneven[0]} experts of {self.name}"
            )
        return dataclasses.replace(self, ep=ep)

    @property
    def _attentions(self) -> list[tuple[int, Attention]]:
        return [(group.count, group.attention) for group in self.layer_groups if group.attention]

    @property
    def part_bytes(self) -> WeightBytes:
        """Mean bytes of a weight by part: those stored, else the model's own everywhere."""
        size = self.bytes_per_param
        return self.stored or WeightBytes(size, size, size, size)

    @property
    def _embedding_params(self) -> float:
        return self.head_params * (1 if self.tied_embeddings else 2)

    @property
    def _routed_params(self) -> float:
        return sum(
            g.count * g.experts.num_experts * g.expert_params(self.hidden_size)
            for g in self.layer_groups
            if g.experts
        )

    def _always_active(self, group: LayerGroup) -> float:
        d = self.hidden_size
        return group.attention_params(d) + group.mlp_params(d) + group.shared_params(d)

    def _always_active_bytes(self, group: LayerGroup) -> float:
        d, size = self.hidden_size, self.part_bytes
        return (
            group.attention_params(d) * size.attention
            + group.mlp_params(d) * size.mlp
            + group.shared_params(d) * size.shared_experts
        )
