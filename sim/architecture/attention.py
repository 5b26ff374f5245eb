"""Kinds of attention, and of what stands in its place: their weights, FLOPs, and what they keep of a request."""

import dataclasses
from abc import ABC, abstractmethod

_INDEX_SCALE_BYTES = 4.0  # one 32-bit scale for the 8-bit index key of a token
STATE_BYTES = 4.0  # recurrent states are kept in 32 bits
_CONVOLUTION_BYTES = 2.0


class Attention(ABC):
    """What mixes tokens in one layer."""

    @property
    def width(self) -> int:
        """Tokens up to which it is full attention; 0: no limit, or none of the kind."""
        return 0

    @property
    def peculiarity(self) -> str:
        """What makes it another thing than full attention, in words; empty for full attention."""
        return ""

    @property
    def kind(self) -> str:
        """The kind of attention in two words; empty for full attention."""
        return ""

    @abstractmethod
    def params(self, hidden_size: int) -> float:
        """Weights of the projections."""

    @property
    def flops_per_pair(self) -> float:
        """FLOPs of one query-key pair in all heads: its score and its share of the sum of values."""
        return 0.0

    def cache_bytes_per_token(self, tp: int, bytes_per_value: float) -> float:  # noqa: ARG002
        """Bytes that are kept of one token, over all ``tp`` GPUs together."""
        return 0.0

    @property
    def state_bytes(self) -> float:
        """Bytes that are kept of a request whatever its length."""
        return 0.0

    def cache_bytes(self, tokens: float, tp: int, bytes_per_value: float) -> float:
        """Bytes that are kept of a request of so many tokens, over all GPUs: of the last ones that it sees."""
        seen = min(tokens, self.width) if self.width else tokens
        return seen * self.cache_bytes_per_token(tp, bytes_per_value) + self.state_bytes


@dataclasses.dataclass(frozen=True)
class GroupedAttention(Attention):
    """Heads that share ``kv_heads`` keys and values; one key/value head is multi-query, as many as heads multi-head.

    ``window`` > 0 is a sliding window of so many tokens, ``chunk`` > 0 attention within chunks of so many. ``gated``
    queries bring a gate of their own size. ``values_are_keys``: one projection gives both, each cached on its own.
    """

    heads: int
    kv_heads: int
    head_dim: float
    value_dim: float = 0.0
    window: int = 0
    chunk: int = 0
    gated: bool = False
    values_are_keys: bool = False

    @property
    def width(self) -> int:
        """The window or the chunk."""
        return self.window or self.chunk

    @property
    def kind(self) -> str:
        """Windowed or chunked."""
        return "windows" if self.width else ""

    @property
    def peculiarity(self) -> str:
        """The window or the chunk, in words."""
        if self.window:
            return f"sliding windows of {self.window} tokens"
        return f"attention within chunks of {self.chunk} tokens" if self.chunk else ""

    @property
    def _value_dim(self) -> float:
        return self.value_dim or self.head_dim

    def params(self, hidden_size: int) -> float:
        """Queries with their gate, keys, values, output."""
        queries = self.heads * self.head_dim * (2 if self.gated else 1)
        keys = self.kv_heads * self.head_dim
        values = 0.0 if self.values_are_keys else self.kv_heads * self._value_dim
        output = self.heads * self._value_dim
        return hidden_size * (queries + keys + values + output)

    @property
    def flops_per_pair(self) -> float:
        """Two FLOPs a number of the key and of the value, in every head."""
        return 2.0 * self.heads * (self.head_dim + self._value_dim)

    def cache_bytes_per_token(self, tp: int, bytes_per_value: float) -> float:
        """A head is never split: beyond ``kv_heads`` GPUs each keeps a copy of one."""
        return bytes_per_value * max(self.kv_heads, tp) * (self.head_dim + self._value_dim)


@dataclasses.dataclass(frozen=True)
class Indexer:
    """What chooses the ``top_k`` tokens that sparse attention looks at: ``heads`` of ``head_dim`` on one shared key."""

    heads: int
    head_dim: int
    top_k: int


@dataclasses.dataclass(frozen=True)
class LatentAttention(Attention):
    """Multi-head latent attention (MLA): one compressed key/value of ``cache_rank`` + ``rope_dim`` numbers a token.

    ``query_rank`` 0: queries are not compressed. With an ``indexer`` it is sparse. Source: DeepSeek-V2 technical
    report, section 2.1; DeepSeek-V3.2 for the indexer, whose keys are kept in 8 bits with a 32-bit scale.
    """

    heads: int
    query_rank: int
    cache_rank: int
    nope_dim: int
    rope_dim: int
    value_dim: int
    indexer: Indexer | None = None

    @property
    def kind(self) -> str:
        """Latent, or sparse."""
        return "sparse attention" if self.indexer else "latent attention"

    @property
    def peculiarity(self) -> str:
        """Latent, and sparse with an indexer."""
        sparse = f", sparse: the best {self.indexer.top_k} tokens" if self.indexer else ""
        return f"latent attention (MLA{sparse})"

    def params(self, hidden_size: int) -> float:
        """Down and up projections of queries, of keys and values, the output, and the indexer."""
        query_width = self.heads * (self.nope_dim + self.rope_dim)
        queries = (
            self.query_rank * (hidden_size + query_width)
            if self.query_rank
            else hidden_size * query_width
        )
        down = hidden_size * (self.cache_rank + self.rope_dim)
        up = self.cache_rank * self.heads * (self.nope_dim + self.value_dim)
        output = self.heads * self.value_dim * hidden_size
        return float(queries + down + up + output + self._indexer_params(hidden_size))

    def _indexer_params(self, hidden_size: int) -> int:
        if self.indexer is None:
            return 0
        queries = self.query_rank * self.indexer.heads * self.indexer.head_dim
        return queries + hidden_size * (self.indexer.head_dim + self.indexer.heads)

    @property
    def flops_per_pair(self) -> float:
        """Not absorbed, as engines compute prompts."""
        return 2.0 * self.heads * (self.nope_dim + self.rope_dim + self.value_dim)

    def cache_bytes_per_token(self, tp: int, bytes_per_value: float) -> float:
        """The compressed key/value has no heads: every GPU keeps all of it."""
        index = self.indexer.head_dim + _INDEX_SCALE_BYTES if self.indexer else 0.0
        return tp * (bytes_per_value * (self.cache_rank + self.rope_dim) + index)


@dataclasses.dataclass(frozen=True)
class LinearAttention(Attention):
    """Gated delta rule: a state of key × value numbers in each value head, whatever the length.

    Source: Yang et al., Gated Delta Networks (2024), as Qwen3-Next lays it out.
    """

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    convolution: int

    @property
    def kind(self) -> str:
        """Linear."""
        return "linear attention"

    @property
    def peculiarity(self) -> str:
        """Linear."""
        return "linear attention"

    @property
    def convolved_width(self) -> int:
        """Numbers of a token that the convolution mixes: queries, keys and values."""
        return 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim

    def params(self, hidden_size: int) -> float:
        """Queries, keys, values, gate, the two rates of each value head, convolution, output."""
        values = self.value_heads * self.value_dim
        inputs = self.convolved_width + values + 2 * self.value_heads
        return float(hidden_size * (inputs + values) + self.convolved_width * self.convolution)

    @property
    def state_bytes(self) -> float:
        """The state, and the last inputs of the convolution."""
        state = self.value_heads * self.key_dim * self.value_dim
        recent = self.convolved_width * (self.convolution - 1)
        return STATE_BYTES * state + _CONVOLUTION_BYTES * recent


@dataclasses.dataclass(frozen=True)
class Mamba(Attention):
    """A Mamba-2 layer: ``heads`` of ``head_dim``, each with a state of ``state_size``, ``groups`` of inputs to it.

    Source: Dao and Gu, Transformers are SSMs (2024), as Nemotron-H lays it out.
    """

    heads: int
    head_dim: int
    state_size: int
    groups: int
    convolution: int

    @property
    def kind(self) -> str:
        """Mamba."""
        return "Mamba"

    @property
    def peculiarity(self) -> str:
        """Mamba."""
        return "Mamba layers"

    @property
    def _mixed_width(self) -> int:
        return self.heads * self.head_dim + 2 * self.groups * self.state_size

    def params(self, hidden_size: int) -> float:
        """Gate, convolved inputs, one rate a head, convolution, output."""
        inner = self.heads * self.head_dim
        inputs = inner + self._mixed_width + self.heads
        return float(hidden_size * (inputs + inner) + self._mixed_width * self.convolution)

    @property
    def state_bytes(self) -> float:
        """The states, and the last inputs of the convolution."""
        state = self.heads * self.head_dim * self.state_size
        recent = self._mixed_width * (self.convolution - 1)
        return STATE_BYTES * state + _CONVOLUTION_BYTES * recent
