"""What a fit to serving results minimises: log residuals of TTFT, ITL and E2E, balanced by metric, and of steps."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.objective import Loss, Objective, weighted_loss
from calibrate.parameters import PARAMETERS
from calibrate.serving_points import FIGURES, METRICS, ServingPoints
from calibrate.solver import Problem
from sim.batch import Floats
from sim.hardware import Hardware

STEP = 0.05  # of a parameter, in finite differences: schedules jump, so that a small step would see noise

_TAIL = {"p99": 4.0}

Figures = Callable[[Hardware], Floats]
"""Figures in ms of every load point under a configuration, shape (n, 12)."""


@dataclasses.dataclass(frozen=True, eq=False)
class ServingData:
    """Load points ready to be compared with predictions.

    ``sigma`` (n, 12) is the relative spread expected of a figure and ``weight`` (n, 12) balances metrics, then models
    and TP within each (mean 1 over the figures that are known, 0 elsewhere).
    """

    points: ServingPoints
    sigma: Floats
    weight: Floats

    def take(self, rows: NDArray[np.bool_]) -> "ServingData":
        """The data of some points, weights balanced again."""
        points = self.points.take(rows)
        return ServingData(points, self.sigma[rows], balance(points))


def expected_spread(points: ServingPoints, floor: float) -> Floats:
    """The relative error expected of the model itself, shape (n, 12): ``floor``, and more in the tail.

    A 99th percentile is made by a few requests: those that wait while an engine compiles or warms up, say.
    """
    return np.broadcast_to([floor * _TAIL.get(figure[1], 1.0) for figure in FIGURES], points.measured_ms.shape)


def balance(points: ServingPoints) -> Floats:
    """Weights (n, 12): every metric counts the same, and in each every model and TP; 0 where nothing was measured."""
    known = ~np.isnan(points.measured_ms)
    slices = points.frame.groupby(["model", "tp", "engine", "dtype"], sort=False).ngroup().to_numpy()
    weight = np.zeros(known.shape)
    for metric in METRICS:
        columns = np.array([figure[0] == metric for figure in FIGURES])
        counts = pd.Series(known[:, columns].sum(axis=1)).groupby(slices).transform("sum").to_numpy(dtype=np.float64)
        share = known * columns / np.maximum(counts, 1.0)[:, None]
        weight += share / max(share.sum(), np.finfo(float).tiny)
    scaled: Floats = weight * (known.sum() / max(weight.sum(), np.finfo(float).tiny))
    return scaled


@dataclasses.dataclass(frozen=True, eq=False)
class ServingObjective:
    """Residuals of load points under some way to compute figures, and of steps beside them where there are any.

    Figures that ``figures`` leaves NaN do not count. Parameters in ``apart`` hold their values for the steps: steps
    composed of kernels say nothing of what an engine adds.
    """

    data: ServingData
    figures: Figures
    hardware: Hardware
    steps: Problem | None = None
    apart: frozenset[str] = frozenset()
    _memo: dict[tuple[float, ...], Floats] = dataclasses.field(default_factory=dict, repr=False)

    def logs(self, values: Mapping[str, float]) -> Floats:
        """ln(predicted/measured), shape (n, 12), NaN where either is unknown."""
        key = tuple(values.values())
        if key not in self._memo:
            if len(self._memo) > len(values) + 1:
                self._memo.clear()
            predicted = self.figures(self.hardware.with_values(values))
            self._memo[key] = np.log(predicted / self.data.points.measured_ms)
        return self._memo[key]

    def residuals(self, values: Mapping[str, float]) -> Floats:
        """(m + steps,): ln(predicted/measured)/σ of the figures, then of the steps."""
        return np.concatenate([self._counting(self.logs(values) / self.data.sigma), self._step_residuals(values)])

    def jacobian(self, values: Mapping[str, float]) -> Floats:
        """∂residual/∂value, shape (m + steps, k): forward differences of the figures, closed form of the steps."""
        base = self.logs(values)
        columns = []
        for name, value in values.items():
            moved = stepped(name, value)
            shifted = self.logs({**values, name: moved})
            columns.append(self._counting((shifted - base) / self.data.sigma) / (moved - value))
        return np.vstack([np.column_stack(columns), self._step_jacobian(values)])

    def loss(self, name: str) -> Loss:
        """The robust loss over all residuals, by its name."""
        weight = self._counting(self.data.weight)
        return weighted_loss(name, weight if self.steps is None else np.append(weight, self.steps.data.weight))

    @property
    def counting(self) -> NDArray[np.bool_]:
        """Which figures count, shape (n, 12)."""
        known: NDArray[np.bool_] = ~np.isnan(next(iter(self._memo.values())))
        return known

    def _counting(self, values: Floats) -> Floats:
        return values[self.counting]

    def _step_residuals(self, values: Mapping[str, float]) -> Floats:
        if self.steps is None:
            return np.empty(0)
        return self._objective(self.steps).residuals(self._of_steps(values))

    def _step_jacobian(self, values: Mapping[str, float]) -> Floats:
        if self.steps is None:
            return np.empty((0, len(values)))
        own = self._of_steps(values)
        jacobian = np.zeros((len(self.steps.data), len(values)))
        jacobian[:, [name in own for name in values]] = self._objective(self.steps).jacobian(own)
        return jacobian

    def _of_steps(self, values: Mapping[str, float]) -> dict[str, float]:
        known = set(self.steps.model.parameter_names) if self.steps else set()
        return {name: value for name, value in values.items() if name in known - self.apart}

    def _objective(self, steps: Problem) -> Objective:
        return Objective(steps.model, steps.hardware, steps.data)


def stepped(name: str, value: float) -> float:
    """The value moved by a finite difference's step, upwards unless a bound is there."""
    known = PARAMETERS[name]
    step = STEP * known.size(value)
    return value + step if value + step <= known.upper else value - step


def sensitivity_logs(objective: ServingObjective, values: Mapping[str, float], names: Sequence[str]) -> Floats:
    """∂ln figure/∂ln θ of the figures that count, shape (m, len(names)); a value near 0 is scaled by the guide's."""
    base = objective.logs(values)
    columns = []
    for name in names:
        moved = stepped(name, values[name])
        slope = (objective.logs({**values, name: moved}) - base)[objective.counting] / (moved - values[name])
        columns.append(slope * PARAMETERS[name].size(values[name]))
    return np.column_stack(columns)
