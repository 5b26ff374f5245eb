"""What a calibration leaves over by itself: its residual by the shape of a step, learned before anything is judged.

A latency model errs by so much at batch 1 and by so much at batch 256. When traffic moves from one to the other nothing
has drifted. So the reference is a plane over the octaves of a step's sizes for each model and degree, and on it what is
left in a cell of octaves, shrunk as far as noise alone explains it (empirical Bayes).
"""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrate.watch.shapes import cells
from calibrate.watch.thresholds import CLIPPED, MARGIN
from sim.steps.batch import Floats

_MAD = 1.4826  # a normal distribution's standard deviation, in median absolute deviations
_FEWEST = 8


@dataclasses.dataclass(frozen=True)
class Plane:
    """The reference of one model and degree: an intercept, three slopes by octaves, and the ``box`` seen."""

    coefficients: Floats
    box: Floats


@dataclasses.dataclass(frozen=True)
class Reference:
    """ln(measured/predicted) that is expected of a step, by what is served and the octaves of its sizes."""

    planes: dict[int, Plane]
    offsets: dict[int, float]

    def expected(self, sizes: Floats, served: NDArray[np.intp]) -> Floats:
        """What is expected of steps of these octaves (3, n); NaN for those outside of what was seen."""
        expected = np.full(len(served), np.nan)
        for number, plane in self.planes.items():
            rows = np.flatnonzero(served == number)
            if not len(rows):
                continue
            inside = within(plane.box, sizes[:, rows])
            rows = rows[inside]
            expected[rows] = plane.coefficients[0] + plane.coefficients[1:] @ sizes[:, rows]
        known = np.flatnonzero(~np.isnan(expected))
        if self.offsets and len(known):
            expected[known] += self._offsets(cells(sizes[:, known], served[known]))
        return expected

    def _offsets(self, numbers: NDArray[np.int64]) -> Floats:
        distinct, which = np.unique(numbers, return_inverse=True)
        values = np.array([self.offsets.get(int(number), 0.0) for number in distinct])
        offsets: Floats = values[which]
        return offsets

    def to_plain(self) -> dict[str, Any]:
        """The reference as JSON has it."""
        planes = {
            str(number): [plane.coefficients.tolist(), plane.box.tolist()]
            for number, plane in self.planes.items()
        }
        return {"planes": planes, "offsets": {str(k): v for k, v in self.offsets.items()}}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Reference":
        """The reference of which :meth:`to_plain` made this."""
        planes = {
            int(number): Plane(np.array(coefficients), np.array(box))
            for number, (coefficients, box) in plain["planes"].items()
        }
        return cls(planes, {int(k): float(v) for k, v in plain["offsets"].items()})


def within(box: Floats, sizes: Floats) -> NDArray[np.bool_]:
    """Which sizes (3, n) lie in a box (2, 3) of octaves, or as near to it as counts as seen."""
    low, high = box[0][:, None] - MARGIN, box[1][:, None] + MARGIN
    inside: NDArray[np.bool_] = ((sizes >= low) & (sizes <= high)).all(axis=0)
    return inside


def learn(residual: Floats, sizes: Floats, served: NDArray[np.intp]) -> Reference:
    """The reference of steps with ln(measured/predicted) ``residual`` (n,) and octaves ``sizes`` (3, n)."""
    planes: dict[int, Plane] = {}
    left = np.empty(len(residual))
    for number in np.unique(served).tolist():
        rows = np.flatnonzero(served == number)
        near = clipped(residual[rows])
        coefficients = _plane(near, sizes[:, rows])
        left[rows] = near - coefficients[0] - coefficients[1:] @ sizes[:, rows]
        box = np.stack([sizes[:, rows].min(axis=1), sizes[:, rows].max(axis=1)])
        planes[number] = Plane(coefficients, box)
    return Reference(planes, _shrunk(left, cells(sizes, served)))


def spread(values: Floats) -> float:
    """The standard deviation that the median absolute deviation suggests; that of all values where it is 0."""
    robust = _MAD * float(np.median(np.abs(values - np.median(values))))
    return robust or float(np.std(values))


def clipped(values: Floats) -> Floats:
    """The values, those far from their median as far as counts."""
    middle, most = float(np.median(values)), CLIPPED * spread(values)
    near: Floats = np.clip(values, middle - most, middle + most)
    return near


def _plane(residual: Floats, sizes: Floats) -> Floats:
    """Intercept and slopes, of sizes that vary and where there are rows enough."""
    varies = np.ptp(sizes, axis=1) > MARGIN if len(residual) >= _FEWEST else np.zeros(3, dtype=bool)
    columns = np.vstack([np.ones(len(residual)), sizes[varies]])
    found = np.linalg.lstsq(columns.T, residual, rcond=None)[0]
    coefficients = np.zeros(4)
    coefficients[0] = found[0]
    coefficients[1:][varies] = found[1:]
    return coefficients


def _shrunk(left: Floats, numbers: NDArray[np.int64]) -> dict[int, float]:
    """What is left in each cell, times the share of it that is not noise."""
    distinct, which, count = np.unique(numbers, return_inverse=True, return_counts=True)
    mean = np.bincount(which, left) / count
    noise = float(np.mean((left - mean[which]) ** 2))
    between = max(float(np.average(mean**2 - noise / count, weights=count)), 0.0)
    share = between / (between + noise / count) if between else np.zeros(len(count))
    return {int(n): float(v) for n, v in zip(distinct, mean * share, strict=True) if v}
