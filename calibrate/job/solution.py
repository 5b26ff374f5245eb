"""From data to a solution: choose what is free, search, set outliers aside, and weigh in what was known before."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from calibrate.fitting.covariance import (
    BY_NOISE,
    METHOD,
    NO_COVARIANCE,
    Covariance,
    sandwich,
    sandwich_by_slice,
)
from calibrate.fitting.identifiability import (
    Choice,
    HeldStatus,
    Sensitivity,
    choose_free,
    sensitivity,
)
from calibrate.fitting.outliers import isolated
from calibrate.fitting.problem import Problem, opened
from calibrate.fitting.quick import minimise_quickly
from calibrate.fitting.search import Search, search
from calibrate.fitting.solver import Estimate, at_bound, minimise, rounded
from calibrate.fitting.thresholds import FEWEST_TO_DOUBT
from calibrate.job.priors import (
    Prior,
    PriorSource,
    known_priors,
    of_few_rows,
    pulls,
    with_priors,
)
from calibrate.outcome.result import PriorResult
from calibrate.records.errors import CalibrateError
from calibrate.trust.intervals import StandardErrors
from sim.hardware import Hardware

_ROUNDS = 3
_FEW_ROWS = "few rows, and no other GPU tells it; it stays as it starts"


Seek = Callable[..., Search]
"""Searches a problem, given the search ``before``, where others were free."""


class NothingToFitError(CalibrateError):
    """No parameter is left to fit: all are fixed, or the rows show none."""


@dataclasses.dataclass(frozen=True)
class Solution:
    """The best fit. ``problem`` starts where the fit did, without the outliers; ``hardware`` holds the solution.

    ``sensitivity`` is that at the solution; ``inside`` are the free values not at a bound and
    ``joint`` their standard errors and covariance, priors included, made by ``method``; ``known`` are the priors, and
    ``priors`` says what each of them did.
    """

    problem: Problem
    hardware: Hardware
    choice: Choice
    search: Search
    sensitivity_at_start: Sensitivity
    sensitivity: Sensitivity
    joint: Covariance
    priors: dict[str, PriorResult]
    known: Mapping[str, Prior] = dataclasses.field(default_factory=dict)
    method: str = METHOD

    @property
    def solved(self) -> Problem:
        """The problem with the solution as its configuration."""
        return dataclasses.replace(self.problem, hardware=self.hardware)

    @property
    def inside(self) -> dict[str, float]:
        """The values of the free parameters that are not at a bound."""
        return _inside(self.search.best)


@dataclasses.dataclass(frozen=True)
class Question:
    """How to solve a problem: parameters fixed and freed by name, starts of the search, its seed, and a prior.

    ``prior`` and ``prior_strength`` are those of :func:`~calibrate.job.priors.known_priors`. Parameters of priors that
    are known already are free wherever a row sees them.
    """

    fixed: Sequence[str] = ()
    freed: Sequence[str] = ()
    starts: int = 32
    seed: int = 0
    prior: PriorSource | None = None
    prior_strength: float = 1.0


def solve(problem: Problem, asked: Question) -> Solution:
    """Solve for whatever parameters the data of ``problem`` can tell apart (its ``free`` is not read).

    Raises CalibrateError if nothing can be fitted, or for a prior that cannot be read.
    """
    at_start = _at_start(problem, asked)
    everywhere = functools.partial(search, starts=asked.starts, seed=asked.seed)
    choice, result = _search(problem, at_start, asked, everywhere)
    problem = dataclasses.replace(problem, free=choice.free)
    if not _shows_too_little(problem, asked):
        problem, result = _without_outliers(problem, result)
    joint, known, weighed, method = _joint(problem, result.best), {}, {}, METHOD
    if asked.prior is not None:
        alone, of_data = result.best, joint
        if _shows_too_little(problem, asked):
            alone, of_data = dataclasses.replace(alone, values={}), NO_COVARIANCE
        choice = _with_known(problem, choice, asked)
        known = known_priors(asked.prior, asked.prior_strength, choice.free)
        problem = dataclasses.replace(problem, free=choice.free, pulls=pulls(known, of_data))
        result = _rounded(search(problem, asked.starts, asked.seed))
        method, joint = _weighed(problem, result.best, known, of_data)
        weighed = prior_results(known, alone, of_data, joint, result.best.values)
    hardware = problem.hardware.with_values(result.best.values)
    seen = sensitivity(problem.model, hardware, problem.data)
    return Solution(
        problem, hardware, choice, result, at_start, seen, joint, weighed, known, method
    )


def _at_start(problem: Problem, asked: Question) -> Sensitivity:
    movable = [name for name in problem.model.parameter_names if name not in asked.fixed]
    start = opened(problem.model, problem.hardware, movable)
    return sensitivity(problem.model, start, problem.data)


def _with_known(problem: Problem, choice: Choice, asked: Question) -> Choice:
    """The choice with every parameter free that is known beforehand and that a row sees, told apart or not.

    Few rows leave the others where they start.
    """
    if asked.prior is None or isinstance(asked.prior, str):
        return choice
    seen = sensitivity(problem.model, problem.hardware, problem.data)
    beside = () if _shows_too_little(problem, asked) else choice.free
    free = {*asked.prior, *beside, *asked.freed} - {*asked.fixed, *seen.inert}
    left: dict[str, tuple[HeldStatus, str]] = dict.fromkeys(choice.free, ("held", _FEW_ROWS))
    held = {name: entry for name, entry in {**left, **choice.held}.items() if name not in free}
    return Choice(tuple(name for name in seen.names if name in free), held)


def _shows_too_little(problem: Problem, asked: Question) -> bool:
    """Whether each row beside what is known may be the only one to show its parameter: none is set aside then."""
    is_known = asked.prior is not None and not isinstance(asked.prior, str)
    return is_known and len(problem.data) < FEWEST_TO_DOUBT


def _weighed(
    problem: Problem, best: Estimate, known: Mapping[str, Prior], alone: Covariance
) -> tuple[str, Covariance]:
    """Covariance of data and priors at an estimate, and how it was made."""
    data, method = (_joint(problem, best) if alone.stderr else NO_COVARIANCE), METHOD
    if not data.stderr:
        at_best = dataclasses.replace(problem, hardware=problem.hardware.with_values(best.values))
        data, method = of_few_rows(at_best, _inside(best), known, alone), BY_NOISE
    return method, with_priors(data, known, problem.pulls, best.values)


def refit(problem: Problem, asked: Question, *, quickly: bool = False) -> dict[str, float]:
    """The values that :func:`solve` finds on a part of the rows; none where those can fit nothing.

    ``quickly``: jointly from the configuration alone, as may be done where all rows have one minimum
    (:attr:`Search.agreed`). With priors all starts are tried.
    """
    try:
        if not quickly or asked.prior is not None:
            return solve(problem, asked).search.best.values
        return _solve_quickly(problem, asked).best.values
    except NothingToFitError:
        return {}


def _solve_quickly(problem: Problem, asked: Question) -> Search:
    choice, found = _search(problem, _at_start(problem, asked), asked, _from_one)
    problem = dataclasses.replace(problem, free=choice.free)
    return _without_outliers(problem, found, minimise_quickly)[1]


def _from_one(problem: Problem, before: Search | None) -> Search:
    ended = {} if before is None else before.best.values
    start = {name: ended.get(name, value) for name, value in problem.start.items()}
    found = minimise_quickly(problem, start)
    return Search(found, (found.cost,))


def _search(
    problem: Problem, at_start: Sensitivity, asked: Question, seek: Seek
) -> tuple[Choice, Search]:
    """Choose what is free at the start, fit, and look again at the solution until the choice stands."""
    values = problem.model.parameters(problem.hardware)
    choice = choose_free(at_start, values, asked.fixed, asked.freed)
    before: Search | None = None
    for remaining in reversed(range(_ROUNDS)):
        if not choice.free:
            raise NothingToFitError(
                "nothing can be fitted: every parameter is fixed, or no row of the data sees it"
            )
        free = dataclasses.replace(problem, free=choice.free)
        result = before = _rounded(seek(free, before=before))
        seen = sensitivity(
            problem.model, problem.hardware.with_values(result.best.values), problem.data
        )
        again = choose_free(seen, values, asked.fixed, asked.freed)
        revised = _revise(choice, again, seen)
        if revised.free == choice.free or not remaining:
            break
        choice = revised
    return choice, result


def _revise(choice: Choice, again: Choice, seen: Sensitivity) -> Choice:
    """Let go of what no row sees at the solution, and take up what was unseen at the start only."""
    gone = {name for name in choice.free if name in seen.inert}
    new = {name for name in again.free if choice.held.get(name, ("",))[0] == "inert"}
    free = tuple(name for name in seen.names if name in ({*choice.free} | new) - gone)
    held = {**choice.held, **{name: again.held[name] for name in gone if name in again.held}}
    return Choice(free, {name: entry for name, entry in held.items() if name not in free})


def _without_outliers(
    problem: Problem,
    result: Search,
    minimised: Callable[[Problem, Mapping[str, float]], Estimate] = minimise,
) -> tuple[Problem, Search]:
    """Set isolated outliers aside and fit again until they stay the same; a linear loss trusts every row."""
    for _ in range(_ROUNDS if problem.loss != "linear" else 0):
        data = problem.data
        predicted = problem.model.predict_us(
            data.table, problem.hardware.with_values(result.best.values)
        )
        rows = isolated(data, np.log(predicted / data.measured_us))
        if (rows == data.set_aside).all():
            break
        problem = dataclasses.replace(problem, data=data.setting_aside(rows))
        again = minimised(problem, result.best.values)
        best = dataclasses.replace(again, evaluations=result.best.evaluations + again.evaluations)
        result = _rounded(dataclasses.replace(result, best=best))
    return problem, result


def _rounded(result: Search) -> Search:
    return dataclasses.replace(
        result, best=dataclasses.replace(result.best, values=rounded(result.best.values))
    )


def _inside(best: Estimate) -> dict[str, float]:
    return {name: value for name, value in best.values.items() if not at_bound(name, value)}


def _joint(problem: Problem, best: Estimate) -> Covariance:
    """Standard errors from the data alone, at an estimate."""
    at_best = dataclasses.replace(problem, hardware=problem.hardware.with_values(best.values))
    return sandwich(at_best, _inside(best))


def standard_errors(solution: Solution, *, by_slice: bool) -> StandardErrors:
    """Standard errors of what lies inside its bounds, by run, and by slice too where the model is at fault."""
    by_run = StandardErrors(solution.joint, run_method=solution.method)
    if not by_slice or solution.method != METHOD:
        return by_run
    method, found = sandwich_by_slice(solution.solved, solution.inside)
    both = with_priors(found, solution.known, solution.problem.pulls, solution.inside)
    return dataclasses.replace(by_run, by_slice=both, slice_method=method)


def prior_results(
    known: Mapping[str, Prior],
    alone: Estimate,
    data: Covariance,
    joint: Covariance,
    values: Mapping[str, float],
) -> dict[str, PriorResult]:
    """What each prior did, beside the estimate that the data alone gives; ``values`` are those of both together."""
    return {
        name: PriorResult(
            source=prior.source,
            mean=prior.value(name),
            sd=prior.sd / prior.slope(name, prior.value(name)),
            data=alone.values.get(name),
            data_sd=data.stderr.get(name),
            pull=(joint.stderr[name] * prior.slope(name, values[name]) / prior.sd) ** 2
            if name in joint.stderr
            else None,
        )
        for name, prior in known.items()
    }
