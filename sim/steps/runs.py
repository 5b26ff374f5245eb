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
        nothing = np.empty((0, width))
        rows = np.concatenate([nothing, *steps])
        sizes = [len(step) for step in steps]
        return _without_empty(rows.T, _offsets(sizes))

    @classmethod
    def from_alternatives(cls, alternatives: Floats) -> "Runs":
        """From (j, k, n): up to j runs a step, those of no request left out."""
        per_step, width, steps = alternatives.shape
        runs = steps * per_step
        by_step = alternatives.transpose(1, 2, 0)
        values = by_step.reshape(width, runs)
        offsets = np.arange(0, runs + 1, per_step)
        return _without_empty(values, offsets)

    @classmethod
    def join(cls, parts: Sequence["Runs"]) -> "Runs":
        """The steps of all parts, one part after the other."""
        values = np.concatenate([part.values for part in parts], axis=1)
        sizes = np.concatenate([part.sizes for part in parts])
        return cls(values, _offsets(sizes))

    @property
    def sizes(self) -> NDArray[np.intp]:
        """How many runs each step has, shape (n,)."""
        return np.diff(self.offsets)

    @property
    def steps(self) -> NDArray[np.intp]:
        """The step of every run, ascending, shape (r,)."""
        sizes = self.sizes
        return np.repeat(np.arange(len(sizes)), sizes)

    def totals(self, values: Floats) -> Floats:
        """The sum of ``values`` (r,) over the runs of each step, shape (n,)."""
        count = len(self.offsets) - 1
        totals = np.bincount(self.steps, weights=values, minlength=count)
        return totals.astype(np.float64)

    def take(self, steps: Rows) -> "Runs":
        """The runs of the given steps (indices or a boolean mask)."""
        starts = self.offsets[:-1][steps]
        sizes = self.sizes[steps]
        offsets = _offsets(sizes)

        shift = starts - offsets[:-1]
        chosen = np.arange(offsets[-1]) + np.repeat(shift, sizes)
        values = np.ascontiguousarray(self.values[:, chosen])
        return Runs(values, offsets)


@dataclasses.dataclass(frozen=True, eq=False)
class Requests:
    """The requests of n steps: ``prefill`` runs are context, new tokens, count; ``decode`` runs context, count."""

    prefill: Runs
    decode: Runs

    @classmethod
    def join(cls, parts: Sequence["Requests"]) -> "Requests":
        """The steps of all parts, one part after the other."""
        prefill = Runs.join([part.prefill for part in parts])
        decode = Runs.join([part.decode for part in parts])
        return cls(prefill, decode)

    def take(self, steps: Rows) -> "Requests":
        """The requests of the given steps (indices or a boolean mask)."""
        prefill = self.prefill.take(steps)
        decode = self.decode.take(steps)
        return Requests(prefill, decode)


def _offsets(sizes: ArrayLike) -> NDArray[np.intp]:
    """Where each of consecutive parts of these sizes (n,) starts, and the end; shape (n + 1,)."""
    counts = np.asarray(sizes, dtype=np.intp)
    offsets = np.zeros(len(counts) + 1, dtype=np.intp)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def _without_empty(values: Floats, offsets: NDArray[np.intp]) -> Runs:
    kept = values[-1] > 0
    kept_before = _offsets(kept)
    filled = np.ascontiguousarray(values[:, kept])
    return Runs(filled, kept_before[offsets])
