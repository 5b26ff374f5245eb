"""Measured MFU over one size or over two, and the two ways to read between the points.

A look-up that ends below :data:`USABLE_MFU` (a benchmark too short to time, printed as 0.000) takes the nearest
point that does not.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from sim.steps.runs import Floats

Indices = NDArray[np.intp]
Sizes = tuple[Floats, ...]
"""Points by their coordinates: one array (n,) for each."""

USABLE_MFU = 1e-4
_BLOCK_DISTANCES = 2**17  # distances computed at once stay in a core's cache


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """MFU over a size (GEMM rows or prompt length); the points (p,) in file order, each size once."""

    size: Floats
    mfu: Floats
    _ascending: Indices

    @classmethod
    def from_points(cls, size: Floats, mfu: Floats) -> "Curve":
        """From the points of a file, at least one of them usable."""
        ascending = np.argsort(size)
        return cls(size, mfu, ascending)

    def nearest(self, size: Floats) -> Floats:
        """MFU of the largest measured size that is not above each of ``size`` (n,), else of the smallest."""
        sizes = self.size[self._ascending]
        below = _last_below(sizes, size)
        below = np.maximum(below, 0)
        point = self._ascending[below]
        return self._usable(self.mfu[point], size)

    def interpolated(self, size: Floats) -> Floats:
        """MFU linear between the measured sizes and constant beyond them, at each of ``size`` (n,)."""
        sizes = self.size[self._ascending]
        mfus = self.mfu[self._ascending]
        mfu = np.interp(size, sizes, mfus)
        return self._usable(mfu, size)

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
    _point: Indices  # (batches, contexts), −1 where there is none

    @classmethod
    def from_points(cls, batch: Floats, context: Floats, mfu: Floats) -> "Surface":
        """From the points of a file, at least one of them usable."""
        batches, row = np.unique(batch, return_inverse=True)
        contexts, column = np.unique(context, return_inverse=True)
        shape = (len(batches), len(contexts))
        point = np.full(shape, -1)
        point[row, column] = np.arange(len(mfu))
        return cls(batch, context, mfu, batches, contexts, point)

    @property
    def missing(self) -> int:
        """Points of the grid that were not measured."""
        absent = self._point < 0
        return int(absent.sum())

    def nearest(self, batch: Floats, context: Floats) -> Floats:
        """MFU of the nearest point (Euclidean) not above in either size, else of the nearest of all; shape (n,)."""
        row = _last_below(self._batches, batch)
        column = _last_below(self._contexts, context)
        outside = (row < 0) | (column < 0)

        # The corner below, where measured, is nearer than every other point that is not above.
        corner = self._point[row, column]
        point = np.where(outside, -1, corner)

        ragged = np.flatnonzero(point < 0)
        wanted = (batch[ragged], context[ragged])
        points = (self.batch, self.context)
        point[ragged] = closest(wanted, points, prefer_below=True)

        return self._usable(self.mfu[point], batch, context)

    def interpolated(self, batch: Floats, context: Floats) -> Floats:
        """MFU bilinear between the measured sizes, clamped beyond; a missing corner counts as 0; shape (n,)."""
        low_row, high_row, up = _cell(self._batches, batch)
        low_column, high_column, right = _cell(self._contexts, context)
        left = 1 - right
        down = 1 - up

        absent = self._point < 0
        grid = np.where(absent, 0.0, self.mfu[self._point])
        lower = grid[low_row, low_column] * left + grid[low_row, high_column] * right
        upper = grid[high_row, low_column] * left + grid[high_row, high_column] * right
        mfu = lower * down + upper * up

        return self._usable(mfu, batch, context)

    def _usable(self, mfu: Floats, batch: Floats, context: Floats) -> Floats:
        wanted = (batch, context)
        points = (self.batch, self.context)
        return _replace_unusable(mfu, wanted, points, self.mfu)


def closest(wanted: Sizes, points: Sizes, *, prefer_below: bool = False) -> Indices:
    """Index of the nearest point (Euclidean) to each of the wanted (n,), the first of equals.

    ``prefer_below`` passes over the points that are above the wanted one in any coordinate, where there are others.
    """
    count = len(wanted[0])
    nearest = np.empty(count, dtype=np.intp)
    block_rows = max(1, _BLOCK_DISTANCES // len(points[0]))
    for start in range(0, count, block_rows):
        block = slice(start, start + block_rows)
        part = tuple(coordinate[block] for coordinate in wanted)
        nearest[block] = _closest_in_block(part, points, prefer_below)
    return nearest


def _closest_in_block(wanted: Sizes, points: Sizes, prefer_below: bool) -> Indices:
    """:func:`closest` by all distances at once, (points, wanted)."""
    pairs = zip(wanted, points, strict=True)
    apart = np.stack([size - measured[:, None] for size, measured in pairs])
    squares = apart**2
    distance = squares.sum(axis=0)

    if prefer_below:
        above = (apart < 0).any(axis=0)
        none_below = above.all(axis=0)
        distance[above & ~none_below] = np.inf

    nearest: Indices = distance.argmin(axis=0)
    return nearest


def _replace_unusable(mfu: Floats, wanted: Sizes, points: Sizes, measured: Floats) -> Floats:
    """``mfu`` (n,) with the nearest usable one of the ``measured`` (p,) wherever it is too small."""
    bad = np.flatnonzero(mfu < USABLE_MFU)
    if not len(bad):
        return mfu

    usable = measured >= USABLE_MFU
    bad_wanted = tuple(size[bad] for size in wanted)
    usable_points = tuple(size[usable] for size in points)
    nearest = closest(bad_wanted, usable_points)

    usable_mfu = measured[usable]
    mfu[bad] = usable_mfu[nearest]
    return mfu


def _last_below(grid: Floats, wanted: Floats) -> Indices:
    """The last line of an ascending grid that is not above each wanted value (n,), −1 where all are."""
    after: Indices = np.searchsorted(grid, wanted, side="right")
    return after - 1


def _cell(grid: Floats, wanted: Floats) -> tuple[Indices, Indices, Floats]:
    """The grid lines on both sides of each wanted value, and how far it stands from the lower to the upper one."""
    last = len(grid) - 1
    low = _last_below(grid, wanted)
    low = np.clip(low, 0, max(last - 1, 0))
    high = np.minimum(low + 1, last)

    gap = grid[high] - grid[low]
    width = np.where(high > low, gap, 1.0)
    share = (wanted - grid[low]) / width
    most = float(len(grid) > 1)
    return low, high, np.clip(share, 0.0, most)
