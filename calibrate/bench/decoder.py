"""A dense decoder with random weights: RMSNorm, rotary positions, grouped-query attention, SwiGLU, greedy head.

As engines lay it out: queries, keys and values in one matrix, gate and up in one; all tokens of a step flattened into
one matrix for everything but attention; a preallocated KV cache; logits of each request's last token only.
"""

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from calibrate.bench.attention import attend_decode, attend_prefill, causal_mask
from calibrate.bench.device import import_torch, torch_dtype
from calibrate.records.errors import CalibrateError
from sim.architecture import Architecture
from sim.units import DTYPE_BYTES

if TYPE_CHECKING:
    import torch

_ROPE_BASE, _NORM_EPSILON, _WEIGHT_SD = 500000.0, 1e-5, 0.02


@dataclasses.dataclass(frozen=True)
class Layer:
    """Weights of one layer, (out, in) each; norms (hidden,)."""

    attention_norm: "torch.Tensor"
    qkv: "torch.Tensor"
    output: "torch.Tensor"
    mlp_norm: "torch.Tensor"
    gate_up: "torch.Tensor"
    down: "torch.Tensor"


@dataclasses.dataclass(frozen=True)
class Decoder:
    """``embedding`` and ``head`` are (vocabulary, hidden), one tensor where the model ties them."""

    arch: Architecture
    embedding: "torch.Tensor"
    layers: tuple[Layer, ...]
    norm: "torch.Tensor"
    head: "torch.Tensor"


@dataclasses.dataclass(frozen=True)
class Requests:
    """``count`` equal requests of a step: ``new`` tokens each, after ``context`` tokens that the cache has."""

    count: int = 0
    new: int = 0
    context: int = 0

    @property
    def tokens(self) -> int:
        """New tokens of all."""
        return self.count * self.new


@dataclasses.dataclass(frozen=True)
class Cache:
    """Keys and values of all layers for some equal requests: (layers, count, kv heads, context + new, head dim)."""

    requests: Requests
    keys: "torch.Tensor"
    values: "torch.Tensor"
    mask: Any


@dataclasses.dataclass(frozen=True)
class Step:
    """One step made ready: inputs and caches that stay where they are, so that a graph can replay it.

    ``ids`` (tokens,), ``cos`` and ``sin`` (tokens, 1, head dim), ``last`` (requests,) each request's last token;
    prefill tokens come first.
    """

    ids: "torch.Tensor"
    cos: "torch.Tensor"
    sin: "torch.Tensor"
    last: "torch.Tensor"
    caches: tuple[Cache, ...]


def check_buildable(arch: Architecture) -> None:
    """Raise CalibrateError for a model that is not a dense one with gated MLPs."""
    lacking = (
        "a mixture of experts"
        if arch.experts is not None
        else "; ".join((*arch.windows, *arch.not_modelled))
        if arch.windows or arch.not_modelled
        else "a plain MLP"
        if arch.num_mlp_matrices != 3
        else "an odd head dimension"
        if arch.true_head_dim % 2
        else None
    )
    if lacking:
        raise CalibrateError(
            f"bench steps builds dense decoders with gated MLPs; {arch.name} has {lacking}"
        )


def build_decoder(arch: Architecture, kind: str, dtype: str) -> Decoder:
    """Allocate the model on a device, normal random weights everywhere."""
    weights = functools.partial(_weights, kind, dtype)
    norm = functools.partial(_ones, kind, dtype)
    hidden = arch.hidden_size
    head_dim = int(arch.true_head_dim)
    embedding = weights(arch.vocab_size, hidden)
    layers = tuple(
        Layer(
            attention_norm=norm(hidden),
            qkv=weights((arch.num_heads + 2 * arch.kv_heads) * head_dim, hidden),
            output=weights(hidden, arch.num_heads * head_dim),
            mlp_norm=norm(hidden),
            gate_up=weights(2 * arch.mlp_size, hidden),
            down=weights(hidden, arch.mlp_size),
        )
        for _ in range(arch.num_layers)
    )
    head = embedding if arch.tied_embeddings else weights(arch.vocab_size, hidden)
    return Decoder(arch, embedding, layers, norm(hidden), head)


def _weights(kind: str, dtype: str, rows: int, columns: int) -> "torch.Tensor":
    empty = import_torch().empty(rows, columns, dtype=torch_dtype(dtype), device=kind)
    return empty.normal_(0.0, _WEIGHT_SD)


def _ones(kind: str, dtype: str, size: int) -> "torch.Tensor":
    return import_torch().ones(size, dtype=torch_dtype(dtype), device=kind)


def make_step(decoder: Decoder, prefill: Requests, decode: Requests) -> Step:
    """Random tokens, and caches as full as the requests' context."""
    torch = import_torch()
    arch = decoder.arch
    device = decoder.embedding.device
    groups = [group for group in (prefill, decode) if group.count]
    positions = torch.cat(
        [torch.arange(g.context, g.context + g.new).repeat(g.count) for g in groups]
    ).to(device)
    ends = torch.cat([torch.full((g.count,), g.new) for g in groups]).cumsum(0) - 1
    head_dim = int(arch.true_head_dim)
    frequencies = _ROPE_BASE ** (
        -torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
    )
    angles = torch.outer(positions.float(), frequencies).repeat(1, 2)[:, None, :]
    dtype = decoder.embedding.dtype
    return Step(
        ids=torch.randint(arch.vocab_size, (len(positions),), device=device),
        cos=angles.cos().to(dtype),
        sin=angles.sin().to(dtype),
        last=ends.to(device),
        caches=tuple(_cache(torch, decoder, group) for group in groups),
    )


def _cache(torch: Any, decoder: Decoder, requests: Requests) -> Cache:
    arch, weight = decoder.arch, decoder.embedding
    length = requests.context + requests.new
    shape = (arch.num_layers, requests.count, arch.kv_heads, length, int(arch.true_head_dim))
    keys, values = (
        torch.empty(shape, dtype=weight.dtype, device=weight.device).normal_() for _ in "kv"
    )
    mask = (
        None if requests.new == 1 else causal_mask(torch, weight.device.type, requests.new, length)
    )
    return Cache(requests, keys, values, mask)


def run_step(torch: Any, decoder: Decoder, step: Step) -> "torch.Tensor":
    """Every request's next token, (requests,): the most likely one."""
    linear = torch.nn.functional.linear
    x = decoder.embedding[step.ids]
    for index, layer in enumerate(decoder.layers):
        mixed = linear(_normed(torch, x, layer.attention_norm), layer.qkv)
        x = x + linear(_attention(torch, decoder.arch, step, index, mixed), layer.output)
        gate, up = linear(_normed(torch, x, layer.mlp_norm), layer.gate_up).chunk(2, dim=-1)
        x = x + linear(torch.nn.functional.silu(gate) * up, layer.down)
    logits = linear(_normed(torch, x[step.last], decoder.norm), decoder.head)
    return logits.argmax(dim=-1)


def _normed(torch: Any, x: "torch.Tensor", weight: "torch.Tensor") -> "torch.Tensor":
    return torch.nn.functional.rms_norm(x, weight.shape, weight, _NORM_EPSILON)


def _attention(
    torch: Any, arch: Architecture, step: Step, layer: int, mixed: "torch.Tensor"
) -> "torch.Tensor":
    """Attention of all tokens (n, heads · head dim); their keys and values are put into the cache first."""
    heads = arch.num_heads
    kv_heads = arch.kv_heads
    head_dim = int(arch.true_head_dim)
    q, k, v = mixed.view(len(mixed), -1, head_dim).split((heads, kv_heads, kv_heads), dim=1)
    q, k = _rotated(torch, q, step), _rotated(torch, k, step)
    outputs, start = [], 0
    for cache in step.caches:
        end = start + cache.requests.tokens
        outputs.append(_attend(torch, cache, layer, q[start:end], k[start:end], v[start:end]))
        start = end
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def _attend(
    torch: Any, cache: Cache, layer: int, q: "torch.Tensor", k: "torch.Tensor", v: "torch.Tensor"
) -> "torch.Tensor":
    """Attention of some equal requests, (tokens, heads · head dim)."""
    count = cache.requests.count
    new = cache.requests.new
    context = cache.requests.context
    keys, values = cache.keys[layer], cache.values[layer]
    q, k, v = (
        part.reshape(count, new, part.shape[1], part.shape[2]).transpose(1, 2) for part in (q, k, v)
    )
    keys[:, :, context:].copy_(k)
    values[:, :, context:].copy_(v)
    if new == 1:
        return attend_decode(torch, q, keys, values).reshape(count, -1)
    return (
        attend_prefill(torch, q, keys, values, cache.mask).transpose(1, 2).reshape(count * new, -1)
    )


def _rotated(torch: Any, x: "torch.Tensor", step: Step) -> "torch.Tensor":
    low, high = x.chunk(2, dim=-1)
    return x * step.cos + torch.cat((-high, low), dim=-1) * step.sin


def step_bytes(arch: Architecture, prefill: Requests, decode: Requests, dtype: str) -> int:
    """Memory of a step beside the weights, at most: the caches, and the widest activations of one layer."""
    cached = sum(group.count * (group.context + group.new) for group in (prefill, decode))
    value_bytes = DTYPE_BYTES[dtype]
    cache_bytes = arch.kv_bytes_per_token(bytes_per_value=value_bytes) * cached
    attention = arch.true_head_dim * (arch.num_heads + arch.kv_heads)
    activations = (prefill.tokens + decode.tokens) * (
        4 * arch.hidden_size + 4 * arch.mlp_size + 6 * attention
    )
    logits = 2 * (prefill.count + decode.count) * arch.vocab_size
    return int(cache_bytes + value_bytes * (activations + logits))
