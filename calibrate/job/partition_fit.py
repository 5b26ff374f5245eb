"""The fit to steps beyond memory: a part of the rows says where to look, sums over all of them say the values."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from calibrate.campaign.thresholds import SAMPLE_ROWS
from calibrate.fitting.covariance import SLICES, Covariance, sandwich_of_sums
from calibrate.fitting.draw import draw_rows
from calibrate.fitting.identifiability import sensitivity
from calibrate.fitting.objective import build_dataset, leave_out_incomputable
from calibrate.fitting.partitioned import Partitioned, partitioned
from calibrate.fitting.problem import Problem, Pull
from calibrate.fitting.solver import Estimate, at_bound, rounded
from calibrate.fitting.stand_in import StandIn, minimise_with, stand_in
from calibrate.fitting.sums import Terms, nothing
from calibrate.job.judgement import Evidence, Form, form_of, judged
from calibrate.job.partition_folds import held_out_by, held_out_of_sample
from calibrate.job.priors import Prior, known_priors, pulls, with_priors
from calibrate.job.solution import Solution, prior_results, solve
from calibrate.job.step_fit import fit_steps, question_of, unseen
from calibrate.job.step_numbers import statistics
from calibrate.job.task import Task
from calibrate.outcome.result import FitResult, FitSummary, Metrics
from calibrate.records.workers import workers
from calibrate.trust import bootstrap
from calibrate.trust.crossval import LEAVE_OUT
from calibrate.trust.intervals import (
    OTHER_GPUS,
    Intervals,
    StandardErrors,
    sandwich_intervals,
    summary,
)
from calibrate.trust.tallies import RESOLUTION, Predicted, errors_by_slice
from calibrate.trust.unit_bootstrap import bootstrap_units
from calibrate.trust.unit_folds import Solved, unit_splits


def fit_all_steps(
    task: Task, solved: Callable[[Problem], None] = lambda _: None
) -> tuple[FitResult, Problem]:
    """The fit to the steps of all campaigns, in memory or by partitions; as :func:`fit_steps`."""
    if not task.has_dataset:
        return fit_steps(task, solved)
    result, problem = fit_partitions(task)
    solved(problem)
    return result, problem


def fit_partitions(task: Task) -> tuple[FitResult, Problem]:
    """The fit to the steps of campaigns of which one holds a data set, and the problem of the rows that are shown.

    Raises CalibrateError if nothing can be fitted.
    """
    task.progress("fitting to a part of the rows")
    with workers(1):  # a second's work: less than other processes take to import the solver
        near = _near(task)
    task.progress("reducing the rows")
    data = partitioned(task.campaigns, task.model, task.start)
    terms = Terms(task.model, task.start, task.options.loss, task.options.floor)
    task.progress("fitting to all rows")
    exact = _exact(task, near, data, terms)
    solution = exact.solution
    task.progress("fitting without each part")
    splits = unit_splits(data, task.options.seed, _kinds(task, data))
    held_out = held_out_by(task, solution, data, terms, exact.solved, splits)
    task.progress("predicting all rows")
    evidence = Evidence(
        metrics=_metrics(task, solution, data, held_out),
        form=exact.form,
        errors=exact.errors,
        spread=_spread(task, data, terms, exact),
        fit=_summary(task, data, exact),
        held_out=held_out_of_sample(solution.problem, data, held_out),
        notes=[_note(data, len(solution.problem.data)), *data.notes, *_not_followed(task)],
    )
    return judged(task, solution, evidence), solution.solved


def _near(task: Task) -> Solution:
    """The solution of some rows that stand for all: what is free, and where to begin; none of them set aside."""
    data, _ = leave_out_incomputable(task.model, build_dataset(task.campaigns, task.options.floor))
    data, _ = draw_rows(data, task.options.seed, SAMPLE_ROWS)
    problem = Problem(task.model, task.start, data, (), task.options.loss)
    near = solve(problem, dataclasses.replace(question_of(task), prior=None))
    every_row = near.problem.data.setting_aside(np.zeros(len(data), dtype=bool))
    return dataclasses.replace(near, problem=dataclasses.replace(near.problem, data=every_row))


@dataclasses.dataclass(frozen=True, eq=False)
class _Exact:
    """A solution on all rows: the ``solution`` with the rows that are shown, its sums by unit, errors and form."""

    solution: Solution
    solved: Solved
    errors: StandardErrors
    form: Form


def _exact(task: Task, near: Solution, data: Partitioned, terms: Terms) -> _Exact:
    asked, few = question_of(task), stand_in(near.problem, data)
    alone = _minimum(near.search.best.values, data, terms, few)
    best, problem, weighed = alone, near.problem, {}
    known: Mapping[str, Prior] = {}
    solved = _solved(best, data, terms, few)
    joint = _covariance(solved, data, ("run",))
    if asked.prior is not None:
        known = known_priors(asked.prior, asked.prior_strength, near.choice.free)
        problem = dataclasses.replace(problem, pulls=pulls(known, joint))
        of_data = joint
        best = _minimum(best.values, data, terms, few, problem.pulls)
        solved = _solved(best, data, terms, few)
        joint = with_priors(_covariance(solved, data, ("run",)), known, problem.pulls, best.values)
        weighed = prior_results(known, alone, of_data, joint, best.values)
    hardware = task.start.with_values(best.values)
    solution = dataclasses.replace(
        near,
        problem=problem,
        hardware=hardware,
        search=dataclasses.replace(near.search, best=best),
        sensitivity=sensitivity(task.model, hardware, problem.data),
        joint=joint,
        priors=weighed,
        known=known,
    )
    after_us = task.model.predict_us(problem.data.table, hardware)
    form = form_of(task.model, problem.data, after_us, len(problem.free))
    errors = StandardErrors(joint)
    if form.is_at_fault:
        errors = StandardErrors(joint, *_by_slice(solution, solved, data))
    return _Exact(solution, solved, errors, form)


def _minimum(
    start: Mapping[str, float],
    data: Partitioned,
    terms: Terms,
    few: StandIn,
    pulled: Mapping[str, Pull] | None = None,
) -> Estimate:
    weight, whole = data.balanced(), np.ones(len(data.units))
    best = minimise_with(
        lambda values: data.sums(terms, [(values, weight)])[0],
        lambda values: few.sums_at(terms, values, whole),
        start,
        pulled,
    )
    return dataclasses.replace(best, values=rounded(best.values))


def _solved(best: Estimate, data: Partitioned, terms: Terms, few: StandIn) -> Solved:
    weight, every = data.balanced(), np.arange(len(data.units))
    sums = data.sums_by_group(terms, best.values, weight, every)
    return Solved(best.values, weight, sums, few)


def _covariance(solved: Solved, data: Partitioned, by: Sequence[str]) -> Covariance:
    """Covariance of what lies inside its bounds; units alike in the columns ``by`` err together."""
    inside = [name for name, value in solved.values.items() if not at_bound(name, value)]
    at = [[*solved.values].index(name) for name in inside]
    group = data.units.groupby([*by], sort=False).ngroup().to_numpy(dtype=np.intp)
    total = nothing(len(solved.values), int(group.max()) + 1)
    np.add.at(total.gradient, group, solved.sums.gradient)
    np.add.at(total.curvature, group, solved.sums.curvature)
    return sandwich_of_sums(
        inside, total.gradient[:, at], total.curvature[np.ix_(range(len(total.cost)), at, at)]
    )


def _by_slice(solution: Solution, solved: Solved, data: Partitioned) -> tuple[Covariance, str]:
    """How wide the misfit of a model makes the errors, as :func:`calibrate.fitting.covariance.sandwich_by_slice`."""
    found = {method: _covariance(solved, data, by) for method, by in SLICES.items()}
    method = next((method for method, one in found.items() if one.stderr), next(iter(SLICES)))
    values = solution.search.best.values
    return with_priors(found[method], solution.known, solution.problem.pulls, values), method


def _kinds(task: Task, data: Partitioned) -> Sequence[str]:
    nodes = ("node",) if data.units["node"].nunique() > 1 else ()
    return task.options.cv or (*LEAVE_OUT, *nodes)


def _metrics(
    task: Task, solution: Solution, data: Partitioned, held_out: Mapping[str, Predicted]
) -> Metrics:
    every = np.zeros(len(data.units), dtype=np.intp)
    kinds = {
        "before": Predicted([task.hardware], every),
        "after": Predicted([solution.hardware], every),
    }
    errors = errors_by_slice(data, task.model, {**kinds, **held_out})
    return Metrics(errors.pop("before"), errors.pop("after"), errors)


def _spread(task: Task, data: Partitioned, terms: Terms, exact: _Exact) -> Intervals:
    options, inside = task.options, exact.solution.inside
    by_method = sandwich_intervals(exact.errors, inside)
    by_method[OTHER_GPUS] = unseen(task, exact.solution)
    drawn = None
    if options.bootstrap and inside:
        task.progress(f"bootstrap of {options.bootstrap} samples")
        pulled = exact.solution.problem.pulls
        drawn = bootstrap_units(data, terms, exact.solved, options.bootstrap, options.seed, pulled)
        by_method[bootstrap.METHOD] = {name: drawn.interval(name) for name in inside}
    return Intervals(by_method, {}, None if drawn is None else summary(drawn), None)


def _summary(task: Task, data: Partitioned, exact: _Exact) -> FitSummary:
    search = exact.solution.search
    free = len(exact.solution.problem.free)
    return FitSummary(
        status="converged" if search.best.success else "stopped",
        message=search.best.message,
        cost=search.best.cost,
        n_rows=len(data),
        n_free=free,
        n_evaluations=search.best.evaluations,
        starts=task.options.starts,
        starts_at_best=search.at_best,
        costs=search.costs,
        loss=task.options.loss,
        statistics=statistics(len(data), free, float(exact.solved.sums.squares.sum())),
        covariance=exact.errors.joint.by_name(),
    )


def _note(data: Partitioned, shown: int) -> str:
    return (
        f"Fitted to all {len(data):,} rows, in {len(data.partitions):,} parts. What is free was chosen on {shown:,} "
        "rows drawn from them, some of every slice; plots, predictions, outliers, trends and bands are of these too. "
        f"Medians and 90% errors are good to {RESOLUTION:.1%} of themselves. Outliers were not set aside: the loss "
        "plays them down."
    )


def _not_followed(task: Task) -> list[str]:
    if not task.options.mcmc:
        return []
    return [
        "--mcmc was not followed: a chain would read all rows ten thousand times. --bootstrap draws runs anew."
    ]
