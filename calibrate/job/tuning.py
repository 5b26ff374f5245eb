"""The last step of a fit: what serving results add to, or make without, a fit to steps."""

import dataclasses
from collections.abc import Container, Mapping, Sequence

import pandas as pd

from calibrate.fitting.covariance import METHOD
from calibrate.fitting.problem import Problem
from calibrate.fitting.solver import at_bound
from calibrate.job.serving_warnings import options_not_followed, serving_warnings
from calibrate.job.task import Task, header
from calibrate.outcome.identifiability import Directions, GroupSensitivity, Identifiability
from calibrate.outcome.result import FitResult, FitSummary, Metrics, ParameterResult
from calibrate.outcome.review import count_warnings
from calibrate.outcome.verdict import Verdict
from calibrate.outcome.verdicts import serving_sentence, serving_statements, with_serving
from calibrate.parameters.registry import in_order
from calibrate.serving.fit import ServingProblem, ServingSolution, solve_serving, tuned_values
from calibrate.serving.points import ServingPoints, serving_points
from calibrate.serving.summary import ServingSummary, Tuned, mean_error, served_table, summarise
from calibrate.trust.thresholds import FAIR, GOOD
from sim.hardware import Hardware
from sim.models.registry import PARAMETERS
from sim.models.request_times import REQUEST_TIMES
from sim.serving.engine_kinds import only_kind


@dataclasses.dataclass(frozen=True, eq=False)
class Tuning:
    """A fit to serving results: the solution, what it says, and its figures, one row a load point and figure.

    ``shipped`` are times of the engine that neither the configuration nor the fit gave.
    """

    solution: ServingSolution
    summary: ServingSummary
    served: pd.DataFrame
    shipped: Mapping[str, float]


def add_serving(result: FitResult, task: Task, steps: Problem) -> FitResult:
    """A fit to steps, gone on to the campaigns' serving results; what the steps determine holds it there.

    Raises CalibrateError if no serving row can be used, or nothing can be fitted to them.
    """
    tuning = tune(task, task.start.with_values(result.values), steps)
    summary = tuning.summary
    warnings = (*result.warnings, *serving_warnings(tuning.solution, tuning.summary))
    of_steps = [
        text for text in result.verdict.reasons if text not in count_warnings(result.warnings)
    ]
    reasons = (*of_steps, *count_warnings(warnings), *summary.explanation)
    level = "poor" if summary.is_worse else result.verdict.level
    sentence = f"{result.verdict.sentence} {serving_sentence(summary)}"
    fields = header(task, serving=True)
    return dataclasses.replace(
        result,
        parameters=with_tuned(result.parameters, tuning, task),
        serving=summary,
        served=tuning.served,
        verdict=Verdict(level, sentence, reasons),
        verdicts=with_serving(result.verdicts, summary),
        warnings=warnings,
        data=fields["data"],
        duration_s=fields["duration_s"],
    )


def fit_serving(task: Task) -> FitResult:
    """A fit to serving results alone: device parameters stay as kernels, or else the configuration, have them."""
    known = {
        one.parameter: one.value
        for one in task.estimates
        if one.parameter in task.model.parameter_names
    }
    start = task.start.with_values(
        {name: value for name, value in known.items() if name not in task.fixed}
    )
    tuning = tune(task, start, None)
    warnings = (
        *task.problems,
        *options_not_followed(task),
        *serving_warnings(tuning.solution, tuning.summary),
    )
    held = held_parameters(task, start, known)
    return FitResult(
        **header(task, serving=True),
        parameters=with_tuned(held, tuning, task),
        fit=fit_summary(tuning, task.options.loss),
        metrics=Metrics({}, {}, {}),
        identifiability=identifiability(tuning),
        lack_of_fit=None,
        structure=(),
        outliers=(),
        profiles={},
        bootstrap=None,
        mcmc=None,
        bands=None,
        verdict=judge_serving(tuning.summary),
        verdicts=serving_statements(tuning.summary),
        warnings=warnings,
        predictions=pd.DataFrame(),
        serving=tuning.summary,
        served=tuning.served,
    )


def tune(task: Task, hardware: Hardware, steps: Problem | None) -> Tuning:
    """Fit to the serving rows from ``hardware``, held by ``steps`` where something that they see is free.

    Raises CalibrateError if no row can be used, or nothing can be fitted to them.
    """
    points = serving_points(task.campaigns, hardware, task.model, task.options.engine)
    shipped = added_times(points, hardware, task.fixed)
    fixed, freed = list(task.fixed), task.freed
    problem = ServingProblem(
        points,
        task.model,
        hardware.with_values(shipped),
        task.options.loss,
        task.options.floor,
        steps,
        fixed,
        freed,
        task.options.cv,
        task.options.seed,
    )
    solution = solve_serving(problem, task.progress)
    return Tuning(solution, summarise(solution), served_table(solution), shipped)


def added_times(
    points: ServingPoints, hardware: Hardware, fixed: Container[str]
) -> dict[str, float]:
    """The times of the engine that are neither known, fixed nor tuned, where a sampler sorts logits."""
    if not any(point.arch.sampling.sorts for point in points.points):
        return {}
    times = only_kind(points.frame["engine"]).added_times(hardware)
    return {
        name: value
        for name, value in times.items()
        if name not in fixed and not PARAMETERS[name].is_tuned
    }


def with_tuned(
    parameters: Sequence[ParameterResult], tuning: Tuning, task: Task
) -> tuple[ParameterResult, ...]:
    """Every parameter, those that serving results moved with their new value and interval, in the registry's order."""
    before = {
        **tuned_values(task.model, task.hardware),
        **{known.name: known.start for known in parameters},
    }
    fixed = {
        name: task.start.values.get(name, 0.0)
        for name in task.fixed
        if PARAMETERS[name] in REQUEST_TIMES
    }
    together = {
        **{known.name: known for known in parameters},
        **{
            name: _plain(name, before[name], value, "fixed by name")
            for name, value in fixed.items()
        },
        **{
            name: _plain(name, before[name], value, "as measured on other servers of this engine")
            for name, value in tuning.shipped.items()
        },
        **{one.name: _result(one, before[one.name]) for one in tuning.summary.tuned},
    }
    return tuple(together[name] for name in in_order(together, task.model))


def held_parameters(
    task: Task, start: Hardware, of_kernels: Mapping[str, float]
) -> tuple[ParameterResult, ...]:
    """Every parameter of the model as a fit without steps holds it."""
    before = task.model.parameters(task.hardware)
    values = task.model.parameters(start)
    why = {
        **dict.fromkeys(values, "there are no steps to fit it to"),
        **dict.fromkeys(of_kernels, "there are no steps to fit it to: taken from the kernels"),
        **dict.fromkeys(task.fixed, "fixed by name"),
    }
    return tuple(
        _plain(name, before[name], values[name], why[name]) for name in task.model.parameter_names
    )


def fit_summary(tuning: Tuning, loss: str) -> FitSummary:
    """How the minimisation over serving results alone went."""
    estimate = tuning.solution.estimate
    return FitSummary(
        status="converged" if estimate.success else "stopped",
        message=estimate.message,
        cost=estimate.cost,
        n_rows=tuning.summary.points,
        n_free=len(estimate.values),
        n_evaluations=estimate.evaluations,
        starts=1,
        starts_at_best=1,
        costs=(estimate.cost,),
        loss=loss,
        covariance=tuning.solution.joint.by_name(),
    )


def identifiability(tuning: Tuning) -> Identifiability:
    """What the serving results alone tell apart."""
    seen = tuning.solution.sensitivity
    free = tuple(tuning.solution.values)
    correlations = seen.correlations(free)
    singular = tuple(float(f"{value:.4g}") for value in seen.singular_values(free))
    found = Directions(
        seen.rank, seen.condition_number(free), seen.collinearity_index(free), singular
    )
    return Identifiability(
        rank=seen.rank,
        n_free=len(free),
        condition_number=found.condition_number,
        collinearity_index=found.collinearity_index,
        singular_values=singular,
        inert=seen.inert,
        groups=(),
        correlations={
            a: {b: round(float(correlations[i, j]), 4) for j, b in enumerate(free)}
            for i, a in enumerate(free)
        },
        start=found,
        sensitivity=GroupSensitivity((), (), {}),
    )


def judge_serving(summary: ServingSummary) -> Verdict:
    """The verdict on a fit that only serving results made."""
    unseen = mean_error(summary.unseen)
    level = "good" if unseen <= GOOD and summary.held_out else "fair" if unseen <= FAIR else "poor"
    if summary.is_worse:
        level = "poor"
    return Verdict(level, serving_sentence(summary), summary.explanation)  # type: ignore[arg-type]  # widened to str


def _result(one: Tuned, start: float) -> ParameterResult:
    stuck = at_bound(one.name, one.value)
    why = (
        "serving results pull it against its physical bound"
        if stuck
        else "tuned to serving results"
    )
    plain = _plain(one.name, start, one.value, why)
    if stuck or one.ci90 is None:
        return dataclasses.replace(plain, status="at-bound" if stuck else "fitted")
    return dataclasses.replace(
        plain,
        status="fitted",
        stderr=one.stderr,
        ci90=one.ci90,
        ci90_method=METHOD,
        intervals={METHOD: one.ci90},
    )


def _plain(name: str, start: float, value: float, why: str) -> ParameterResult:
    known = PARAMETERS[name]
    return ParameterResult(
        name=name,
        value=value,
        start=start,
        unit=known.unit,
        lower=known.lower,
        upper=known.upper,
        guide=known.guide,
        stderr=None,
        ci90=None,
        ci90_method=None,
        intervals={},
        status="held",
        why=why,
    )
