"""The rows that a fit takes of a campaign with more than it needs."""

import numpy as np

from calibrate.fitting.labels import SLICE
from calibrate.fitting.objective import Dataset
from calibrate.fitting.thresholds import MOST_ROWS, SHARE_OF_SLICES


def draw_rows(data: Dataset, seed: int, most: int = MOST_ROWS) -> tuple[Dataset, list[str]]:
    """At most so many rows, drawn evenly without replacement, small slices whole; and what is said of it."""
    rows = len(data)
    if rows <= most:
        return data, []
    slices = data.frame.groupby(SLICE, sort=False).ngroup().to_numpy()
    sizes = np.bincount(slices)
    share = SHARE_OF_SLICES / (len(sizes) * sizes)
    keys = np.random.default_rng(seed).exponential(size=rows)
    keys /= np.maximum(share * rows, 1.0)[slices]
    keys[(share * most >= 1.0)[slices]] = 0.0
    drawn = np.sort(np.argpartition(keys, most)[:most])
    note = (
        f"Fitted to {most:,} of {rows:,} rows, drawn at random (--seed {seed}), small slices as a whole: all errors, "
        "intervals, plots and predictions are of these. Every row was checked, and replicates compared."
    )
    return data.take(drawn), [note]
