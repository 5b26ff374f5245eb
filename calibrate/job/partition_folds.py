"""Which configuration predicts each row that is held out: of fits to all other rows, wherever they lie."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from calibrate.fitting.partitioned import Codes, Partitioned
from calibrate.fitting.problem import Problem
from calibrate.fitting.solver import rounded
from calibrate.fitting.sums import Terms
from calibrate.job.solution import Question, Solution, refit
from calibrate.job.step_fit import question_of
from calibrate.job.task import Task
from calibrate.records.workers import in_parts
from calibrate.trust.crossval import LEAVE_OUT, starts_of
from calibrate.trust.tallies import Predicted
from calibrate.trust.unit_folds import Solved, UnitSplit, refit_weighed
from sim.hardware import Hardware
from sim.steps.batch import Floats

Values = Mapping[str, float]


def held_out_by(
    task: Task,
    solution: Solution,
    data: Partitioned,
    terms: Terms,
    solved: Solved,
    splits: Sequence[UnitSplit],
) -> dict[str, Predicted]:
    """By kind of split, what predicts the rows of each unit: an exact fit to the rows of all other parts.

    Without a run or a node a fit begins at the solution. Without a model, TP or campaign it must not know what only
    that one shows: it begins where a part of the other rows leads to.
    """
    starts = {split.name: _starts(task, solution, data, solved, split) for split in splits}
    tasks = [
        (start, data.balanced(split.part != number))
        for split in splits
        for number, start in enumerate(starts[split.name])
        if start
    ]
    first, weights = [start for start, _ in tasks], [weight for _, weight in tasks]
    pulls = solution.problem.pulls
    fits = iter(refit_weighed(data, terms, solved, first, weights, pulls) if tasks else [])
    return {
        split.name: Predicted(
            [_hardware(task, next(fits).values if start else {}) for start in starts[split.name]],
            split.part,
        )
        for split in splits
    }


def held_out_of_sample(
    problem: Problem, data: Partitioned, held_out: Mapping[str, Predicted]
) -> dict[str, Floats]:
    """Predictions in µs of the rows of a problem, shape (n,), by kind of split."""
    unit = data.unit_of(problem.data.frame)
    return {name: _predicted(problem, one, unit) for name, one in held_out.items()}


def _predicted(problem: Problem, one: Predicted, unit: Codes) -> Floats:
    part = one.part[unit]
    predicted = np.empty(len(part))
    for number in np.unique(part):
        rows = part == number
        table = problem.data.table.take(rows)
        predicted[rows] = problem.model.predict_us(table, one.hardware[number])
    return predicted


def _hardware(task: Task, values: Values) -> Hardware:
    return task.start.with_values(rounded(values))


def _starts(
    task: Task, solution: Solution, data: Partitioned, solved: Solved, split: UnitSplit
) -> list[Values]:
    """Where the fit without each part begins; empty where the other rows show nothing."""
    if split.name not in LEAVE_OUT:
        return [solved.values] * split.parts
    problem = dataclasses.replace(solution.problem, hardware=task.start, free=(), pulls={})
    asked = question_of(task)
    asked = dataclasses.replace(asked, prior=None, starts=min(asked.starts, starts_of(split.name)))
    labels = data.units.groupby(split.part)[split.name].first()
    cells = problem.data.frame[split.name]
    without = ((problem, asked, (cells != label).to_numpy()) for label in labels)
    return [*in_parts(_refit, without)]


def _refit(problem: Problem, asked: Question, rows: NDArray[np.bool_]) -> Values:
    return refit(problem.on(rows), asked)
