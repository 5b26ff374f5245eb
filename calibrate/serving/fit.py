"""The fit to serving results: what an engine adds to its steps, from TTFT, ITL and E2E through the simulator.

It is the last step of the calibration guide, which tunes multipliers against the served truth: the parameters that
steps determine keep their values, and those that kernels do not show (:func:`tuned_names`) move. A parameter freed by
name moves too, held by the steps' rows beside the serving rows: one objective.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from calibrate.fitting.covariance import Covariance, sandwich_by_run
from calibrate.fitting.identifiability import Choice, Sensitivity, choose_free
from calibrate.fitting.leverage import block_leverage
from calibrate.fitting.problem import Problem, Pull, first_tried
from calibrate.fitting.solver import Estimate, at_bound, least_squares, rounded
from calibrate.parameters.registry import REQUEST_TIME_NAMES, in_order, tuned_names
from calibrate.records.errors import CalibrateError
from calibrate.serving.figures import Replay, draw_enough
from calibrate.serving.mean_load import MeanLoad
from calibrate.serving.objective import ServingData, ServingObjective, balance, expected_spread
from calibrate.serving.point import SEEDS
from calibrate.serving.points import ServingPoints
from calibrate.serving.search import Slopes, search
from calibrate.serving.splits import serving_splits
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.steps.batch import Floats

_TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True, eq=False)
class ServingSolution:
    """Where the fit ended. ``start`` and ``values`` are those of the free parameters.

    ``sensitivity`` is what the figures show of each parameter at the start.
    ``before_ms``, ``after_ms`` and each of ``held_out_ms`` are figures of every point, shape (n, 12); ``joint`` are
    standard errors and half-widths, whole runs taken as the independent observations. ``leverage`` (n,) says how far
    the fit follows each point.
    """

    data: ServingData
    choice: Choice
    sensitivity: Sensitivity
    hardware: Hardware
    start: dict[str, float]
    estimate: Estimate
    joint: Covariance
    leverage: Floats
    before_ms: Floats
    after_ms: Floats
    held_out_ms: dict[str, Floats]

    @property
    def values(self) -> dict[str, float]:
        """The free parameters' values."""
        return self.estimate.values


_Figures = Callable[[LatencyModel, Hardware], Floats]
"""Figures of every load point, shape (n, 12): the simulator's, or those of its closed form."""


@dataclasses.dataclass(frozen=True, eq=False)
class ServingProblem:
    """What to fit: load points, the model, the configuration to start from, the loss, and steps to hold it by.

    ``fixed`` parameters stay, ``freed`` ones move beside the model's :func:`tuned_names`. ``cv`` are the kinds of
    split to hold out (empty: one model at a time, and runs), ``seed`` draws the folds. ``pulls`` go towards what other
    servers of the engine's kind showed.
    """

    points: ServingPoints
    model: LatencyModel
    hardware: Hardware
    loss: str
    floor: float
    steps: Problem | None = None
    fixed: Sequence[str] = ()
    freed: Sequence[str] = ()
    cv: Sequence[str] = ()
    seed: int = 0
    pulls: Mapping[str, Pull] = dataclasses.field(default_factory=dict)

    @property
    def candidates(self) -> tuple[str, ...]:
        """What may move, in the registry's order."""
        movable = {*tuned_names(self.model), *self.freed} - {*self.fixed}
        return in_order(movable, self.model)

    @property
    def apart(self) -> frozenset[str]:
        """What holds its value for the steps: composed of kernels, they show nothing of what an engine adds."""
        composed = self.steps is not None and bool(self.steps.data.frame["composed"].all())
        return frozenset(tuned_names(self.model) if composed else REQUEST_TIME_NAMES)

    def objective(
        self, figures: _Figures, data: ServingData, only: NDArray[np.bool_] | None = None
    ) -> ServingObjective:
        """The residuals of ``data``, with the steps beside them where something that they see may move."""
        seen = {*self.candidates} & {*self.model.parameter_names} - self.apart
        return ServingObjective(
            data,
            lambda hardware: figures(self.model, hardware),
            self.hardware,
            self.steps if seen else None,
            self.apart,
            only,
            self.pulls,
        )

    def minimise(
        self, objective: ServingObjective, start: Mapping[str, float], tolerance: float
    ) -> Estimate:
        """Least squares over an objective of this problem."""
        return least_squares(
            objective.residuals, objective.jacobian, start, objective.loss(self.loss), tolerance
        )


@dataclasses.dataclass(frozen=True, eq=False)
class First:
    """What the closed form says: which parameters the points show, their start, and values ``near`` the solution."""

    seen: Sensitivity
    choice: Choice
    start: dict[str, float]
    near: dict[str, float]


def solve_serving(
    problem: ServingProblem, progress: Callable[[str], None] = lambda _: None
) -> ServingSolution:
    """Solve for what the load points can tell apart of the problem's candidates.

    Raises CalibrateError if that is nothing.
    """
    progress("simulating the serving runs")
    first = first_values(problem)
    if not first.near:
        raise CalibrateError(
            "nothing can be fitted to the serving rows: no row sees any parameter that is not fixed"
        )
    replay, data = _drawn(problem, problem.hardware.with_values(first.near))
    progress("fitting to the serving runs")
    objective = problem.objective(replay.figures_ms, data)
    found = search(objective, closed_form_slopes(problem, objective), first.near, problem.loss)
    found = search(objective, objective.jacobian, found.values, problem.loss, found.evaluations)
    solution = solution_at(problem, first, objective, replay, found)
    progress("predicting held-out serving runs")
    kinds = serving_splits(problem.points.frame, problem.cv, problem.seed)
    held_out = {name: _held_out(problem, replay, data, labels) for name, labels in kinds.items()}
    return dataclasses.replace(solution, held_out_ms=held_out)


def solution_at(
    problem: ServingProblem,
    first: First,
    objective: ServingObjective,
    replay: Replay,
    found: Estimate,
) -> ServingSolution:
    """What an estimate comes to, with nothing held out yet."""
    estimate = dataclasses.replace(found, values=rounded(found.values))
    hardware = problem.hardware.with_values(estimate.values)
    joint, leverage = precision(problem, objective, estimate.values)
    return ServingSolution(
        data=objective.data,
        choice=first.choice,
        sensitivity=first.seen,
        hardware=hardware,
        start=first.start,
        estimate=estimate,
        joint=joint,
        leverage=leverage,
        before_ms=replay.figures_ms(problem.model, problem.hardware),
        after_ms=replay.figures_ms(problem.model, hardware),
        held_out_ms={},
    )


def tuned_values(model: LatencyModel, hardware: Hardware) -> dict[str, float]:
    """The latency model's parameters and the times around the engine, absent ones 0."""
    return {
        **{name: hardware.values.get(name, 0.0) for name in REQUEST_TIME_NAMES},
        **model.parameters(hardware),
    }


def first_values(problem: ServingProblem) -> First:
    """The closed form's own fit. Raises CalibrateError if nothing may move."""
    values = tuned_values(problem.model, problem.hardware)
    by_means = _by_means(problem)
    seen, choice = _choose(problem, by_means, values)
    start = {name: values[name] for name in choice.free}
    tried = first_tried(problem.model, start)
    near = problem.minimise(by_means, tried, _TOLERANCE).values if start else {}
    return First(seen, choice, start, near)


def _by_means(problem: ServingProblem) -> ServingObjective:
    """The objective in closed form, which shows what the figures see, and where to start."""
    points = problem.points
    data = ServingData(points, expected_spread(points, problem.floor), balance(points))
    return problem.objective(_mean_load(points).figures_ms, data)


def _mean_load(points: ServingPoints) -> MeanLoad:
    return MeanLoad.of(Replay.of(points.points, [SEEDS[:1]] * len(points)))


def _choose(
    problem: ServingProblem, objective: ServingObjective, values: dict[str, float]
) -> tuple[Sensitivity, Choice]:
    names = problem.candidates
    if not names:
        raise CalibrateError("nothing can be fitted to the serving rows: every parameter is fixed")
    logs = objective.sensitivity(first_tried(problem.model, {name: values[name] for name in names}))
    seen = Sensitivity(names, logs, objective.figure_weight)
    choice = choose_free(seen, values, problem.fixed, names)
    return seen, choice


def _drawn(problem: ServingProblem, hardware: Hardware) -> tuple[Replay, ServingData]:
    """The requests to simulate, and how far chance and the model's own error move each figure."""
    points = problem.points
    replay, spread = draw_enough(points, problem.model, hardware)
    sigma = np.hypot(spread, expected_spread(points, problem.floor))
    return replay, ServingData(points, sigma, balance(points))


def _held_out(
    problem: ServingProblem, replay: Replay, data: ServingData, labels: NDArray[np.intp]
) -> Floats:
    """Figures of every point by a fit that has not seen its part, shape (n, 12)."""
    predicted = np.full(data.sigma.shape, np.nan)
    for part in (labels == label for label in np.unique(labels)):
        rest = dataclasses.replace(problem, points=problem.points.take(~part))
        objective = rest.objective(replay.take(~part).figures_ms, data.take(~part))
        values = _without_part(rest, objective)
        predicted[part] = replay.take(part).figures_ms(
            problem.model, problem.hardware.with_values(values)
        )
    return predicted


def _without_part(problem: ServingProblem, objective: ServingObjective) -> Mapping[str, float]:
    """The estimate from the other points alone: what they show, the closed form's values, and a search from there."""
    near = first_values(problem).near
    if not near:
        return {}
    return search(objective, closed_form_slopes(problem, objective), near, problem.loss).values


def closed_form_slopes(problem: ServingProblem, objective: ServingObjective) -> Slopes:
    """Slopes of every figure that counts in closed form, a metric's tail moving as its mean does."""
    figures = _mean_load(problem.points).statistics_ms
    return problem.objective(figures, objective.data, objective.counting).jacobian


def precision(
    problem: ServingProblem, objective: ServingObjective, values: dict[str, float]
) -> tuple[Covariance, Floats]:
    """Standard errors of the values inside their bounds, and every point's leverage on them."""
    inside = [name for name, value in values.items() if not at_bound(name, value)]
    jacobian = objective.jacobian(values)[:, [name in inside for name in values]]
    residual = objective.residuals(values)
    weight = objective.weight
    joint = sandwich_by_run(inside, residual, jacobian, weight, problem.loss, objective.rows_of_run)
    return joint, block_leverage(residual, jacobian, weight, problem.loss, objective.rows_of_point)
