"""Bandwidth: copies, triads and reads far larger than the cache."""

import functools
import itertools

from calibrate.bench.device import Device, import_torch
from calibrate.bench.point import Point, Prepared, scattered
from sim.units import BYTES_PER_MIB

_TOUCHED = {"copy": 2, "triad": 3, "read": 1}
"""Buffers that each operation reads or writes: b ← a; a ← b + s·c; Σ a (McCalpin's STREAM, but for the read)."""

_VALUE_BYTES = 4


def memory_points(device: Device, buffer_mib: tuple[int, ...]) -> list[Point]:
    """One point for each operation and buffer size; ``bytes`` is what the operation moves."""
    points = []
    for mib, op in itertools.product(buffer_mib, _TOUCHED):
        buffer_bytes = mib * BYTES_PER_MIB
        values = buffer_bytes // _VALUE_BYTES
        moved_bytes = _TOUCHED[op] * buffer_bytes
        points.append(
            Point(
                columns={"op": op, "bytes": moved_bytes},
                bytes_needed=moved_bytes,
                prepare=functools.partial(_prepare, device, op, values),
            )
        )
    return scattered(points)


def _prepare(device: Device, op: str, values: int) -> Prepared:
    torch = import_torch()
    kind = {"dtype": torch.float32, "device": device.kind}
    buffers = [torch.rand(values, **kind) for _ in range(_TOUCHED[op])]

    if op == "copy":
        a, b = buffers
        return Prepared(lambda: b.copy_(a))
    if op == "triad":
        a, b, c = buffers
        return Prepared(lambda: torch.add(b, c, alpha=3.0, out=a))
    (a,) = buffers
    return Prepared(lambda: torch.sum(a))
