"""Matrix products: those of models at each tensor-parallel degree, and a grid of square ones."""

import functools
from collections.abc import Sequence

from calibrate.bench.device import Device, import_torch, torch_dtype
from calibrate.bench.point import Point, Prepared, scattered
from sim.architecture import Architecture
from sim.units import DTYPE_BYTES


def gemm_points(
    device: Device,
    architectures: Sequence[Architecture],
    tps: Sequence[int],
    tokens: Sequence[int],
    squares: Sequence[int],
    dtype: str,
) -> list[Point]:
    """Every matrix (n, k) of the models with every number of tokens m, and m = n = k of ``squares``."""
    matrices = dict.fromkeys(
        matrix for a in architectures for tp in tps for matrix in model_matrices(a, tp)
    )
    shapes = [
        *((m, n, k) for n, k in matrices for m in tokens),
        *((size, size, size) for size in squares),
    ]
    return [_point(device, *shape, dtype) for shape in scattered(list(dict.fromkeys(shapes)))]


def model_matrices(arch: Architecture, tp: int) -> tuple[tuple[int, int], ...]:
    """(n, k) of one GPU's part: queries, keys and values; attention output; gate and up; down; output head."""
    return (*arch.layer_matrices(tp), (arch.vocab_size // tp, arch.hidden_size))


def _point(device: Device, m: int, n: int, k: int, dtype: str) -> Point:
    size = int(DTYPE_BYTES[dtype] * (m * k + n * k + m * n))
    return Point(
        {"m": m, "n": n, "k": k, "dtype": dtype},
        size,
        functools.partial(_prepare, device, m, n, k, dtype),
    )


def _prepare(device: Device, m: int, n: int, k: int, dtype: str) -> Prepared:
    torch = import_torch()
    kind = {"dtype": torch_dtype(dtype), "device": device.kind}
    x = torch.randn(m, k, **kind)
    weight = torch.randn(n, k, **kind)
    return Prepared(lambda: torch.nn.functional.linear(x, weight))
