"""The last steps of a slice, as many as a window has: what an alarm is explained by."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from sim.steps.batch import Floats


@dataclasses.dataclass(frozen=True, eq=False)
class Steps:
    """Some steps of a slice: their sums, what is served, deviation from the reference, and when they ran."""

    moments: Floats
    served: NDArray[np.intp]
    deviation: Floats
    at: Floats

    def __len__(self) -> int:
        return len(self.at)

    def take(self, rows: NDArray[np.bool_] | slice) -> "Steps":
        """Some of them."""
        return Steps(self.moments[:, rows], self.served[rows], self.deviation[rows], self.at[rows])

    def without_moments(self) -> "Steps":
        """The same steps without the sums, which take most of the memory."""
        return dataclasses.replace(self, moments=np.empty((0, len(self))))

    @classmethod
    def none(cls) -> "Steps":
        """No step."""
        nothing = np.empty(0)
        return cls(np.empty((8, 0)), np.empty(0, np.intp), nothing, nothing)

    @classmethod
    def join(cls, parts: "list[Steps]") -> "Steps":
        """One part after the other."""
        return cls(
            np.concatenate([part.moments for part in parts], axis=1),
            np.concatenate([part.served for part in parts]),
            np.concatenate([part.deviation for part in parts]),
            np.concatenate([part.at for part in parts]),
        )

    def last(self, most: int) -> "Steps":
        """The newest of them, a copy: what it was cut from can go."""
        if len(self) <= most:
            return self
        rows = np.arange(len(self) - most, len(self))
        return Steps(self.moments[:, rows], self.served[rows], self.deviation[rows], self.at[rows])
