"""The fit to steps: from measured steps and a starting configuration to parameters, intervals, and what they miss."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

from calibrate.fitting.draw import draw_rows
from calibrate.fitting.leverage import leverage_warning, row_leverage, row_names
from calibrate.fitting.objective import Dataset, build_dataset, leave_out_incomputable
from calibrate.fitting.problem import Problem
from calibrate.fitting.thresholds import FEWEST_TO_DOUBT, MANY_FREE
from calibrate.job.judgement import Evidence, form_of, judged
from calibrate.job.solution import Question, Solution, refit, solve, standard_errors
from calibrate.job.step_numbers import metrics_of, step_summary
from calibrate.job.task import Task
from calibrate.outcome.result import FitResult
from calibrate.records.beside import beside
from calibrate.records.interval import Interval
from calibrate.trust.crossval import LEAVE_OUT, Split, predict_parts, splits, starts_of
from calibrate.trust.intervals import OTHER_GPUS, Intervals, StandardErrors, all_intervals
from sim.steps.batch import Floats


def fit_steps(
    task: Task, solved: Callable[[Problem], None] = lambda _: None
) -> tuple[FitResult, Problem]:
    """The fit to the steps of the campaigns, and the problem it solved with the solution as its configuration.

    ``solved`` is told that problem as soon as it is, before the fit is judged. Raises CalibrateError if
    nothing can be fitted.
    """
    data, dropped = leave_out_incomputable(
        task.model, build_dataset(task.campaigns, task.options.floor)
    )
    data, drawn = draw_rows(data, task.options.seed)
    parts, kept = _parts(task, data)
    task.progress("fitting")
    problem = Problem(task.model, task.start, data, (), task.options.loss)
    asked = question_of(task)
    solution = solve(problem, asked)
    solved(solution.solved)
    task.progress("predicting held-out rows")
    options = task.options

    def held_out() -> dict[str, Floats]:
        return {
            split.name: _unseen(problem, split, asked, solution, options.jobs) for split in parts
        }

    begun = beside(held_out) if options.jobs == 1 and not options.scheduler else held_out
    evidence = _evidence(task, solution, begun, [*drawn, *dropped, *kept])
    return judged(task, solution, evidence), solution.solved


def _parts(task: Task, data: Dataset) -> tuple[list[Split], list[str]]:
    """What is held out, and what is said where that is nothing."""
    if task.known and len(data) < FEWEST_TO_DOUBT and not task.options.cv:
        return [], [
            f"{len(data)} rows beside other GPUs' values: none is held out, for each may alone show its parameter. "
            "--cv run leaves one out at a time."
        ]
    return splits(data, task.options.seed, task.options.cv or LEAVE_OUT), []


def _evidence(
    task: Task,
    solution: Solution,
    predict_held_out: Callable[[], Mapping[str, Floats]],
    notes: Sequence[str],
) -> Evidence:
    """What the rows say of a solution; its intervals first, while another process may predict held-out rows."""
    model, data = solution.problem.model, solution.problem.data
    before_us = model.predict_us(data.table, task.hardware)
    after_us = model.predict_us(data.table, solution.hardware)
    form = form_of(model, data, after_us, len(solution.problem.free))
    errors = standard_errors(solution, by_slice=form.is_at_fault)
    spread = _intervals(task, solution, errors)
    held_out = predict_held_out()
    return Evidence(
        metrics=metrics_of(before_us, after_us, held_out, data),
        form=form,
        errors=errors,
        spread=spread,
        fit=step_summary(dataclasses.replace(solution, joint=errors.joint), task.options.starts),
        held_out=held_out,
        notes=notes,
        followed=leverage_warning(
            row_leverage(solution.solved, solution.inside), row_names(data.frame)
        ),
    )


def question_of(task: Task) -> Question:
    """How to solve the problem, as it was asked."""
    known, options = task.model.parameter_names, task.options
    return Question(
        fixed=[name for name in task.fixed if name in known],
        freed=[name for name in task.freed if name in known],
        starts=options.starts,
        seed=options.seed,
        prior=task.known or options.prior,
        prior_strength=options.prior_strength,
    )


def _unseen(
    problem: Problem, split: Split, asked: Question, solution: Solution, jobs: int
) -> Floats:
    """Every row predicted by a fit to the other parts, made as the whole was: from the start, with fewer starts.

    Where the whole's starts agreed on many parameters, the start alone does; nothing else is taken from the whole.
    """
    starts = min(asked.starts, starts_of(split.name))
    quickly = solution.search.agreed and len(solution.problem.free) >= MANY_FREE
    asked = dataclasses.replace(asked, starts=starts)
    again = functools.partial(refit, asked=asked, quickly=quickly)
    return predict_parts(problem, split, again, asked.seed, jobs)


def _intervals(task: Task, solution: Solution, errors: StandardErrors) -> Intervals:
    options = task.options
    found = all_intervals(
        solution.solved,
        solution.inside,
        errors,
        task.intervals,
        options.seed,
        options.jobs,
        task.progress,
    )
    by_method = {**found.by_method, OTHER_GPUS: unseen(task, solution)}
    return dataclasses.replace(found, by_method=by_method)


def unseen(task: Task, solution: Solution) -> dict[str, Interval]:
    """What other GPUs say of the parameters that no row shows."""
    return {
        name: prior.interval(name)
        for name, prior in task.known.items()
        if name not in (*solution.choice.free, *task.fixed)
    }
