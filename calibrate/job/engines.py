"""What servers of each engine add to the steps of a fit: their terms, each in its own entry of the configuration."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping

from calibrate.fitting.problem import Problem
from calibrate.job.partition_fit import fit_all_steps
from calibrate.job.task import Task
from calibrate.job.tuning import added_times
from calibrate.outcome.result import FitResult
from calibrate.outcome.verdicts import with_engines
from calibrate.records.beside import beside
from calibrate.records.errors import CalibrateError
from calibrate.serving.engine_problem import engine_problem
from calibrate.serving.engine_rows import EngineRows, all_closed, rows_of_engines
from calibrate.serving.quick_fit import solve_quickly
from calibrate.serving.summary import ServingSummary, summarise
from sim.hardware import Hardware, is_engine
from sim.models.registry import PARAMETERS


def fit_with_engines(task: Task) -> FitResult:
    """A fit to steps with what a draw of the campaigns' serving results says of each engine.

    The values of the fit stay as the steps have them. Raises CalibrateError where nothing can be fitted to the steps,
    or the engine asked for has no rows.
    """
    begun: list[Callable[[], tuple[ServingSummary, ...]]] = []
    result, _ = fit_all_steps(
        task, lambda solved: begun.append(beside(functools.partial(_engines, task, solved)))
    )
    task.progress("fitting what engines add")
    (found,) = (one() for one in begun)
    if not found:
        return result
    statements = with_engines(result.verdicts, found)
    duration_s = round(time.perf_counter() - task.began, 3)
    return dataclasses.replace(result, engines=found, verdicts=statements, duration_s=duration_s)


def _engines(task: Task, steps: Problem) -> tuple[ServingSummary, ...]:
    """What each engine adds to ``steps``.

    Steps composed of kernels show nothing of it; any other determine what they see of it.
    """
    drawn = rows_of_engines(task.campaigns, steps.hardware, task.model)
    asked = task.options.engine
    if asked:
        drawn = _of(drawn, asked)
    composed = bool(steps.data.frame["composed"].all())
    held = [*task.fixed, *(() if composed else task.model.parameter_names)]
    terms = (_terms(one, task, steps.hardware, held) for one in drawn)
    return tuple(one for one in terms if one is not None)


def _of(drawn: list[EngineRows], asked: str) -> list[EngineRows]:
    found = [one for one in drawn if is_engine(one.engine, asked)]
    if not found:
        names = ", ".join(one.engine for one in drawn) or "none that can be used"
        raise CalibrateError(f"no serving rows of engine {asked!r} to fit to: they are of {names}")
    return found


def _terms(
    rows: EngineRows, task: Task, hardware: Hardware, held: list[str]
) -> ServingSummary | None:
    """What one engine adds; None where its rows show nothing of it."""
    options = task.options
    times = added_times(rows.points, hardware, task.fixed)
    problem = engine_problem(
        rows,
        task.model,
        hardware.with_values(times),
        options.loss,
        options.floor,
        fixed=held,
        cv=options.cv,
        seed=options.seed,
        lent=task.lent.get(rows.engine),
    )
    solution = solve_quickly(problem)
    if solution is None:
        return None
    return dataclasses.replace(
        summarise(solution), rows=rows.rows, times=times, closed=all_closed(rows.points)
    )


def travelling(lent: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """What of another GPU's engines holds here: times, but no share of that GPU's peaks."""
    return {
        engine: {name: value for name, value in terms.items() if not PARAMETERS[name].of_engines}
        for engine, terms in lent.items()
    }


def with_lent_engines(result: FitResult, lent: Mapping[str, Mapping[str, float]]) -> FitResult:
    """The fit with the terms of engines that another GPU lends, where its own serving results do not say them."""
    own = engine_entries(result)
    held = {name: dict(terms) for name, terms in lent.items() if name not in own}
    if not held:
        return result
    note = f"The terms of {', '.join(held)} are those of another GPU's servers, held: no serving result here says them."
    return dataclasses.replace(result, lent=held, warnings=(*result.warnings, note))


def engine_entries(result: FitResult) -> dict[str, dict[str, float]]:
    """The terms of each engine by its name: those lent, and of those fitted what predicts better than without."""
    fitted = {one.engine: one.terms for one in result.engines if not one.is_worse}
    return {**result.lent, **fitted}


def models_of_engines(result: FitResult) -> dict[str, tuple[str, ...]]:
    """The models that each engine served, where serving results were fitted."""
    served = [*result.engines, *([result.serving] if result.serving else [])]
    return {one.engine: one.models for one in served if one.engine and one.models}
