"""Runs of like requests of many steps, kept flat, for models that read more of a step than its sums."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.intp] | NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, eq=False)
class Runs:
    """Runs of n steps: ``values`` (k, r) has a column a run and its count in the last row.

    Those of step i stand at ``offsets[i]:offsets[i + 1]`` of ``offsets`` (n + 1,).
    """

    values: Floats
    offsets: NDArray[np.intp]

    @classmethod
    def from_steps(cls, steps: Sequence[Floats], width: int) -> "Runs":
        """Put together one (r, width) array a step; runs of no request are left out."""
        values = np.concatenate([np.empty((0, width)), *steps]).T
        return _without_empty(values, _offsets([len(step) for step in steps]))

    @classmethod
    def from_alternatives(cls, alternatives: Floats) -> "Runs":
        """From (j, k, n): up to j runs a step, those of no request left out."""
        per_step, width, steps = alternatives.shape
        values = alternatives.transpose(1, 2, 0).reshape(width, steps * per_step)
        return _without_empty(values, np.arange(0, steps * per_step + 1, per_step))

    @classmethod
    def join(cls, parts: Sequence["Runs"]) -> "Runs":
        """The steps of all parts, one part after the other."""
        sizes = np.concatenate([np.diff(part.offsets) for part in parts])
        return cls(np.concatenate([part.values for part in parts], axis=1), _offsets(sizes))

    @property
    def steps(self) -> NDArray[np.intp]:
        """The step of every run, ascending, shape (r,)."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def totals(self, values: Floats) -> Floats:
        """The sum of ``values`` (r,) over the runs of each step, shape (n,)."""
        totals: Floats = np.bincount(
            self.steps, weights=values, minlength=len(self.offsets) - 1
        ).astype(np.float64)
        return totals

    def take(self, steps: Rows) -> "Runs":
        """The runs of the given steps (indices or a boolean mask)."""
        starts = self.offsets[:-1][steps]
        sizes = np.diff(self.offsets)[steps]
        offsets = _offsets(sizes)
        chosen = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], sizes)
        return Runs(np.ascontiguousarray(self.values[:, chosen]), offsets)


@dataclasses.dataclass(frozen=True, eq=False)
class Requests:
    """The requests of n steps: ``prefill`` runs are context, new tokens, count; ``decode`` runs context, count."""

    prefill: Runs
    decode: Runs

    @classmethod
    def join(cls, parts: Sequence["Requests"]) -> "Requests":
        """The steps of all parts, one part after the other."""
        return cls(
            Runs.join([part.prefill for part in parts]), Runs.join([part.decode for part in parts])
        )

    def take(self, steps: Rows) -> "Requests":
        """The requests of the given steps (indices or a boolean mask)."""
        return Requests(self.prefill.take(steps), self.decode.take(steps))


def _offsets(sizes: ArrayLike) -> NDArray[np.intp]:
    ends: NDArray[np.intp] = np.cumsum(np.asarray(sizes, dtype=np.intp))
    return np.concatenate([np.zeros(1, dtype=np.intp), ends])


def _without_empty(values: Floats, offsets: NDArray[np.intp]) -> Runs:
    kept = values[-1] > 0
    return Runs(np.ascontiguousarray(values[:, kept]), _offsets(kept)[offsets])
