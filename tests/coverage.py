"""Synthetic truths, each fitted: does an interval of a parameter cover what the steps were made from?"""

import collections
import dataclasses
from collections.abc import Iterable

import numpy as np
from scipy import stats

from calibrate.fitting import covariance
from calibrate.fitting.problem import Problem
from calibrate.fitting.search import fit_staged
from calibrate.fitting.solver import at_bound
from calibrate.records.interval import Interval
from calibrate.trust import profile

Found = tuple[str, str, bool]
"""Method, parameter, and whether its interval covers the truth."""


def gaussian(steps, rng):
    return np.ones(len(steps))


def outliers(steps, rng):
    """A tenth of the rows off by a factor of 3, up or down."""
    return np.where(rng.random(len(steps)) < 0.1, 3.0 ** rng.choice([-1, 1], len(steps)), 1.0)


def correlated_runs(steps, rng):
    """Every run off as a whole, by 5%."""
    factors = {run: np.exp(0.05 * rng.standard_normal()) for run in steps["run_id"].unique()}
    return steps["run_id"].map(factors).to_numpy()


def solved(problem: Problem) -> tuple[Problem, dict[str, float]]:
    """The problem at its solution, and the parameters inside their bounds there."""
    fitted = fit_staged(problem).values
    values = {name: value for name, value in fitted.items() if not at_bound(name, value)}
    return dataclasses.replace(problem, hardware=problem.hardware.with_values(fitted)), values


def intervals(problem: Problem, values: dict[str, float]) -> dict[tuple[str, str], Interval]:
    """The 90% intervals that every fit has, by method and parameter."""
    known = covariance.sandwich(problem, values)
    profiles = profile.profile_likelihood(problem, values, known)
    straight = {
        (covariance.METHOD, name): (values[name] - half, values[name] + half)
        for name, half in known.half_width.items()
    }
    bent = {(profile.METHOD, name): (found.low, found.high) for name, found in profiles.items()}
    return straight | bent


def covered(ends: dict[tuple[str, str], Interval], truth: dict[str, float]) -> list[Found]:
    """Whether each interval covers the truth; a side without an end is open."""
    return [
        (
            method,
            name,
            (low is None or low <= truth[name]) and (high is None or truth[name] <= high),
        )
        for (method, name), (low, high) in ends.items()
    ]


@dataclasses.dataclass(frozen=True)
class Coverage:
    """How many of the intervals of a method cover the truth, by parameter: (those that do, all)."""

    method: str
    by_parameter: dict[str, tuple[int, int]]

    @property
    def hits(self) -> int:
        """Intervals that cover the truth."""
        return sum(hits for hits, _ in self.by_parameter.values())

    @property
    def count(self) -> int:
        """All intervals."""
        return sum(count for _, count in self.by_parameter.values())

    def __str__(self) -> str:
        shares = ", ".join(f"{name} {h / n:.0%}" for name, (h, n) in self.by_parameter.items())
        return f"{self.method}: {self.hits / self.count:.1%} of {self.count} intervals cover ({shares})"


def coverages(found: Iterable[Found]) -> list[Coverage]:
    """What was found of many truths, by method."""
    tally: dict[str, dict[str, list[bool]]] = collections.defaultdict(
        lambda: collections.defaultdict(list)
    )
    for method, name, inside in found:
        tally[method][name].append(inside)
    return [
        Coverage(method, {name: (sum(ones), len(ones)) for name, ones in by_name.items()})
        for method, by_name in tally.items()
    ]


def binomial_limits(count: int, share: float, chance: float) -> tuple[int, int]:
    """Hits that ``count`` trials of this ``share`` stay within, but for a ``chance``."""
    low, high = stats.binom.interval(1 - chance, count, share)
    return int(low), int(high)
