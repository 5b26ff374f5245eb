"""The kernel latencies in aiconfigurator-core: grids to interpolate in, and a thinned part of them as kernel tables.

Its all-reduce sizes are elements of 16 bits, its decode steps keys besides the new one.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from sim.steps.batch import Floats
from sim.units import US_PER_MS

HEAD_DIM = 128
_TPS = (1, 2, 4, 8)
_HEADS = ((32, 8), (40, 8), (48, 8), (64, 8))
_GEMM_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_GEMM_SIZES = (1024, 2048, 4096, 5120, 8192, 16384, 51200, 65536)
_PREFILL_BATCHES = (1, 8)
_PREFILL_LENGTHS = tuple(2**k for k in range(7, 15))
_DECODE_BATCHES = tuple(2**k for k in range(9))
_DECODE_STEPS = tuple(2**k - 1 for k in range(8, 17))
_BYTES = 2


@dataclasses.dataclass(frozen=True)
class Grid:
    """Latency in ms on a ragged grid; ``axes`` are sorted coordinates, a hole in ``log_latency`` is NaN."""

    axes: tuple[Floats, ...]
    log_latency: Floats

    @classmethod
    def from_rows(cls, rows: pd.DataFrame, keys: Sequence[str]) -> "Grid":
        """Repeated points are averaged."""
        means = rows.groupby(list(keys))["latency"].mean()
        axes = tuple(np.array(sorted(rows[key].unique()), dtype=np.float64) for key in keys)
        values = np.full([len(axis) for axis in axes], np.nan)
        places = [
            np.searchsorted(axis, means.index.get_level_values(key))
            for axis, key in zip(axes, keys, strict=True)
        ]
        values[tuple(places)] = np.log(means.to_numpy())
        return cls(axes, values)

    def latency_ms(self, *point: float) -> float:
        """Multilinear in the logs of coordinates and latency; NaN outside the grid or beside a hole."""
        lower, share = [], []
        for axis, x in zip(self.axes, point, strict=True):
            if not axis[0] <= x <= axis[-1]:
                return float("nan")
            i = min(int(np.searchsorted(axis, x, side="right")) - 1, len(axis) - 2)
            lower.append(i)
            share.append(float(np.log(x / axis[i]) / np.log(axis[i + 1] / axis[i])))
        total = 0.0
        for corner in itertools.product((0, 1), repeat=len(lower)):
            weight = float(
                np.prod([s if up else 1.0 - s for s, up in zip(share, corner, strict=True)])
            )
            if weight > 0.0:
                total += weight * float(
                    self.log_latency[tuple(i + up for i, up in zip(lower, corner, strict=True))]
                )
        return float(np.exp(total))


@dataclasses.dataclass(frozen=True)
class Kernels:
    """The measured kernels of one GPU, 16-bit weights and caches; grids by (heads, KV heads) or by GPU count."""

    gemm: Grid
    prefill_attention: dict[tuple[int, int], Grid]
    decode_attention: dict[tuple[int, int], Grid]
    all_reduce: dict[int, Grid]


def kernel_tables(kernels: Kernels) -> dict[str, pd.DataFrame]:
    """``gemm``, ``attention_prefill``, ``attention_decode`` and ``allreduce`` at a part of the measured points.

    Decode attention at a tp is that of one rank, with its share of the heads.
    """
    tables = {
        "gemm": _measured(kernels.gemm, {"m": _GEMM_ROWS, "n": _GEMM_SIZES, "k": _GEMM_SIZES}),
        "attention_prefill": _prefill(kernels),
        "attention_decode": _decode(kernels),
        "allreduce": _all_reduce(kernels),
    }
    return {name: frame for name, frame in tables.items() if len(frame)}


def _prefill(kernels: Kernels) -> pd.DataFrame:
    points = {"batch_size": _PREFILL_BATCHES, "seq_len": _PREFILL_LENGTHS}
    return _joined(
        [
            _with_heads(_measured(kernels.prefill_attention[pair], points), pair)
            for pair in _HEADS
            if pair in kernels.prefill_attention
        ]
    )


def _decode(kernels: Kernels) -> pd.DataFrame:
    points = {"batch_size": _DECODE_BATCHES, "kv_len": _DECODE_STEPS}
    parts = []
    for (heads, kv_heads), tp in itertools.product(_HEADS, _TPS):
        rank = heads // tp, max(kv_heads // tp, 1)
        if rank in kernels.decode_attention:
            rows = _measured(kernels.decode_attention[rank], points)
            rows = rows.assign(kv_len=rows["kv_len"] + 1, tp=tp, kv_dtype="bf16")
            parts.append(_with_heads(rows, (heads, kv_heads)))
    return _joined(parts)


def _all_reduce(kernels: Kernels) -> pd.DataFrame:
    parts = []
    for tp, grid in kernels.all_reduce.items():
        rows = _measured(grid, {"elements": grid.axes[0].astype(int).tolist()})
        parts.append(
            rows.assign(bytes=_BYTES * rows["elements"], tp=tp)[
                ["tp", "bytes", "dtype", "latency_us"]
            ]
        )
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
    return rows.assign(num_heads=pair[0], num_kv_heads=pair[1], head_dim=HEAD_DIM)
