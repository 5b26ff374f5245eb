"""The fit to steps: from measured steps and a starting configuration to parameters, intervals, and what they miss."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from calibrate.campaign.quality import check_coverage
from calibrate.fitting.draw import draw_rows
from calibrate.fitting.leverage import leverage_warning, row_leverage, row_names
from calibrate.fitting.objective import Dataset, build_dataset, leave_out_incomputable
from calibrate.fitting.outliers import list_outliers
from calibrate.fitting.problem import Problem
from calibrate.job.parameter_results import describe_identifiability, parameter_results
from calibrate.job.solution import Question, Solution, refit, solve, standard_errors
from calibrate.job.step_numbers import metrics_of, predictions_table, step_summary
from calibrate.job.task import Task, header
from calibrate.outcome.kernels import compare_with_steps, kernel_warnings
from calibrate.outcome.result import BandSummary, FitResult, ParameterResult
from calibrate.outcome.review import check_loss, check_search, judge, lacks_term, review
from calibrate.outcome.verdicts import step_statements
from calibrate.trust.bands import LEVEL, Bands, prediction_bands
from calibrate.trust.crossval import LEAVE_OUT, Split, predict_parts, splits, starts_of_part
from calibrate.trust.intervals import Intervals, StandardErrors, all_intervals
from calibrate.trust.structure import LackOfFit, Structure, lack_of_fit, residual_structure
from calibrate.trust.thresholds import SIGNIFICANT
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.steps.batch import Floats, StepTable


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
    parts = splits(data, task.options.seed, task.options.cv or LEAVE_OUT)
    task.progress("fitting")
    problem = Problem(task.model, task.start, data, (), task.options.loss)
    asked = _question(task)
    solution = solve(problem, asked)
    solved(solution.solved)
    task.progress("predicting held-out rows")
    held_out = {split.name: _unseen(problem, split, asked, task.options.jobs) for split in parts}
    found = _judged(task, solution, held_out, [*drawn, *dropped])
    return found, solution.solved


def _question(task: Task) -> Question:
    known, options = task.model.parameter_names, task.options
    return Question(
        fixed=[name for name in task.fixed if name in known],
        freed=[name for name in task.freed if name in known],
        starts=options.starts,
        seed=options.seed,
        prior=options.prior,
        prior_strength=options.prior_strength,
    )


def _unseen(problem: Problem, split: Split, asked: Question, jobs: int) -> Floats:
    """Every row predicted by a fit to the other parts, made as the whole was: from the start, with fewer starts."""
    starts = min(asked.starts, starts_of_part(split))
    again = functools.partial(refit, asked=dataclasses.replace(asked, starts=starts))
    return predict_parts(problem, split, again, asked.seed, jobs)


def _judged(
    task: Task, solution: Solution, held_out: Mapping[str, Floats], dropped: Sequence[str]
) -> FitResult:
    """What a solution says, and how far it can be trusted."""
    model, data = solution.problem.model, solution.problem.data
    before_us = model.predict_us(data.table, task.hardware)
    after_us = model.predict_us(data.table, solution.hardware)
    metrics = metrics_of(before_us, after_us, held_out, data)
    form = _form(model, data, after_us, len(solution.problem.free))
    errors = standard_errors(solution, by_slice=form.is_at_fault)
    solution = dataclasses.replace(solution, joint=errors.joint)
    spread = _intervals(task, solution, errors)
    parameters = parameter_results(solution, task.hardware, _fixed_values(task), spread)
    kernels = compare_with_steps(task.estimates, model, parameters)
    outliers, causes = list_outliers(data, after_us, task.options.loss)
    bands = _bands(solution, errors, held_out)
    warnings = [
        *dropped,
        *task.problems,
        *_not_followed(task, solution, parameters),
        *check_search(task.options.starts, solution.search.at_best),
        *([f"Markov chain: {spread.mcmc.note}."] if spread.mcmc and spread.mcmc.note else []),
        *review(metrics, parameters, form.lacks, form.structure, outliers),
        *errors.note,
        *_knee(data, after_us, task.options.loss),
        *leverage_warning(row_leverage(solution.solved, solution.inside), row_names(data.frame)),
        *kernel_warnings(kernels),
        *_limits(model, task.hardware, data.table),
    ]
    statements = step_statements(
        metrics,
        parameters,
        lacks_term=lacks_term(metrics, form.lacks, form.structure),
        composed=form.composed,
    )
    return FitResult(
        **header(task),
        parameters=parameters,
        fit=step_summary(solution, task.options.starts),
        metrics=metrics,
        identifiability=describe_identifiability(solution),
        lack_of_fit=form.lacks,
        structure=form.structure,
        outliers=tuple(outliers),
        profiles=spread.profiles,
        bootstrap=spread.bootstrap,
        mcmc=spread.mcmc,
        bands=None if bands is None else BandSummary(LEVEL, bands.coverage),
        kernels=kernels,
        verdict=judge(metrics, parameters, warnings, statements),
        verdicts=statements,
        warnings=tuple(warnings),
        predictions=predictions_table(
            solution, task.hardware, before_us, after_us, held_out, causes, bands
        ),
    )


@dataclasses.dataclass(frozen=True)
class _Form:
    """What the residuals say of the model's form; ``composed`` rows have no noise: all that is left is misfit."""

    lacks: LackOfFit | None
    structure: tuple[Structure, ...]
    composed: bool

    @property
    def is_at_fault(self) -> bool:
        """Whether the model's misfit moves the values, and not noise alone."""
        lacks = self.lacks is not None and self.lacks.p < SIGNIFICANT
        return self.composed or lacks or bool(self.structure)


def _form(model: LatencyModel, data: Dataset, after_us: Floats, n_free: int) -> _Form:
    return _Form(
        lack_of_fit(model, data, after_us, n_free),
        tuple(residual_structure(model, data, after_us)),
        bool(data.frame["composed"].all()),
    )


def _knee(data: Dataset, after_us: Floats, loss: str) -> list[str]:
    kept = ~data.set_aside
    residual = np.log(after_us / data.measured_us)
    return check_loss(loss, residual[kept], data.sigma[kept])


def _intervals(task: Task, solution: Solution, errors: StandardErrors) -> Intervals:
    options = task.options
    return all_intervals(
        solution.solved,
        solution.inside,
        errors,
        task.intervals,
        options.seed,
        options.jobs,
        task.progress,
    )


def _fixed_values(task: Task) -> dict[str, float]:
    """The values that were fixed by name."""
    known = task.model.parameter_names
    return {n: value for n, value in task.fixed.items() if n in known and value is not None}


def _bands(
    solution: Solution, errors: StandardErrors, held_out: Mapping[str, Floats]
) -> Bands | None:
    """Bands of new runs, whose width the held-out errors set; None where no run could be held out."""
    unseen_us = held_out.get("folds", held_out.get("run"))
    if unseen_us is None:
        return None
    return prediction_bands(solution.solved, errors.by_run, unseen_us)


def _not_followed(
    task: Task, solution: Solution, parameters: Sequence[ParameterResult]
) -> list[str]:
    held = solution.choice.held
    return [
        f"--free {p.name} was not followed: {p.why}."
        for p in parameters
        if p.name in task.freed and p.name in held
    ]


def _limits(model: LatencyModel, hardware: Hardware, table: StepTable) -> list[str]:
    """What the model cannot count, and what the steps do not cover."""
    found = check_coverage(f"the campaigns of {hardware.gpu}", table)
    return [
        *(text for arch in table.architectures for text in model.remarks(arch, hardware)),
        *map(str, found),
    ]
