"""A fit to serving results alone: device parameters stay as kernels, or else the configuration, have them."""

from collections.abc import Mapping

import pandas as pd

from calibrate.job.serving_warnings import options_not_followed, serving_warnings
from calibrate.job.task import Task, header
from calibrate.job.tuning import Tuning, plain, tune, with_tuned
from calibrate.outcome.identifiability import Directions, GroupSensitivity, Identifiability
from calibrate.outcome.result import FitResult, FitSummary, Metrics, ParameterResult
from calibrate.outcome.verdict import Verdict
from calibrate.outcome.verdicts import NO_STEPS, serving_sentence
from calibrate.serving.summary import ServingSummary, mean_error
from calibrate.trust.thresholds import FAIR, GOOD
from sim.hardware import Hardware


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
        verdicts=tuning.statements(NO_STEPS),
        engines=tuning.engines,
        warnings=warnings,
        predictions=pd.DataFrame(),
        serving=tuning.summary,
        served=tuning.served,
    )


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
        plain(name, before[name], values[name], why[name]) for name in task.model.parameter_names
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
        covariance=tuning.summary.covariance,
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
