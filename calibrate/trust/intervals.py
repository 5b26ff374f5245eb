"""Every interval of a finished fit, by method, and the one to go by."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path

from calibrate.fitting import covariance
from calibrate.fitting.problem import Problem
from calibrate.records.interval import (
    BootstrapSummary,
    Interval,
    McmcSummary,
    ProfileCurve,
    ends,
)
from calibrate.trust import bootstrap, mcmc, profile
from sim.models.registry import PARAMETERS

OTHER_GPUS = "other GPUs"
"""The method of an interval that no row of the data narrows."""

_RANKS = {
    profile.METHOD: 0,
    covariance.METHOD: 1,
    **dict.fromkeys(covariance.SLICES, 1),
    covariance.BY_NOISE: 1,
    bootstrap.METHOD: 2,
    mcmc.METHOD: 3,
    OTHER_GPUS: 4,
}
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
        """A parameter's intervals by method, the one to go by first; of two sandwiches the wider."""
        known = {method: found[name] for method, found in self.by_method.items() if name in found}
        return dict(sorted(known.items(), key=lambda item: (_RANKS[item[0]], -_width(item[1]))))


@dataclasses.dataclass(frozen=True, eq=False)
class StandardErrors:
    """Standard errors ``by_run`` and, where the model is at fault, ``by_slice`` with the name of that method.

    ``run_method`` is another where runs are too few and a prior stands beside them.
    """

    by_run: covariance.Covariance
    by_slice: covariance.Covariance | None = None
    slice_method: str = ""
    run_method: str = covariance.METHOD

    @property
    def joint(self) -> covariance.Covariance:
        """Those to go by: of each parameter the wider."""
        return (
            self.by_run if self.by_slice is None else covariance.wider(self.by_run, self.by_slice)
        )

    @property
    def by_method(self) -> dict[str, covariance.Covariance]:
        """All of them, by the name of the method."""
        slices = {} if self.by_slice is None else {self.slice_method: self.by_slice}
        return {self.run_method: self.by_run, **slices}

    @property
    def note(self) -> list[str]:
        """What to know of the intervals: how much wider the misfit makes them, or that nothing tells."""
        if self.by_slice is None or not self.by_run.stderr:
            return []
        if not self.by_slice.stderr:
            return [
                "The model's misfit, not noise, moves the values, and there are too few models and TP to tell how far: "
                "intervals know the sampling of runs only and may be several times too narrow."
            ]
        growth = {
            name: self.by_slice.half_width[name] / half
            for name, half in self.by_run.half_width.items()
            if half > 0
        }
        name = max(growth, key=lambda name: growth[name], default="")
        if growth.get(name, 0.0) <= 1.0:
            return []
        return [
            f"The model's misfit, not noise, moves the values: intervals take slices, not runs, as the observations "
            f"({self.slice_method}), and are up to {growth[name]:.1f} times as wide ({name} "
            f"±{self.by_run.half_width[name]:.2g} by run, ±{self.by_slice.half_width[name]:.2g} by slice)."
        ]


def all_intervals(
    problem: Problem,
    inside: Mapping[str, float],
    errors: StandardErrors,
    asked: IntervalOptions,
    seed: int,
    jobs: int,
    progress: Progress,
) -> Intervals:
    """Intervals of the parameters ``inside`` their bounds at the solution, which ``problem.hardware`` holds.

    ``errors`` has their standard errors and covariances. Profiles also cover those at a bound, on their open side.
    """
    values, joint = dict(inside), errors.joint
    progress("following the cost along each parameter")
    by_slice = errors.by_slice is not None
    profiles = profile.profile_likelihood(problem, values, joint, seed, jobs, by_slice=by_slice)
    by_method = sandwich_intervals(errors, values)
    by_method[profile.METHOD] = {name: (found.low, found.high) for name, found in profiles.items()}
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
        None if drawn is None else summary(drawn),
        None if chain is None else _chain(chain),
    )


def sandwich_intervals(
    errors: StandardErrors, values: Mapping[str, float]
) -> dict[str, dict[str, Interval]]:
    """The intervals that standard errors give, by method and parameter, within the physical bounds."""
    return {
        method: {name: _within(name, values[name], half) for name, half in one.half_width.items()}
        for method, one in errors.by_method.items()
    }


def summary(drawn: bootstrap.Bootstrap) -> BootstrapSummary:
    """The samples of a bootstrap as they are written."""
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


def _width(interval: Interval) -> float:
    low, high = ends(interval)
    return high - low
