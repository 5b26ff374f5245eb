"""The fit to serving results: what an engine adds to its steps, from TTFT, ITL and E2E through the simulator.

It is the last step of the calibration guide, which tunes multipliers against the served truth: the parameters that
steps determine keep their values, and those of :data:`TUNED` move. A parameter freed by name moves too, held by the
steps' rows beside the serving rows: one objective.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from calibrate.crossval import FOLDS
from calibrate.errors import CalibrateError
from calibrate.identifiability import Choice, Sensitivity, choose_free
from calibrate.parameters import PARAMETERS, REQUEST_TIMES, in_order
from calibrate.serving_estimate import MeanLoad
from calibrate.serving_figures import Replay
from calibrate.serving_objective import ServingData, ServingObjective, balance, expected_spread, sensitivity_logs
from calibrate.serving_points import FIGURES, ServingPoints
from calibrate.solver import Estimate, Problem, least_squares
from calibrate.uncertainty import Intervals, sandwich_by_run
from sim.batch import Floats
from sim.hardware import Hardware
from sim.latency import LatencyModel

TUNED = {
    "roofline-v1": ("mfuPrefillMultiplier", "mfuDecodeMultiplier", "prefillBwFactor", "decodeBwFactor", "apiMicros"),
    "roofline-v2": ("TOverheadMicros", "prefillOverheadMicros", "apiMicros"),
    "roofline-v2-interp": ("perLayerOverhead", "apiMicros"),
    "roofline-v3": ("layerMicros", "prefillLayerMicros", "apiMicros"),
}
"""What serving results move by default, by latency model: times and factors that kernels alone do not show."""

_REQUEST_TIMES = tuple(parameter.name for parameter in REQUEST_TIMES)
_SEEDS = tuple(range(16))
_TRIED = 8  # of the seeds, to see how far chance goes
_CHANCE = 0.03  # a mean that spreads by more from draw to draw is taken over all seeds
_MOST_RUNS = 10
_TOLERANCE = 1e-4
_HELD_OUT_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True, eq=False)
class ServingSolution:
    """Where the fit ended. ``start`` and ``values`` are those of the free parameters.

    ``seen`` is what the figures show of each parameter at the start.
    ``before_ms``, ``after_ms`` and each of ``held_out_ms`` are figures of every point, shape (n, 12); ``joint`` are
    standard errors and half-widths, whole runs taken as the independent observations.
    """

    data: ServingData
    choice: Choice
    seen: Sensitivity
    hardware: Hardware
    start: dict[str, float]
    estimate: Estimate
    joint: Intervals
    before_ms: Floats
    after_ms: Floats
    held_out_ms: dict[str, Floats]

    @property
    def values(self) -> dict[str, float]:
        """The free parameters' values."""
        return self.estimate.values


@dataclasses.dataclass(frozen=True, eq=False)
class ServingProblem:
    """What to fit: load points, the model, the configuration to start from, the loss, and steps to hold it by."""

    points: ServingPoints
    model: LatencyModel
    hardware: Hardware
    loss: str
    floor: float
    steps: Problem | None = None


def solve_serving(
    problem: ServingProblem,
    fixed: Sequence[str] = (),
    freed: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> ServingSolution:
    """Solve for what the load points can tell apart of :data:`TUNED` and ``freed``, less ``fixed``.

    Raises CalibrateError if that is nothing.
    """
    progress("simulating the serving runs")
    once = Replay.of(problem.points.points, [_SEEDS[:1]] * len(problem.points))
    mean = MeanLoad.of(once)
    rough = ServingData(problem.points, expected_spread(problem.points, problem.floor), balance(problem.points))
    start, seen, choice = _choose(problem, mean, rough, fixed, freed)
    seed = _seed(problem, mean, rough, {name: start[name] for name in choice.free}, freed)
    replay, data = _drawn(problem, problem.hardware.with_values(seed))
    progress("fitting to the serving runs")
    objective = _objective(problem, replay, data, freed)
    estimate = least_squares(objective.residuals, objective.jacobian, seed, objective.loss(problem.loss), _TOLERANCE)
    progress("predicting held-out serving runs")
    held_out = {
        name: _held_out(problem, replay, data, estimate.values, labels, freed) for name, labels in _splits(data).items()
    }
    hardware = problem.hardware.with_values(estimate.values)
    return ServingSolution(
        data,
        choice,
        seen,
        hardware,
        {name: start[name] for name in choice.free},
        estimate,
        _joint(objective, data, estimate.values, problem),
        replay.figures_ms(problem.model, problem.hardware),
        replay.figures_ms(problem.model, hardware),
        held_out,
    )


def tuned_values(model: LatencyModel, hardware: Hardware) -> dict[str, float]:
    """The latency model's parameters and the times around the engine, absent ones 0."""
    return {**{name: hardware.values.get(name, 0.0) for name in _REQUEST_TIMES}, **model.parameters(hardware)}


def _drawn(problem: ServingProblem, hardware: Hardware) -> tuple[Replay, ServingData]:
    """The requests to simulate, and how far chance moves each figure: near saturation many draws are needed."""
    points = problem.points
    chance = Replay.of(points.points, [_SEEDS[:_TRIED]] * len(points)).chance(problem.model, hardware)
    means = [figure[1] == "mean" for figure in FIGURES]
    seeds = [_SEEDS if np.nanmax(row[means]) > _CHANCE else _SEEDS[:1] for row in chance]
    sizes = np.array([len(own) for own in seeds], dtype=np.float64)
    spread = np.nan_to_num(chance) * np.sqrt(1.0 + 1.0 / sizes)[:, None]  # of the measured run, and of ours
    sigma = np.hypot(spread, expected_spread(points, problem.floor))
    return Replay.of(points.points, seeds), ServingData(points, sigma, balance(points))


def _choose(
    problem: ServingProblem, mean: MeanLoad, data: ServingData, fixed: Sequence[str], freed: Sequence[str]
) -> tuple[dict[str, float], Sensitivity, Choice]:
    """Where the fit starts, and what is free: by the closed form, which shows what the figures see."""
    names = [name for name in in_order({*TUNED[problem.model.name], *freed}) if name not in fixed]
    values = tuned_values(problem.model, problem.hardware)
    objective = _estimated(problem, mean, data, freed)
    logs = sensitivity_logs(objective, {name: values[name] for name in names}, names)
    seen = Sensitivity(tuple(names), logs, data.weight[objective.counting])
    choice = choose_free(seen, values, fixed, names)
    if not choice.free:
        raise CalibrateError("nothing can be fitted to the serving rows: every parameter is fixed, or no row sees it")
    return values, seen, choice


def _seed(
    problem: ServingProblem,
    mean: MeanLoad,
    data: ServingData,
    start: Mapping[str, float],
    freed: Sequence[str],
) -> dict[str, float]:
    objective = _estimated(problem, mean, data, freed)
    return least_squares(objective.residuals, objective.jacobian, start, objective.loss(problem.loss)).values


def _estimated(problem: ServingProblem, mean: MeanLoad, data: ServingData, freed: Sequence[str]) -> ServingObjective:
    objective = ServingObjective(
        data, lambda hardware: mean.figures_ms(problem.model, hardware), problem.hardware, *_steps(problem, freed)
    )
    objective.logs({})
    return objective


def _objective(problem: ServingProblem, replay: Replay, data: ServingData, freed: Sequence[str]) -> ServingObjective:
    objective = ServingObjective(
        data, lambda hardware: replay.figures_ms(problem.model, hardware), problem.hardware, *_steps(problem, freed)
    )
    objective.logs({})
    return objective


def _steps(problem: ServingProblem, freed: Sequence[str]) -> tuple[Problem | None, frozenset[str]]:
    """The steps, where something that they see is free, and what of it moves for the server alone."""
    if problem.steps is None:
        return None, frozenset()
    composed = bool(problem.steps.data.frame["composed"].all())
    apart = frozenset(TUNED[problem.model.name]) if composed else frozenset(_REQUEST_TIMES)
    moved = {*TUNED[problem.model.name], *freed} & set(problem.model.parameter_names) - apart
    return (problem.steps, apart) if moved else (None, frozenset())


def _splits(data: ServingData) -> dict[str, NDArray[np.intp]]:
    """Leave one model out, and one run (of many runs: a fifth of them), where there are two or more."""
    _, model = np.unique(data.points.frame["model"].to_numpy(dtype=str), return_inverse=True)
    _, run = np.unique(data.points.frame["run"].to_numpy(dtype=str), return_inverse=True)
    many = run.max() >= _MOST_RUNS
    shuffled = np.random.default_rng(0).permutation(run.max() + 1) % FOLDS
    found = {"model": model, "folds" if many else "run": shuffled[run] if many else run}
    return {name: labels.astype(np.intp) for name, labels in found.items() if len(np.unique(labels)) > 1}


def _held_out(
    problem: ServingProblem,
    replay: Replay,
    data: ServingData,
    solution: Mapping[str, float],
    labels: NDArray[np.intp],
    freed: Sequence[str],
) -> Floats:
    """Figures of every point by a fit that has not seen its part, started from the solution on all; shape (n, 12)."""
    predicted = np.full(data.sigma.shape, np.nan)
    for part in (labels == label for label in np.unique(labels)):
        objective = _objective(problem, replay.take(~part), data.take(~part), freed)
        loss = objective.loss(problem.loss)
        found = least_squares(objective.residuals, objective.jacobian, solution, loss, _HELD_OUT_TOLERANCE)
        predicted[part] = replay.take(part).figures_ms(problem.model, problem.hardware.with_values(found.values))
    return predicted


def _joint(
    objective: ServingObjective, data: ServingData, values: dict[str, float], problem: ServingProblem
) -> Intervals:
    inside = {name: value for name, value in values.items() if value > PARAMETERS[name].lower}
    points = np.broadcast_to(np.arange(len(data.points))[:, None], data.sigma.shape)[objective.counting]
    runs = list(data.points.frame.groupby("run", sort=False).indices.values())
    residual = objective.residuals(values)[: len(points)]
    jacobian = objective.jacobian(values)[: len(points), [name in inside for name in values]]
    rows = [np.flatnonzero(np.isin(points, run)) for run in runs]
    return sandwich_by_run(list(inside), residual, jacobian, data.weight[objective.counting], problem.loss, rows)
