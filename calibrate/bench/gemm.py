"""Matrix products: those of models at each tensor-parallel degree, and a grid of square ones."""

import functools
import itertools
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
    matrices: list[tuple[int, int]] = []
    for arch, tp in itertools.product(architectures, tps):
        matrices += model_matrices(arch, tp)

    shapes = [(m, n, k) for n, k in dict.fromkeys(matrices) for m in tokens]
    shapes += [(size, size, size) for size in squares]
    distinct = list(dict.fromkeys(shapes))
    return [_point(device, *shape, dtype) for shape in scattered(distinct)]


def model_matrices(arch: Architecture, tp: int) -> tuple[tuple[int, int], ...]:
    """(n, k) of one GPU's part: queries, keys and values; attention output; gate and up; down; output head."""
    head = (arch.vocab_size // tp, arch.hidden_size)
    return (*arch.layer_matrices(tp), head)


def _point(device: Device, m: int, n: int, k: int, dtype: str) -> Point:
    values = m * k + n * k + m * n
    return Point(
        columns={
            "m": m,
            "n": n,
            "k": k,
            "dtype": dtype,
        },
        bytes_needed=int(DTYPE_BYTES[dtype] * values),
        prepare=functools.partial(_prepare, device, m, n, k, dtype),
    )


def _prepare(device: Device, m: int, n: int, k: int, dtype: str) -> Prepared:
    torch = import_torch()
    kind = {"dtype": torch_dtype(dtype), "device": device.kind}
    x = torch.randn(m, k, **kind)
    weight = torch.randn(n, k, **kind)
    return Prepared(lambda: torch.nn.functional.linear(x, weight))
