"""The fit to serving results: what an engine adds to its steps, from TTFT, ITL and E2E through the simulator.

It is the last step of the calibration guide, which tunes multipliers against the served truth: the parameters that
steps determine keep their values, and those that kernels do not show (:func:`tuned_names`) move. A parameter freed by
name moves too, held by the steps' rows beside the serving rows: one objective.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from calibrate.fitting.covariance import Covariance, sandwich_by_run
from calibrate.fitting.identifiability import Choice, Sensitivity, choose_free
from calibrate.fitting.leverage import block_leverage
from calibrate.fitting.problem import first_tried
from calibrate.fitting.solver import Estimate, at_bound, rounded
from calibrate.parameters.own import plain_name
from calibrate.parameters.registry import REQUEST_TIME_NAMES
from calibrate.records.errors import CalibrateError
from calibrate.serving.by_engine import Figures, draw_enough_of_each
from calibrate.serving.figures import Replay, draw_enough
from calibrate.serving.mean_load import MeanLoad
from calibrate.serving.objective import ServingData, ServingObjective, balance, expected_spread
from calibrate.serving.point import SEEDS
from calibrate.serving.problem import ServingProblem
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
    objective = problem.objective(problem.simulated(replay), data)
    found = search(objective, closed_form_slopes(problem, objective), first.near, problem.loss)
    found = search(objective, objective.jacobian, found.values, problem.loss, found.evaluations)
    solution = solution_at(problem, first, objective, replay, found)
    progress("predicting held-out serving runs")
    kinds = serving_splits(problem.points.frame, problem.cv, problem.seed)
    held_out = {name: held_out_ms(problem, replay, data, labels) for name, labels in kinds.items()}
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
    figures_ms = problem.simulated(replay)
    return ServingSolution(
        data=objective.data,
        choice=first.choice,
        sensitivity=first.seen,
        hardware=hardware,
        start=first.start,
        estimate=estimate,
        joint=joint,
        leverage=leverage,
        before_ms=figures_ms(problem.model, problem.hardware),
        after_ms=figures_ms(problem.model, hardware),
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
    values = _values(problem)
    by_means = _by_means(problem)
    seen, choice = _choose(problem, by_means, values)
    start = {name: values[name] for name in choice.free}
    tried = first_tried(problem.model, start)
    near = problem.minimise(by_means, tried, _TOLERANCE).values if start else {}
    return First(seen, choice, start, near)


def _values(problem: ServingProblem) -> dict[str, float]:
    """The values of all that may move; those of an engine are at first those of all."""
    known = tuned_values(problem.model, problem.hardware)
    return {name: known[plain_name(name)] for name in (*known, *problem.candidates)}


def _by_means(problem: ServingProblem) -> ServingObjective:
    """The objective in closed form, which shows what the figures see, and where to start."""
    points = problem.points
    data = ServingData(points, expected_spread(points, problem.floor), balance(points))
    return problem.objective(_closed_form(problem, MeanLoad.figures_ms), data)


def _closed_form(
    problem: ServingProblem, of: Callable[[MeanLoad, LatencyModel, Hardware], Floats]
) -> Figures:
    """What the mean load says of the points."""
    points = problem.points
    replay = Replay.of(points.points, [SEEDS[:1]] * len(points))
    return problem.figures(replay, lambda requests: functools.partial(of, MeanLoad.of(requests)))


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
    draw = draw_enough_of_each if problem.apart else draw_enough
    replay, spread = draw(points, problem.model, hardware)
    sigma = np.hypot(spread, expected_spread(points, problem.floor))
    return replay, ServingData(points, sigma, balance(points))


def held_out_ms(
    problem: ServingProblem,
    replay: Replay,
    data: ServingData,
    labels: NDArray[np.intp],
    staying: Collection[str] = (),
) -> Floats:
    """Figures of every point by a fit that has not seen its part, shape (n, 12); NaN where that saw no such engine.

    ``staying`` are parameters whose values do not hold for what is left out.
    """
    predicted = np.full(data.sigma.shape, np.nan)
    for part in (labels == label for label in np.unique(labels)):
        rest = dataclasses.replace(problem, points=problem.points.take(~part))
        objective = rest.objective(rest.simulated(replay.take(~part)), data.take(~part))
        found = _without_part(rest, objective)
        values = {name: found[name] for name in found if name not in staying}
        known = part & problem.has_terms(~part)
        left = dataclasses.replace(problem, points=problem.points.take(known))
        predicted[known] = left.simulated(replay.take(known))(
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
    figures = _closed_form(problem, MeanLoad.statistics_ms)
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
