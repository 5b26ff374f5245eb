"""Every interval of a finished fit, by method, and the one to go by."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path

from calibrate.fitting import covariance
from calibrate.fitting.problem import Problem
from calibrate.records.interval import BootstrapSummary, Interval, McmcSummary, ProfileCurve
from calibrate.trust import bootstrap, mcmc, profile
from sim.models.registry import PARAMETERS

PREFERRED = (profile.METHOD, covariance.METHOD, bootstrap.METHOD, mcmc.METHOD)
"""The first of these that a parameter has is the one to go by, by the coverage that ``make bench`` measures."""

_SHOWN_DRAWS = 1000

Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class IntervalOptions:
    """What a user asked for beyond profiles: so many bootstrap samples, a file that keeps them, a Markov chain."""

    bootstrap: int = 0
    checkpoint: Path | None = None
    mcmc: bool = False


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Intervals by method and parameter, and what they were made from."""

    by_method: dict[str, dict[str, Interval]]
    profiles: dict[str, ProfileCurve]
    bootstrap: BootstrapSummary | None
    mcmc: McmcSummary | None

    def of(self, name: str) -> dict[str, Interval]:
        """A parameter's intervals by method, the one to go by first."""
        return {
            method: self.by_method[method][name]
            for method in PREFERRED
            if name in self.by_method.get(method, {})
        }


def all_intervals(
    problem: Problem,
    inside: Mapping[str, float],
    joint: covariance.Covariance,
    asked: IntervalOptions,
    seed: int,
    jobs: int,
    progress: Progress,
) -> Intervals:
    """Intervals of the parameters ``inside`` their bounds at the solution, which ``problem.hardware`` holds.

    ``joint`` has their standard errors and covariance. Profiles also cover those at a bound, on their open side.
    """
    values = dict(inside)
    progress("following the cost along each parameter")
    profiles = profile.profile_likelihood(problem, values, joint, seed)
    by_method: dict[str, dict[str, Interval]] = {
        covariance.METHOD: {
            name: _within(name, values[name], half) for name, half in joint.half_width.items()
        },
        profile.METHOD: {name: (found.low, found.high) for name, found in profiles.items()},
    }
    drawn = chain = None
    if asked.bootstrap and values:
        drawn = bootstrap.bootstrap(
            problem,
            values,
            asked.bootstrap,
            seed,
            jobs,
            lambda done: progress(f"bootstrap: {done} of {asked.bootstrap} samples"),
            asked.checkpoint,
        )
        by_method[bootstrap.METHOD] = {name: drawn.interval(name) for name in values}
    if asked.mcmc and values:
        chain = mcmc.sample(
            problem,
            values,
            joint,
            seed=seed,
            progress=lambda done: progress(f"chain: {done} steps"),
        )
        by_method[mcmc.METHOD] = {name: chain.interval(name) for name in values} if chain else {}
    return Intervals(
        by_method,
        {name: ProfileCurve(found.values, found.rise) for name, found in profiles.items()},
        None if drawn is None else _summary(drawn),
        None if chain is None else _chain(chain),
    )


def _summary(drawn: bootstrap.Bootstrap) -> BootstrapSummary:
    values = {
        name: [_rounded(value) for value in column.tolist()]
        for name, column in drawn.values.items()
    }
    return BootstrapSummary(len(next(iter(values.values()))), drawn.failed, values)


def _chain(chain: mcmc.Mcmc) -> McmcSummary:
    size = len(next(iter(chain.values.values())))
    every = max(1, size // _SHOWN_DRAWS)
    values = {
        name: [float(f"{value:.6g}") for value in column[::every]]
        for name, column in chain.values.items()
    }
    return McmcSummary(
        size, round(chain.acceptance, 4), round(chain.autocorrelation, 2), chain.note, values
    )


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.6g}")


def _within(name: str, value: float, half_width: float) -> Interval:
    known = PARAMETERS[name]
    return max(value - half_width, known.lower), min(value + half_width, known.upper)
