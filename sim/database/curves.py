"""Measured MFU over one size or over two, and the two ways to read between the points.

A look-up that ends below :data:`USABLE_MFU` (a benchmark too short to time, printed as 0.000) takes the nearest
point that does not.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from sim.steps.runs import Floats

USABLE_MFU = 1e-4
_BLOCK_DISTANCES = 2**17  # distances computed at once stay in a core's cache


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """MFU over a size (GEMM rows or prompt length); the points (p,) in file order, each size once."""

    size: Floats
    mfu: Floats
    _ascending: NDArray[np.intp]

    @classmethod
    def from_points(cls, size: Floats, mfu: Floats) -> "Curve":
        """From the points of a file, at least one of them usable."""
        return cls(size, mfu, np.argsort(size))

    def nearest(self, size: Floats) -> Floats:
        """MFU of the largest measured size that is not above each of ``size`` (n,), else of the smallest."""
        sizes = self.size[self._ascending]
        below = np.maximum(np.searchsorted(sizes, size, side="right") - 1, 0)
        return self._usable(self.mfu[self._ascending[below]], size)

    def interpolated(self, size: Floats) -> Floats:
        """MFU linear between the measured sizes and constant beyond them, at each of ``size`` (n,)."""
        return self._usable(
            np.interp(size, self.size[self._ascending], self.mfu[self._ascending]), size
        )

    def _usable(self, mfu: Floats, size: Floats) -> Floats:
        return _replace_unusable(mfu, (size,), (self.size,), self.mfu)


@dataclasses.dataclass(frozen=True, eq=False)
class Surface:
    """MFU of decode attention over batch size and context length; the points (p,) in file order, each pair once.

    The pairs lie on a grid of which any part may be missing.
    """

    batch: Floats
    context: Floats
    mfu: Floats
    _batches: Floats  # ascending
    _contexts: Floats  # ascending
    _point: NDArray[np.intp]  # (batches, contexts), −1 where there is none

    @classmethod
    def from_points(cls, batch: Floats, context: Floats, mfu: Floats) -> "Surface":
        """From the points of a file, at least one of them usable."""
        batches, row = np.unique(batch, return_inverse=True)
        contexts, column = np.unique(context, return_inverse=True)
        point = np.full((len(batches), len(contexts)), -1)
        point[row, column] = np.arange(len(mfu))
        return cls(batch, context, mfu, batches, contexts, point)

    @property
    def missing(self) -> int:
        """Points of the grid that were not measured."""
        return int((self._point < 0).sum())

    def nearest(self, batch: Floats, context: Floats) -> Floats:
        """MFU of the nearest point (Euclidean) not above in either size, else of the nearest of all; shape (n,)."""
        row = np.searchsorted(self._batches, batch, side="right") - 1
        column = np.searchsorted(self._contexts, context, side="right") - 1
        # The corner below, where measured, is nearer than every other point that is not above.
        point = np.where((row < 0) | (column < 0), -1, self._point[row, column])
        ragged = np.flatnonzero(point < 0)
        wanted = (batch[ragged], context[ragged])
        point[ragged] = closest(wanted, (self.batch, self.context), prefer_below=True)
        return self._usable(self.mfu[point], batch, context)

    def interpolated(self, batch: Floats, context: Floats) -> Floats:
        """MFU bilinear between the measured sizes, clamped beyond; a missing corner counts as 0; shape (n,)."""
        low_row, high_row, up = _cell(self._batches, batch)
        low_column, high_column, right = _cell(self._contexts, context)
        grid = np.where(self._point < 0, 0.0, self.mfu[self._point])
        lower = grid[low_row, low_column] * (1 - right) + grid[low_row, high_column] * right
        upper = grid[high_row, low_column] * (1 - right) + grid[high_row, high_column] * right
        return self._usable(lower * (1 - up) + upper * up, batch, context)

    def _usable(self, mfu: Floats, batch: Floats, context: Floats) -> Floats:
        return _replace_unusable(mfu, (batch, context), (self.batch, self.context), self.mfu)


def closest(
    wanted: tuple[Floats, ...], points: tuple[Floats, ...], *, prefer_below: bool = False
) -> NDArray[np.intp]:
    """Index of the nearest point (Euclidean) to each of the wanted (n,), the first of equals.

    ``wanted`` and ``points`` have one array for each coordinate. ``prefer_below`` passes over the points that are above
    the wanted one in any coordinate, where there are others.
    """
    found = np.empty(len(wanted[0]), dtype=np.intp)
    rows = max(1, _BLOCK_DISTANCES // len(points[0]))
    for start in range(0, len(found), rows):
        block = slice(start, start + rows)
        apart = np.stack([w[block] - p[:, None] for w, p in zip(wanted, points, strict=True)])
        distance = (apart**2).sum(axis=0)
        if prefer_below:
            above = (apart < 0).any(axis=0)
            distance[above & ~above.all(axis=0)] = np.inf
        found[block] = distance.argmin(axis=0)
    return found


def _replace_unusable(
    mfu: Floats, wanted: tuple[Floats, ...], points: tuple[Floats, ...], measured: Floats
) -> Floats:
    bad = np.flatnonzero(mfu < USABLE_MFU)
    if len(bad):
        usable = measured >= USABLE_MFU
        nearest = closest(tuple(w[bad] for w in wanted), tuple(p[usable] for p in points))
        mfu[bad] = measured[usable][nearest]
    return mfu


def _cell(grid: Floats, wanted: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """The grid lines on both sides of each wanted value, and how far it stands from the lower to the upper one."""
    low = np.clip(np.searchsorted(grid, wanted, side="right") - 1, 0, max(len(grid) - 2, 0))
    high = np.minimum(low + 1, len(grid) - 1)
    width = np.where(high > low, grid[high] - grid[low], 1.0)
    return low, high, np.clip((wanted - grid[low]) / width, 0.0, float(len(grid) > 1))
