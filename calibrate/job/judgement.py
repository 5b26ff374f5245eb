"""What a solution says of its parameters, and how far it can be trusted, wherever its rows lie."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from calibrate.campaign.quality import check_coverage
from calibrate.fitting.objective import Dataset
from calibrate.fitting.outliers import list_outliers
from calibrate.job.parameter_results import describe_identifiability, parameter_results
from calibrate.job.solution import Solution
from calibrate.job.step_numbers import predictions_table
from calibrate.job.task import Task, header
from calibrate.outcome.kernels import compare_with_steps, kernel_warnings
from calibrate.outcome.result import BandSummary, FitResult, FitSummary, Metrics, ParameterResult
from calibrate.outcome.review import check_loss, check_search, judge, lacks_term, review
from calibrate.outcome.verdicts import step_statements
from calibrate.trust.bands import LEVEL, Bands, prediction_bands
from calibrate.trust.intervals import Intervals, StandardErrors
from calibrate.trust.structure import LackOfFit, Structure, lack_of_fit, residual_structure
from calibrate.trust.thresholds import SIGNIFICANT
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.steps.batch import Floats, StepTable


@dataclasses.dataclass(frozen=True)
class Form:
    """What the residuals say of the model's form; ``composed`` rows have no noise: all that is left is misfit."""

    lacks: LackOfFit | None
    structure: tuple[Structure, ...]
    composed: bool

    @property
    def is_at_fault(self) -> bool:
        """Whether the model's misfit moves the values, and not noise alone."""
        lacks = self.lacks is not None and self.lacks.p < SIGNIFICANT
        return self.composed or lacks or bool(self.structure)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What the rows say of a solution.

    ``held_out`` predictions in µs, by kind of split, are of the rows of the solution's problem. ``notes`` lead the
    warnings, ``followed`` names rows that the fit follows more than all others.
    """

    metrics: Metrics
    form: Form
    errors: StandardErrors
    spread: Intervals
    fit: FitSummary
    held_out: Mapping[str, Floats]
    notes: Sequence[str]
    followed: Sequence[str] = ()


def form_of(model: LatencyModel, data: Dataset, after_us: Floats, n_free: int) -> Form:
    """What the residuals of some rows, predicted at ``after_us`` (n,), say of the model's form."""
    return Form(
        lack_of_fit(model, data, after_us, n_free),
        tuple(residual_structure(model, data, after_us)),
        bool(data.frame["composed"].all()),
    )


def judged(task: Task, solution: Solution, evidence: Evidence) -> FitResult:
    """The result of a fit to steps: parameters, errors, warnings and verdict, and a row for every step."""
    model, data = solution.problem.model, solution.problem.data
    metrics, form, held_out = evidence.metrics, evidence.form, evidence.held_out
    solution = dataclasses.replace(solution, joint=evidence.errors.joint)
    before_us = model.predict_us(data.table, task.hardware)
    after_us = model.predict_us(data.table, solution.hardware)
    parameters = parameter_results(solution, task.hardware, _fixed_values(task), evidence.spread)
    kernels = compare_with_steps(task.estimates, model, parameters)
    outliers, causes = list_outliers(data, after_us, task.options.loss)
    bands = _bands(solution, evidence.errors, held_out)
    mcmc = evidence.spread.mcmc
    warnings = [
        *evidence.notes,
        *task.problems,
        *_not_followed(task, solution, parameters),
        *check_search(task.options.starts, solution.search.at_best),
        *([f"Markov chain: {mcmc.note}."] if mcmc and mcmc.note else []),
        *review(metrics, parameters, form.lacks, form.structure, outliers),
        *evidence.errors.note,
        *_knee(data, after_us, task.options.loss),
        *evidence.followed,
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
        fit=evidence.fit,
        metrics=metrics,
        identifiability=describe_identifiability(solution),
        lack_of_fit=form.lacks,
        structure=form.structure,
        outliers=tuple(outliers),
        profiles=evidence.spread.profiles,
        bootstrap=evidence.spread.bootstrap,
        mcmc=mcmc,
        bands=None if bands is None else BandSummary(LEVEL, bands.coverage),
        kernels=kernels,
        verdict=judge(metrics, parameters, warnings, statements),
        verdicts=statements,
        warnings=tuple(warnings),
        predictions=predictions_table(
            solution, task.hardware, before_us, after_us, held_out, causes, bands
        ),
    )


def _knee(data: Dataset, after_us: Floats, loss: str) -> list[str]:
    kept = ~data.set_aside
    residual = np.log(after_us / data.measured_us)
    return check_loss(loss, residual[kept], data.sigma[kept])


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
