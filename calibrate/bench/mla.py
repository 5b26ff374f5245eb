"""Multi-head latent attention: prompts with keys and values unpacked, decodes absorbed into the cached latent.

A decode's queries are multiplied into the latent space, so that all heads read one key of ``cache_rank`` +
``rope_dim`` numbers, whose first ``cache_rank`` are the value too (DeepSeek-V2 technical report, section 2.1).
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from calibrate.bench.attention import fastest
from calibrate.bench.device import Device, import_torch, torch_dtype
from calibrate.bench.point import Point, Prepared, scattered
from sim.architecture import Architecture
from sim.architecture.attention import LatentAttention
from sim.units import DTYPE_BYTES


@dataclasses.dataclass(frozen=True)
class MlaShape:
    """Latent attention of one layer, with the heads that one GPU has."""

    num_heads: int
    cache_rank: int
    nope_dim: int
    rope_dim: int
    value_dim: int

    @property
    def key_dim(self) -> int:
        """Of a head's key, unpacked."""
        return self.nope_dim + self.rope_dim

    @property
    def latent_dim(self) -> int:
        """Of a token in the cache."""
        return self.cache_rank + self.rope_dim

    @property
    def scale(self) -> float:
        """Of scores, absorbed or not."""
        return float(self.key_dim**-0.5)


def mla_shapes(arch: Architecture, tps: Sequence[int]) -> list[MlaShape]:
    """The latent attention of a model at each degree; none where it has none."""
    found = [
        group.attention
        for group in arch.layer_groups
        if isinstance(group.attention, LatentAttention)
    ]
    return [
        MlaShape(one.heads // tp, one.cache_rank, one.nope_dim, one.rope_dim, one.value_dim)
        for one in found[:1]
        for tp in tps
        if one.heads % tp == 0
    ]


def mla_prefill_points(
    device: Device, shapes: Sequence[MlaShape], sizes: Sequence[tuple[int, int]], dtype: str
) -> list[Point]:
    """Causal attention of ``sizes``: (batch, prompt length) each."""
    grid = scattered([(shape, *size) for shape in shapes for size in sizes])
    return [_prefill_point(device, shape, batch, length, dtype) for shape, batch, length in grid]


def mla_decode_points(
    device: Device, shapes: Sequence[MlaShape], sizes: Sequence[tuple[int, int]], dtype: str
) -> list[Point]:
    """One new token a request against ``sizes``: (batch, cached tokens of each)."""
    grid = scattered([(shape, *size) for shape in shapes for size in sizes])
    return [_decode_point(device, shape, batch, length, dtype) for shape, batch, length in grid]


def _prefill_point(device: Device, shape: MlaShape, batch: int, length: int, dtype: str) -> Point:
    values = 2 * batch * length * shape.num_heads * (shape.key_dim + shape.value_dim)
    return Point(
        columns={
            **dataclasses.asdict(shape),
            "batch_size": batch,
            "seq_len": length,
            "dtype": dtype,
        },
        bytes_needed=int(DTYPE_BYTES[dtype] * values),
        prepare=functools.partial(_prepare_prefill, device, shape, batch, length, dtype),
    )


def _decode_point(device: Device, shape: MlaShape, batch: int, length: int, dtype: str) -> Point:
    queries = 2 * batch * shape.num_heads * shape.latent_dim
    values = queries + batch * length * shape.latent_dim
    return Point(
        columns={
            **dataclasses.asdict(shape),
            "batch_size": batch,
            "kv_len": length,
            "dtype": dtype,
        },
        bytes_needed=int(DTYPE_BYTES[dtype] * values),
        prepare=functools.partial(_prepare_decode, device, shape, batch, length, dtype),
    )


def _prepare_prefill(
    device: Device, shape: MlaShape, batch: int, length: int, dtype: str
) -> Prepared:
    torch = import_torch()
    kind = {"dtype": torch_dtype(dtype), "device": device.kind}
    q, k = (torch.randn(batch, shape.num_heads, length, shape.key_dim, **kind) for _ in "qk")
    v = torch.randn(batch, shape.num_heads, length, shape.value_dim, **kind)
    attention = torch.nn.functional.scaled_dot_product_attention
    return fastest(device, lambda: attention(q, k, v, is_causal=True), "device")


def _prepare_decode(
    device: Device, shape: MlaShape, batch: int, length: int, dtype: str
) -> Prepared:
    torch = import_torch()
    kind = {"dtype": torch_dtype(dtype), "device": device.kind}
    q = torch.randn(batch, shape.num_heads, shape.latent_dim, **kind)
    latent = torch.randn(batch, length, shape.latent_dim, **kind)
    return fastest(device, lambda: attend_latent(torch, shape, q, latent), "device")


def attend_latent(torch: Any, shape: MlaShape, q: Any, latent: Any) -> Any:
    """``q`` (b, heads, latent) to the cache ``latent`` (b, c, latent): (b, heads, cache rank).

    The heads stand as queries of the one key, so that the cache is read once.
    """
    key = latent[:, None]
    value = key[..., : shape.cache_rank]
    attention = torch.nn.functional.scaled_dot_product_attention
    return attention(q[:, None], key, value, scale=shape.scale)[:, 0]
