"""What a fit to serving results minimises: log residuals of TTFT, ITL and E2E, balanced by metric, and of steps."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.fitting.objective import Loss, Objective, weighted_loss
from calibrate.fitting.problem import Problem, Pull
from calibrate.parameters.own import facts
from calibrate.serving.points import FIGURES, METRICS, ServingPoints
from calibrate.serving.thresholds import FULL_SWEEP
from sim.hardware import Hardware
from sim.steps.batch import Floats

STEP = 0.05  # of a parameter, in finite differences: schedules jump, so that a small step would see noise

_TAIL = {"p99": 4.0}

Figures = Callable[[Hardware], Floats]
"""Figures in ms of every load point under a configuration, shape (n, 12)."""

_Values = tuple[tuple[str, float], ...]


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
    return np.broadcast_to(
        [floor * _TAIL.get(figure[1], 1.0) for figure in FIGURES], points.measured_ms.shape
    )


def balance(points: ServingPoints) -> Floats:
    """Weights (n, 12): every metric counts the same, and in each every model and TP; 0 where nothing was measured.

    A mean that a few requests made does not count: its median stands for it.
    A slice of fewer than five points counts by its points, or one alone would weigh as much as a whole sweep.
    """
    known = ~np.isnan(points.measured_ms) & ~points.skewed
    groups = points.frame.groupby(["model", "tp", "engine", "dtype"], sort=False)
    slices = groups.ngroup().to_numpy()
    full = np.minimum(groups["tp"].transform("size").to_numpy() / FULL_SWEEP, 1.0)
    weight = np.zeros(known.shape)
    for metric in METRICS:
        columns = np.array([figure[0] == metric for figure in FIGURES])
        counts = (
            pd.Series(known[:, columns].sum(axis=1))
            .groupby(slices)
            .transform("sum")
            .to_numpy(dtype=np.float64)
        )
        share = known * columns * (full / np.maximum(counts, 1.0))[:, None]
        weight += share / max(share.sum(), np.finfo(float).tiny)
    scaled: Floats = weight * (known.sum() / max(weight.sum(), np.finfo(float).tiny))
    return scaled


@dataclasses.dataclass(frozen=True, eq=False)
class ServingObjective:
    """Residuals of load points under some way to compute figures, and of steps beside them where there are any.

    Figures that ``figures`` leaves NaN do not count, or those that are not among ``only`` (n, 12). Parameters in
    ``apart`` hold their values for the steps: steps composed of kernels say nothing of what an engine adds. Each of
    ``pulls`` is one more observation, of a parameter's value.
    """

    data: ServingData
    figures: Figures
    hardware: Hardware
    steps: Problem | None = None
    apart: frozenset[str] = frozenset()
    only: NDArray[np.bool_] | None = None
    pulls: Mapping[str, Pull] = dataclasses.field(default_factory=dict)
    _memo: dict[_Values, Floats] = dataclasses.field(default_factory=dict, repr=False)

    def logs(self, values: Mapping[str, float]) -> Floats:
        """ln(predicted/measured) of the figures that count, shape (m,)."""
        key = tuple(values.items())
        if key not in self._memo:
            if len(self._memo) > len(values) + 1:
                self._memo.clear()
            self._memo[key] = self._all_logs(values)[self.counting]
        return self._memo[key]

    def residuals(self, values: Mapping[str, float]) -> Floats:
        """(m + steps + pulls,): ln(predicted/measured)/σ of figures and steps, and how far off pulled values are."""
        figures = self.logs(values) / self._sigma
        return np.concatenate([figures, self._step_residuals(values), self._pulled(values)])

    def jacobian(self, values: Mapping[str, float]) -> Floats:
        """∂residual/∂value, (m + steps + pulls, k): forward differences of the figures, closed form of the others."""
        slopes = [self._slope(values, name, self._sigma) for name in values]
        pulls = [[root * (name == own) for own in values] for name, root in self._roots.items()]
        of_pulls = np.reshape(pulls, (len(pulls), len(values)))
        return np.vstack([np.column_stack(slopes), self._step_jacobian(values), of_pulls])

    def sensitivity(self, values: Mapping[str, float]) -> Floats:
        """∂ln figure/∂ln θ, shape (m, k); a value near 0 is scaled by the guide's."""
        return np.column_stack(
            [self._slope(values, name) * facts(name).size(values[name]) for name in values]
        )

    def cost(self, values: Mapping[str, float], loss: str) -> float:
        """½Σw·ρ(r²) at some values."""
        return float(0.5 * self.loss(loss)(self.residuals(values) ** 2)[0].sum())

    def loss(self, name: str) -> Loss:
        """The robust loss over all residuals but the pulls, which count as their squares, by its name."""
        pulls = len(self.pulls)
        return weighted_loss(name, self.weight[: len(self.weight) - pulls], pulls)

    @property
    def figure_weight(self) -> Floats:
        """How much each figure counts, shape (m,)."""
        return self.data.weight[self.counting]

    @property
    def weight(self) -> Floats:
        """How much each residual counts, shape (m + steps + pulls,)."""
        steps = np.empty(0) if self.steps is None else self.steps.data.weight
        return np.concatenate([self.figure_weight, steps, np.ones(len(self.pulls))])

    @property
    def rows_of_run(self) -> list[NDArray[np.intp]]:
        """The residuals of each run: of the load points', then of the steps'; then each pull."""
        points = self._point_of_figure
        served = [np.flatnonzero(np.isin(points, run)) for run in _runs(self.data.points.frame)]
        steps = [] if self.steps is None else _runs(self.steps.data.frame)
        return [*served, *(len(points) + run for run in steps), *self._rows_of_pulls.reshape(-1, 1)]

    def rows_without(self, points: NDArray[np.bool_]) -> NDArray[np.intp]:
        """The residuals of all load points but ``points`` (n,), and the pulls; there must be no steps."""
        kept = np.flatnonzero(~points[self._point_of_figure])
        return np.append(kept, self._rows_of_pulls)

    @property
    def _rows_of_pulls(self) -> NDArray[np.intp]:
        return np.arange(len(self.weight) - len(self.pulls), len(self.weight))

    @property
    def rows_of_point(self) -> list[NDArray[np.intp]]:
        """The residuals of each load point; none where no figure of it counts."""
        points = self._point_of_figure
        return [np.flatnonzero(points == point) for point in range(len(self.data.points))]

    @property
    def _point_of_figure(self) -> NDArray[np.intp]:
        """The load point of each figure that counts, shape (m,)."""
        number = np.arange(len(self.data.points))[:, None]
        return np.broadcast_to(number, self.data.sigma.shape)[self.counting]

    @functools.cached_property
    def counting(self) -> NDArray[np.bool_]:
        """Which figures count, shape (n, 12): those that are measured and predicted."""
        known: NDArray[np.bool_] = ~np.isnan(self._all_logs({}))
        return known if self.only is None else self.only

    @functools.cached_property
    def _sigma(self) -> Floats:
        return self.data.sigma[self.counting]

    def _all_logs(self, values: Mapping[str, float]) -> Floats:
        logs: Floats = np.log(
            self.figures(self.hardware.with_values(values)) / self.data.points.measured_ms
        )
        return logs

    def _slope(self, values: Mapping[str, float], name: str, sigma: Floats | float = 1.0) -> Floats:
        """∂ln figure/∂value over ``sigma`` by a forward difference, shape (m,)."""
        moved = stepped(name, values[name])
        slope: Floats = (
            (self.logs({**values, name: moved}) - self.logs(values))
            / sigma
            / (moved - values[name])
        )
        return slope

    @property
    def _roots(self) -> dict[str, float]:
        """1/σ of every pull."""
        return {name: pull.precision**0.5 for name, pull in self.pulls.items()}

    def _pulled(self, values: Mapping[str, float]) -> Floats:
        off = [
            root * (values[name] - self.pulls[name].mean) if name in values else 0.0
            for name, root in self._roots.items()
        ]
        return np.array(off)

    def _step_residuals(self, values: Mapping[str, float]) -> Floats:
        if self.steps is None:
            return np.empty(0)
        return self._objective(self.steps).residuals(self._of_steps(values))

    def _step_jacobian(self, values: Mapping[str, float]) -> Floats:
        if self.steps is None:
            return np.empty((0, len(values)))
        own = self._of_steps(values)
        jacobian = np.zeros((len(self.steps.data), len(values)))
        if own:
            jacobian[:, [name in own for name in values]] = self._objective(self.steps).jacobian(
                own
            )
        return jacobian

    def _of_steps(self, values: Mapping[str, float]) -> dict[str, float]:
        known = set(self.steps.model.parameter_names) if self.steps else set()
        return {name: value for name, value in values.items() if name in known - self.apart}

    def _objective(self, steps: Problem) -> Objective:
        return Objective(steps.model, steps.hardware, steps.data)


def _runs(frame: pd.DataFrame) -> list[NDArray[np.intp]]:
    """The rows of each run."""
    return [
        np.asarray(rows, dtype=np.intp)
        for rows in frame.groupby("run", sort=False).indices.values()
    ]


def stepped(name: str, value: float) -> float:
    """The value moved by a finite difference's step, upwards unless a bound is there."""
    known = facts(name)
    step = STEP * known.size(value)
    return value + step if value + step <= known.upper else value - step
