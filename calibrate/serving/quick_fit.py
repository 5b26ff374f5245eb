"""The short form of a fit to serving results: it follows the closed form's slopes, and leaves runs out along lines.

A fit to steps goes on to it for each engine; :func:`calibrate.serving.fit.solve_serving` is the whole.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from calibrate.fitting.objective import weighted_loss
from calibrate.serving.figures import Replay
from calibrate.serving.fit import (
    ServingSolution,
    closed_form_slopes,
    first_values,
    held_out_ms,
    solution_at,
)
from calibrate.serving.objective import ServingData, ServingObjective, balance, expected_spread
from calibrate.serving.point import SEEDS
from calibrate.serving.problem import ServingProblem
from calibrate.serving.search import on_straight_lines, search
from calibrate.serving.splits import OF_RUNS, serving_splits
from calibrate.serving.thresholds import DRAWS
from sim.steps.batch import Floats


def solve_quickly(problem: ServingProblem) -> ServingSolution | None:
    """Solve for what the load points can tell apart of the problem's candidates; None where that is nothing.

    Held out is one kind of split, the first of :func:`serving_splits`. Where that is of runs, each part's figures are
    at the values where a step along the simulator's slopes on all other points leads. Without a model (a TP, a
    campaign) values go further than lines hold: there a search begins anew, and shares of peaks do not hold for another
    model.
    """
    if not problem.candidates:
        return None
    first = first_values(problem)
    if not first.near:
        return None
    points = problem.points
    replay = Replay.of(points.points, [SEEDS[:DRAWS]] * len(points))
    data = _data(problem, replay)
    objective = problem.objective(replay.figures_ms, data)
    found = search(objective, closed_form_slopes(problem, objective), first.near, problem.loss)
    solution = solution_at(problem, first, objective, replay, found)
    kinds = serving_splits(points.frame, problem.cv, problem.seed)
    held_out = {}
    for name, labels in list(kinds.items())[:1]:
        if name in OF_RUNS:
            held_out[name] = _along_lines(problem, objective, replay, solution.values, labels)
        else:
            shares = problem.freed if name == "model" else ()
            held_out[name] = held_out_ms(problem, replay, data, labels, shares)
    return dataclasses.replace(solution, held_out_ms=held_out)


def _data(problem: ServingProblem, replay: Replay) -> ServingData:
    points = problem.points
    chance = np.nan_to_num(replay.chance(problem.model, problem.hardware))
    spread = chance * np.sqrt(1.0 + 1.0 / DRAWS)
    sigma = np.hypot(spread, expected_spread(points, problem.floor))
    return ServingData(points, sigma, balance(points))


def _along_lines(
    problem: ServingProblem,
    objective: ServingObjective,
    replay: Replay,
    values: dict[str, float],
    labels: NDArray[np.intp],
) -> Floats:
    """Figures of every point, shape (n, 12), at values to which its part added nothing but where the step began."""
    predicted = np.full(objective.data.sigma.shape, np.nan)
    residual, jacobian = objective.residuals(values), objective.jacobian(values)
    for part in (labels == label for label in np.unique(labels)):
        kept = objective.rows_without(part)
        weight = objective.data.take(~part).weight[objective.counting[~part]]
        loss = weighted_loss(problem.loss, weight, len(objective.pulls))
        moved = on_straight_lines(residual[kept], jacobian[kept], values, loss).values
        hardware = problem.hardware.with_values(moved)
        predicted[part] = replay.take(part).figures_ms(problem.model, hardware)
    return predicted
