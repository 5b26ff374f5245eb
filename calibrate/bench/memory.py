"""Bandwidth: copies, triads and reads far larger than the cache."""

import functools
from typing import Any

from calibrate.bench.device import Device, import_torch
from calibrate.bench.point import Point, Prepared, scattered
from sim.units import BYTES_PER_MIB

_TOUCHED = {"copy": 2, "triad": 3, "read": 1}
"""Buffers that each operation reads or writes: b ← a; a ← b + s·c; Σ a (McCalpin's STREAM, but for the read)."""

_VALUE_BYTES = 4


def memory_points(device: Device, buffer_mib: tuple[int, ...]) -> list[Point]:
    """One point for each operation and buffer size; ``bytes`` is what the operation moves."""
    points = []
    for mib in buffer_mib:
        for op, touched in _TOUCHED.items():
            size = mib * BYTES_PER_MIB
            prepare = functools.partial(_prepare, device, op, size // _VALUE_BYTES)
            points.append(Point({"op": op, "bytes": touched * size}, touched * size, prepare))
    return scattered(points)


def _prepare(device: Device, op: str, values: int) -> Prepared:
    torch = import_torch()
    a, *others = (_random(torch, values, device.kind) for _ in range(_TOUCHED[op]))
    if op == "copy":
        return Prepared(lambda: others[0].copy_(a))
    if op == "triad":
        return Prepared(lambda: torch.add(others[0], others[1], alpha=3.0, out=a))
    return Prepared(lambda: torch.sum(a))


def _random(torch: Any, values: int, kind: str) -> Any:
    return torch.rand(values, dtype=torch.float32, device=kind)
