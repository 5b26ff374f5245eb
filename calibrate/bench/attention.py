"""Attention: PyTorch's scaled_dot_product_attention in prefill and in decode, by the fastest backend there is."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from calibrate.bench.device import Clock, Device, Run, import_torch, torch_dtype
from calibrate.bench.point import Cell, Point, Prepared, scattered
from sim.units import DTYPE_BYTES

if TYPE_CHECKING:
    import torch

_FUSED = {
    "cuda": ("FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION"),
    "cpu": ("FLASH_ATTENTION",),
}
_TRIALS = 3

Shape = tuple[int, int, int]
"""Query heads, key/value heads, head dimension."""


def prefill_points(
    device: Device, shapes: Sequence[Shape], sizes: Sequence[tuple[int, int]], dtype: str
) -> list[Point]:
    """Causal self-attention of ``sizes``: (batch, prompt length) each."""
    grid = [(shape, *size) for shape in shapes for size in sizes]
    return [
        _point(device, shape, batch, length, dtype, "seq_len")
        for shape, batch, length in scattered(grid)
    ]


def decode_points(
    device: Device, shapes: Sequence[Shape], sizes: Sequence[tuple[int, int]], dtype: str
) -> list[Point]:
    """One new token a request against ``sizes``: (batch, cached tokens of each)."""
    grid = [(shape, *size) for shape in shapes for size in sizes]
    return [
        _point(device, shape, batch, length, dtype, "kv_len")
        for shape, batch, length in scattered(grid)
    ]


def _point(
    device: Device, shape: Shape, batch: int, length: int, dtype: str, length_column: str
) -> Point:
    heads, kv_heads, head_dim = shape
    columns: dict[str, Cell] = {
        "num_heads": heads,
        "num_kv_heads": kv_heads,
        "head_dim": head_dim,
        "batch_size": batch,
    }
    columns |= {length_column: length, "dtype": dtype}
    columns |= {"kv_dtype": dtype, "tp": 1} if length_column == "kv_len" else {}
    tokens = length if length_column == "seq_len" else 1
    size = int(DTYPE_BYTES[dtype] * batch * head_dim * (2 * heads * tokens + 2 * kv_heads * length))
    prepare = functools.partial(_prepare, device, shape, batch, length, tokens, dtype)
    return Point(columns, size, prepare)


def _prepare(
    device: Device, shape: Shape, batch: int, length: int, tokens: int, dtype: str
) -> Prepared:
    torch = import_torch()
    heads, kv_heads, head_dim = shape
    kind = {"dtype": torch_dtype(dtype), "device": device.kind}
    q = torch.randn(batch, heads, tokens, head_dim, **kind)
    k, v = (torch.randn(batch, kv_heads, length, head_dim, **kind) for _ in "kv")
    if tokens == 1:
        return fastest(device, lambda: attend_decode(torch, q, k, v), "device")
    mask = causal_mask(torch, device.kind, tokens, length)
    return fastest(device, lambda: attend_prefill(torch, q, k, v, mask), "device")


def attend_prefill(
    torch: Any, q: "torch.Tensor", k: "torch.Tensor", v: "torch.Tensor", mask: Any
) -> "torch.Tensor":
    """Causal attention: ``q`` (b, h, n, d) to ``k`` and ``v`` (b, kv heads, s + n, d); ``mask`` None where s is 0."""
    attention = torch.nn.functional.scaled_dot_product_attention
    return attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=q.shape[1] != k.shape[1]
    )


def attend_decode(
    torch: Any, q: "torch.Tensor", k: "torch.Tensor", v: "torch.Tensor"
) -> "torch.Tensor":
    """One token a request: ``q`` (b, h, 1, d) to all of ``k`` and ``v`` (b, kv heads, c, d).

    The result is (b, kv heads, h / kv heads, d): the query heads that share a key/value head stand as queries of that
    head, so that the cache is read once.
    """
    batch, heads, _, head_dim = q.shape
    grouped = q.view(batch, k.shape[1], heads // k.shape[1], head_dim)
    return torch.nn.functional.scaled_dot_product_attention(grouped, k, v)


def causal_mask(torch: Any, kind: str, tokens: int, length: int) -> Any:
    """What hides later tokens where the last ``tokens`` of ``length`` are new; None where all are new."""
    if tokens == length:
        return None
    if kind == "cuda":  # stays symbolic: the fused kernels know this mask
        from torch.nn.attention.bias import causal_lower_right

        return causal_lower_right(tokens, length)
    return torch.ones(tokens, length, dtype=torch.bool).tril(length - tokens)


def fastest(device: Device, run: Run, clock: Clock) -> Prepared:
    """``run`` under the attention backend that does it in the least time, its name in the column ``backend``.

    The unfused one, which stores every score, is tried only where no other can. Raises RuntimeError if none can.
    """
    backends = import_torch().nn.attention.SDPBackend
    fused = [_under(backends, name, run) for name in _FUSED[device.kind]]
    found = _works(device, fused, clock) or _works(device, [_under(backends, "MATH", run)], clock)
    if not found:
        raise RuntimeError("no attention backend can compute this shape")
    return min(found, key=lambda timed: timed[0])[1]


def _under(backends: Any, name: str, run: Run) -> Prepared:
    from torch.nn.attention import sdpa_kernel

    def under_backend() -> object:
        with sdpa_kernel(getattr(backends, name)):
            return run()

    return Prepared(under_backend, {"backend": name.lower().removesuffix("_attention")})


def _works(device: Device, tried: Sequence[Prepared], clock: Clock) -> list[tuple[float, Prepared]]:
    found = []
    for prepared in tried:
        time_us = _trial_us(device, prepared.run, clock, _TRIALS if len(tried) > 1 else 1)
        if time_us is not None:
            found.append((time_us, prepared))
    return found


def _trial_us(device: Device, run: Run, clock: Clock, trials: int) -> float | None:
    """The least of a few times in µs; None where this backend cannot compute it."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a backend that refuses says why at length
            run()
            return min(device.times_us(run, trials, clock))
    except RuntimeError:
        device.release()
        return None
