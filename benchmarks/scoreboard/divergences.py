"""What the runs that are furthest off have in common."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.scoreboard.servers import Server
from benchmarks.scoreboard.treatments import MEANS
from sim.steps.batch import Floats

_LARGEST = 0.1  # share of the rows, those furthest off, whose common traits are told
_OFTEN = 2.0  # how many times as often a trait is among them as among all
_FEWEST = 5  # of them that share a trait


def divergences(held: Sequence[tuple[Server, Floats | None]]) -> list[dict[str, Any]]:
    """What the tenth of the runs furthest off have in common, more often than others."""
    frames = []
    for one, figures in held:
        if figures is not None:
            points = one.rows.points
            off = np.nanmean(np.abs(np.log(figures / points.measured_ms))[:, MEANS], axis=1)
            loads = [str(point.workload.load) for point in points.points]
            frames.append(points.frame.assign(gpu=one.gpu, off=off, clients=loads))
    rows = pd.concat(frames, ignore_index=True)
    far = rows[rows["off"] >= rows["off"].quantile(1.0 - _LARGEST)]
    told = []
    for trait in ("model", "engine", "gpu", "tp", "dtype", "clients"):
        counts = far[trait].astype(str).value_counts()
        shares = rows[trait].astype(str).value_counts(normalize=True)
        for value, count in counts.items():
            often = count / len(far) / shares[value]
            if value and count >= _FEWEST and often >= _OFTEN:
                told.append(
                    {"trait": trait, "value": str(value), "rows": int(count), "times": float(often)}
                )
    return sorted(told, key=lambda one: -one["times"])
