"""Measured latencies on a grid, interpolated in the logs of coordinates and latency."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from sim.steps.batch import Floats


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
            i = max(0, min(int(np.searchsorted(axis, x, side="right")) - 1, len(axis) - 2))
            lower.append(i)
            share.append(
                float(np.log(x / axis[i]) / np.log(axis[i + 1] / axis[i])) if x > axis[i] else 0.0
            )
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
