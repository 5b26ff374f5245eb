"""A thinned part of aiconfigurator-core's kernels, as kernel tables: 16-bit weights and caches, heads of 128.

Its all-reduce sizes are elements of 16 bits, its decode steps keys besides the new one.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from calibrate.importers.aiconfigurator_tables import KernelTables, Table
from calibrate.importers.kernel_grid import Grid
from sim.units import US_PER_MS

_HEAD_DIM = 128
_TPS = (1, 2, 4, 8)
_HEADS = ((32, 8), (40, 8), (48, 8), (64, 8))
_GEMM_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_GEMM_SIZES = (1024, 2048, 4096, 5120, 8192, 16384, 51200, 65536)
_PREFILL_BATCHES = (1, 8)
_PREFILL_LENGTHS = tuple(2**k for k in range(7, 15))
_DECODE_BATCHES = tuple(2**k for k in range(9))
_DECODE_STEPS = tuple(2**k - 1 for k in range(8, 17))
_BYTES = 2


def kernel_tables(kernels: KernelTables) -> dict[str, pd.DataFrame]:
    """``gemm``, ``attention_prefill``, ``attention_decode`` and ``allreduce`` at a part of the measured points.

    Decode attention at a tp is that of one rank, with its share of the heads.
    """
    gemm = kernels.gemm.grid("bfloat16")
    sizes = {"m": _GEMM_ROWS, "n": _GEMM_SIZES, "k": _GEMM_SIZES}
    tables = {
        "gemm": _measured(gemm, sizes) if gemm else pd.DataFrame(),
        "attention_prefill": _prefill(kernels),
        "attention_decode": _decode(kernels),
        "allreduce": _all_reduce(kernels),
    }
    return {name: frame for name, frame in tables.items() if len(frame)}


def _prefill(tables: KernelTables) -> pd.DataFrame:
    points = {"batch_size": _PREFILL_BATCHES, "seq_len": _PREFILL_LENGTHS}
    grids = [(pair, _grid(tables.prefill_attention, pair)) for pair in _HEADS]
    return _joined([_with_heads(_measured(grid, points), pair) for pair, grid in grids if grid])


def _decode(tables: KernelTables) -> pd.DataFrame:
    points = {"batch_size": _DECODE_BATCHES, "kv_len": _DECODE_STEPS}
    parts = []
    for (heads, kv_heads), tp in itertools.product(_HEADS, _TPS):
        grid = _grid(tables.decode_attention, (heads // tp, max(kv_heads // tp, 1)))
        if grid is not None:
            rows = _measured(grid, points)
            rows = rows.assign(kv_len=rows["kv_len"] + 1, tp=tp, kv_dtype="bf16")
            parts.append(_with_heads(rows, (heads, kv_heads)))
    return _joined(parts)


def _grid(table: Table, pair: tuple[int, int]) -> Grid | None:
    return table.grid(*pair, _HEAD_DIM, 0, "bfloat16")


def _all_reduce(tables: KernelTables) -> pd.DataFrame:
    grids = [(tp, tables.all_reduce.grid(tp)) for tp in _TPS[1:]]
    parts = []
    for tp, grid in grids:
        if grid is not None:
            rows = _measured(grid, {"elements": grid.axes[0].astype(int).tolist()})
            rows = rows.assign(bytes=_BYTES * rows["elements"], tp=tp)
            parts.append(rows[["tp", "bytes", "dtype", "latency_us"]])
    return _joined(parts)


def _measured(grid: Grid, points: Mapping[str, Sequence[int]]) -> pd.DataFrame:
    """The grid's own points among the product of some coordinates."""
    axes = [set(axis.tolist()) for axis in grid.axes]
    wanted = (
        p
        for p in itertools.product(*points.values())
        if all(x in a for x, a in zip(p, axes, strict=True))
    )
    places = (
        (p, tuple(np.searchsorted(a, x) for a, x in zip(grid.axes, p, strict=True))) for p in wanted
    )
    rows = [
        (*point, "bf16", np.round(np.exp(grid.log_latency[place]) * US_PER_MS, 2))
        for point, place in places
    ]
    return pd.DataFrame(rows, columns=[*points, "dtype", "latency_us"]).dropna(ignore_index=True)


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(parts) if parts else pd.DataFrame()


def _with_heads(rows: pd.DataFrame, pair: tuple[int, int]) -> pd.DataFrame:
    return rows.assign(num_heads=pair[0], num_kv_heads=pair[1], head_dim=_HEAD_DIM)
