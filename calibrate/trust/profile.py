"""Profile likelihood: how the cost rises as one parameter is moved and the others follow, and where it rises too far.

The cost is no log-likelihood: rows are weighted, outliers played down, rows of a run err together. Its rise is
therefore measured against a threshold of the parameter's own, at which a quadratic cost gives back the interval of the
sandwich (the adjusted profile likelihood of Chandler and Bate 2007). Where the cost is not quadratic, the interval
follows it.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np
from scipy.optimize import brentq

from calibrate.fitting.covariance import Covariance, sandwich, sandwich_by_slice, wider
from calibrate.fitting.problem import Problem
from calibrate.fitting.quick import minimise_quickly
from calibrate.fitting.search import thin
from calibrate.fitting.solver import cost, minimise, snap
from calibrate.records.workers import in_parts
from calibrate.trust.thresholds import FARTHEST
from sim.models.registry import PARAMETERS

METHOD = "profile likelihood"
_ROWS = 5000  # a larger campaign is thinned: the rows give the shape of the cost, the sandwich its scale
# Of the sandwich's half-width (but no more of the value itself), and from step to step
_FIRST_STEP, _GROWTH = (0.2, 1.5)
_ACCURACY = 5e-3  # of an end, as a share of the step that holds it
_CAP = 3.0
_EXACT = 1e-7  # an interval this narrow, beside the value, is that of data without noise


@dataclasses.dataclass(frozen=True)
class Profile:
    """The rise of the cost, in units of the threshold, at values of one parameter, sorted.

    ``low`` and ``high`` are where the rise crosses 1: the ends of the 90% interval. None: it does not up to the
    physical bound, or to a factor of a thousand; the data does not bound the parameter on that side.
    """

    values: tuple[float, ...]
    rise: tuple[float, ...]
    low: float | None
    high: float | None


def profile_likelihood(
    problem: Problem,
    values: Mapping[str, float],
    intervals: Covariance,
    seed: int = 0,
    jobs: int = 1,
    done: Callable[[], None] = lambda: None,
    *,
    by_slice: bool = False,
) -> dict[str, Profile]:
    """Profiles of the parameters ``values``, and of those free ones that ended at a bound, on their one open side.

    ``problem.hardware`` holds the solution, ``values`` the free parameters inside their bounds there, ``intervals``
    their sandwich. Empty where that is; a parameter at a bound is left out where the sandwich with it is singular,
    and every one that data without noise determines exactly.
    At a bound the interval covers at least as often as it says: the cost of what lies beyond is not known.
    ``by_slice`` says that their own intervals, too, are the wider of those by run and by slice.
    ``done`` is called after each of them. Above 5,000 rows the shape of the cost is taken from that many.
    """
    if not intervals.stderr:
        return {}
    few = problem.on(thin(problem.data, _ROWS, seed)) if len(problem.data) > _ROWS else problem
    solution = problem.model.parameters(problem.hardware)
    start = {name: solution[name] for name in problem.free} | dict(values)
    best = minimise(few, start)
    centre = (
        start
        if few is problem
        else {name: snap(name, value) for name, value in best.values.items()}
    )
    of_few = intervals if few is problem else sandwich(few, dict(values))
    curves = {}
    for name in problem.free:
        inside = {**values, name: start[name]}
        spread, shape = (
            (intervals, of_few)
            if name in values
            else _with(inside, problem, few, by_slice=by_slice)
        )
        if shape.stderr and spread.half_width.get(name, 0.0) > _EXACT * _size(name, start[name]):
            curve = _Curve(few, name, best.cost, _threshold(name, spread, shape))
            curve.rises[centre[name]], curve.fits[centre[name]] = 0.0, best.values
            curves[name] = curve, centre[name], spread.half_width[name]
    profiles = {}
    for name, found in zip(curves, in_parts(_profile, curves.values(), jobs), strict=True):
        moved = 0.0 if few is problem else start[name] - centre[name]
        profiles[name] = _moved(found, name, moved) if moved else found
        done()
    return profiles


def _with(
    inside: dict[str, float], problem: Problem, few: Problem, *, by_slice: bool
) -> tuple[Covariance, Covariance]:
    """The sandwiches of all rows and of few when a parameter at its bound is among the free ones."""
    by_run = sandwich(problem, inside)
    spread = wider(by_run, sandwich_by_slice(problem, inside)[1]) if by_slice else by_run
    return spread, by_run if few is problem else sandwich(few, inside)


def _threshold(name: str, spread: Covariance, shape: Covariance) -> float:
    """The rise of a quadratic cost, of the curvature ``shape`` has, at the half-width that ``spread`` has."""
    position = list(shape.stderr).index(name)
    return spread.half_width[name] ** 2 / (
        2 * float(np.linalg.inv(shape.curvature)[position, position])
    )


@dataclasses.dataclass(frozen=True)
class _Curve:
    """The profile of one parameter as far as it is known: rises and the other parameters' values, by its value."""

    problem: Problem
    name: str
    best: float
    threshold: float
    rises: dict[float, float] = dataclasses.field(default_factory=dict)
    fits: dict[float, Mapping[str, float]] = dataclasses.field(default_factory=dict)

    def rise(self, value: float, *neighbours: float) -> float:
        """The rise at a value, the others fitted from where a line through the nearest two known fits has them.

        Where it is above that of all its ``neighbours``, they are also fitted from each of these: the best counts.
        """
        if value not in self.rises:
            held = self.problem.hardware.with_values({self.name: value})
            problem = dataclasses.replace(self.problem, hardware=held)
            fits = [self._refit(problem, self._expected(value))]
            highest = max(self.rises[neighbour] for neighbour in neighbours)
            if len(neighbours) > 1 and self._rise_to(fits[0][0]) > highest:
                fits += [self._refit(problem, self.fits[neighbour]) for neighbour in neighbours]
            reached, self.fits[value] = min(fits, key=lambda fit: fit[0])
            self.rises[value] = self._rise_to(reached)
        return self.rises[value]

    def _rise_to(self, reached: float) -> float:
        return (reached - self.best) / self.threshold

    def _expected(self, value: float) -> Mapping[str, float]:
        """The other parameters on the line through the fits at the nearest two known values."""
        near, *far = sorted(self.fits, key=lambda known: abs(known - value))[:2]
        if not far:
            return self.fits[near]
        share = (value - near) / (far[0] - near)
        ends = self.fits[near], self.fits[far[0]]
        return {name: at + share * (ends[1].get(name, at) - at) for name, at in ends[0].items()}

    def _refit(
        self, problem: Problem, start: Mapping[str, float]
    ) -> tuple[float, Mapping[str, float]]:
        others = {name: value for name, value in start.items() if name != self.name}
        if not others:
            return cost(problem, {}), {}
        estimate = minimise_quickly(problem, others)
        return estimate.cost, estimate.values


def _profile(curve: _Curve, value: float, half_width: float) -> Profile:
    known = PARAMETERS[curve.name]
    size = _size(curve.name, value)
    step = _FIRST_STEP * min(half_width, size)
    low = _end(curve, value, step, max(known.lower, -FARTHEST * size))
    high = _end(curve, value, step, min(known.upper, FARTHEST * size))
    order = sorted(curve.rises)
    return Profile(tuple(order), tuple(curve.rises[x] for x in order), low, high)


def _size(name: str, value: float) -> float:
    """What is much or little of a parameter, also where its value is 0."""
    return max(abs(value), *map(abs, PARAMETERS[name].guide))


def _moved(profile: Profile, name: str, by: float) -> Profile:
    """The profile about the estimate from all rows instead of that from a part of them."""
    known = PARAMETERS[name]

    def move(value: float) -> float:
        return min(max(value + by, known.lower), known.upper)

    low, high = (None if end is None else move(end) for end in (profile.low, profile.high))
    return Profile(tuple(move(value) for value in profile.values), profile.rise, low, high)


def _end(curve: _Curve, value: float, step: float, limit: float) -> float | None:
    """Where the rise first crosses 1 between the solution and a limit."""
    inner = value
    while inner != limit:
        outer = math.copysign(step, limit - value) + value
        outer = outer if abs(outer - value) < abs(limit - value) else limit
        if curve.rise(outer, inner) >= 1:
            return _crossing(curve, inner, outer)
        inner, step = outer, step * _GROWTH
    return None


def _crossing(curve: _Curve, inner: float, outer: float) -> float:
    """By root finding in √rise, which is straight where the cost is quadratic."""

    def beyond(value: float) -> float:
        return min(math.sqrt(max(curve.rise(value, inner, outer), 0.0)), _CAP) - 1.0

    return float(brentq(beyond, inner, outer, xtol=_ACCURACY * abs(outer - inner)))
