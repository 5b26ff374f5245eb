"""The last step of a fit: what serving results add to a fit to steps."""

import dataclasses
from collections.abc import Container, Mapping, Sequence

import pandas as pd

from calibrate.fitting.covariance import METHOD
from calibrate.fitting.problem import Problem
from calibrate.fitting.solver import at_bound
from calibrate.job.serving_warnings import serving_warnings
from calibrate.job.task import Task, header
from calibrate.outcome.result import FitResult, ParameterResult
from calibrate.outcome.review import count_warnings
from calibrate.outcome.verdict import Statement, Verdict
from calibrate.outcome.verdicts import serving_sentence, with_engines, with_serving
from calibrate.parameters.own import is_own, own_name
from calibrate.parameters.registry import in_order
from calibrate.serving.by_engine import engines_of
from calibrate.serving.each_engine import summarise_each, summarise_together
from calibrate.serving.fit import ServingSolution, solve_serving, tuned_values
from calibrate.serving.points import ServingPoints, serving_points
from calibrate.serving.problem import ServingProblem
from calibrate.serving.summary import ServingSummary, Tuned, served_table
from sim.hardware import Hardware
from sim.models.registry import PARAMETERS
from sim.models.request_times import REQUEST_TIMES
from sim.serving.engine_kinds import only_kind


@dataclasses.dataclass(frozen=True, eq=False)
class Tuning:
    """A fit to serving results: the solution, what it says, and its figures, one row a load point and figure.

    ``shipped`` are times of the engine that neither the configuration nor the fit gave. ``engines`` says what the fit
    to several engines found of each.
    """

    solution: ServingSolution
    summary: ServingSummary
    served: pd.DataFrame
    shipped: Mapping[str, float]
    engines: tuple[ServingSummary, ...] = ()

    def statements(self, of_steps: Sequence[Statement]) -> tuple[Statement, ...]:
        """The statements on a fit, with that on servers."""
        if self.engines:
            return with_engines(of_steps, self.engines)
        return with_serving(of_steps, self.summary)


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
        verdicts=tuning.statements(result.verdicts),
        engines=tuning.engines,
        warnings=warnings,
        data=fields["data"],
        duration_s=fields["duration_s"],
    )


def tune(task: Task, hardware: Hardware, steps: Problem | None) -> Tuning:
    """Fit to the serving rows from ``hardware``, held by ``steps`` where something that they see is free.

    Each of several engines has its own terms; what else moves is shared. Raises CalibrateError if no row can be used,
    or nothing can be fitted to them.
    """
    points = serving_points(task.campaigns, hardware, task.model, task.options.engine)
    apart = points.frame["engine"].nunique() > 1
    shipped = (
        _times_of_each(points, hardware, task)
        if apart
        else added_times(points, hardware, task.fixed)
    )
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
        apart=apart,
    )
    solution = solve_serving(problem, task.progress)
    summary = summarise_together(solution)
    engines = summarise_each(solution, shipped) if apart else ()
    return Tuning(solution, summary, served_table(solution), shipped, engines)


def _times_of_each(points: ServingPoints, hardware: Hardware, task: Task) -> dict[str, float]:
    """The times of :func:`added_times`, each by its engine's own name."""
    return {
        own_name(name, engine): value
        for engine, rows in engines_of(points)
        for name, value in added_times(points.take(rows), hardware, task.fixed).items()
    }


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
            name: plain(name, before[name], value, "fixed by name") for name, value in fixed.items()
        },
        **{
            name: plain(name, before[name], value, "as measured on other servers of this engine")
            for name, value in tuning.shipped.items()
            if not is_own(name)
        },
        **{
            one.name: _result(one, before[one.name])
            for one in tuning.summary.tuned
            if not is_own(one.name)
        },
    }
    return tuple(together[name] for name in in_order(together, task.model))


def _result(one: Tuned, start: float) -> ParameterResult:
    stuck = at_bound(one.name, one.value)
    why = (
        "serving results pull it against its physical bound"
        if stuck
        else "tuned to serving results"
    )
    held = plain(one.name, start, one.value, why)
    if stuck or one.ci90 is None:
        return dataclasses.replace(held, status="at-bound" if stuck else "fitted")
    return dataclasses.replace(
        held,
        status="fitted",
        stderr=one.stderr,
        ci90=one.ci90,
        ci90_method=METHOD,
        intervals={METHOD: one.ci90},
    )


def plain(name: str, start: float, value: float, why: str) -> ParameterResult:
    """A parameter as it is held, or before anything is said of how sure its value is."""
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
