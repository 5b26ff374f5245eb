"""Measured steps as the watch takes them in: a block of rows of any mix of nodes, engines, models and phases."""

import dataclasses

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sim.steps.batch import Floats, StepTable

LABELS = ("node", "engine", "model", "tp")
"""What ``--by`` may name."""

PHASE = "phase"
"""By which every slice is divided besides."""


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """A block of steps; every array has one entry a row.

    ``at`` is when a step ran, in seconds since 1970, or its number in its source where that does not say. ``labels``
    has a column for each of :data:`LABELS`.
    """

    table: StepTable
    measured_us: Floats
    at: Floats
    labels: pd.DataFrame

    def __len__(self) -> int:
        return len(self.measured_us)

    def take(self, rows: ArrayLike) -> "Rows":
        """Some of the rows: indices or a boolean mask."""
        chosen = np.asarray(rows)
        return Rows(
            self.table.take(chosen),
            self.measured_us[chosen],
            self.at[chosen],
            self.labels.iloc[chosen] if chosen.dtype != bool else self.labels[chosen],
        )
