"""Every interval of a finished fit, by method, and the one to go by."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path

from calibrate import bootstrap, profile, uncertainty
from calibrate.parameters import PARAMETERS
from calibrate.result import Draws, Interval
from calibrate.solver import Problem

PREFERRED = (bootstrap.METHOD, profile.METHOD, uncertainty.METHOD)
"""The first of these that a parameter has is the one to go by."""

Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a user asked for beyond profiles: so many bootstrap samples, and a file that keeps them."""

    bootstrap: int = 0
    checkpoint: Path | None = None


@dataclasses.dataclass(frozen=True)
class Uncertainty:
    """Intervals by method and parameter, and what they were made from."""

    by_method: dict[str, dict[str, Interval]]
    profiles: dict[str, profile.Profile]
    draws: Draws | None

    def of(self, name: str) -> dict[str, Interval]:
        """A parameter's intervals by method, the one to go by first."""
        return {method: self.by_method[method][name] for method in PREFERRED if name in self.by_method.get(method, {})}


def estimate(
    problem: Problem,
    inside: Mapping[str, float],
    joint: uncertainty.Intervals,
    asked: Asked,
    seed: int,
    jobs: int,
    progress: Progress,
) -> Uncertainty:
    """Intervals of the parameters ``inside`` their bounds at the solution, which ``problem.hardware`` holds.

    ``joint`` has their standard errors and covariance. Profiles also cover those at a bound, on their open side.
    """
    values = dict(inside)
    progress("following the cost along each parameter")
    profiles = profile.profile_likelihood(problem, values, joint, seed)
    by_method: dict[str, dict[str, Interval]] = {
        uncertainty.METHOD: {name: _within(name, values[name], half) for name, half in joint.half_width.items()},
        profile.METHOD: {name: (found.low, found.high) for name, found in profiles.items()},
    }
    drawn = None
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
        by_method[bootstrap.METHOD] = {name: drawn.interval(name, value) for name, value in values.items()}
    return Uncertainty(by_method, profiles, None if drawn is None else _draws(drawn))


def _draws(drawn: bootstrap.Bootstrap) -> Draws:
    values = {name: [_rounded(value) for value in column.tolist()] for name, column in drawn.values.items()}
    return Draws(bootstrap.METHOD, len(next(iter(values.values()))), drawn.failed, values)


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.6g}")


def _within(name: str, value: float, half_width: float) -> Interval:
    known = PARAMETERS[name]
    return max(value - half_width, known.lower), min(value + half_width, known.upper)
