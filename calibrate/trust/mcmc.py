"""Draws from the parameters' joint distribution, by the affine-invariant ensemble sampler emcee (the extra ``mcmc``).

The cost is no log-likelihood, so its rise over the solution is scaled, in every direction from there, until a quadratic
cost would spread as the sandwich does: the vertical adjustment of Chandler and Bate (2007), which keeps to the bounds.
"""

import dataclasses
import types
from collections.abc import Callable, Mapping

import numpy as np
from scipy import stats

from calibrate.fitting.covariance import Covariance
from calibrate.fitting.problem import Problem
from calibrate.fitting.solver import cost
from calibrate.fitting.thresholds import SINGULAR
from calibrate.records.distribution import install_extra
from calibrate.records.errors import CalibrateError
from calibrate.trust.thresholds import AUTOCORRELATION_TIMES
from sim.models.registry import PARAMETERS
from sim.steps.batch import Floats

METHOD = "mcmc"
_FEWEST_WALKERS = 32
_BALL = 0.1  # walkers start within about this many standard errors of the solution
_BURN_IN = 5  # autocorrelation times that are left out at a chain's beginning
_BLOCK = 500
_KEPT = 10_000


@dataclasses.dataclass(frozen=True, eq=False)
class Mcmc:
    """Draws by parameter after the burn-in, all walkers together.

    ``autocorrelation`` is the longest integrated autocorrelation time, in steps, of any parameter; ``note`` says in
    words that the chain is too short to rely on, and is empty where it is long enough.
    """

    values: dict[str, Floats]
    steps: int
    acceptance: float
    autocorrelation: float
    note: str

    def interval(self, name: str) -> tuple[float, float]:
        """The central 90% of a parameter's draws.

        The physical bounds are the prior: a side that the data leaves open ends near the bound and does not say so.
        """
        low, high = np.quantile(self.values[name], [0.05, 0.95]).tolist()
        return low, high


def sample(
    problem: Problem,
    values: Mapping[str, float],
    intervals: Covariance,
    steps: int = 10_000,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> Mcmc | None:
    """Sample the parameters ``values``, at least until the chain is fifty autocorrelation times long, or ``steps``.

    ``problem.hardware`` holds the solution, ``values`` the free parameters inside their bounds there; others stay.
    ``progress`` is told the steps taken. The same seed gives the same draws.
    None where ``intervals`` is empty or its covariance singular.
    Raises CalibrateError if emcee is not installed.
    """
    emcee = _emcee()
    if not intervals.stderr or np.linalg.cond(_unit_free(intervals)) > SINGULAR:
        return None
    target = _Target.of(problem, values, intervals)
    walkers = max(_FEWEST_WALKERS, 2 * len(values) + 2)
    moves = [(emcee.moves.DEMove(), 0.8), (emcee.moves.DESnookerMove(), 0.2)]
    sampler = emcee.EnsembleSampler(walkers, len(values), target.log_density, moves=moves)
    sampler.random_state = np.random.MT19937(seed).state
    state = target.ball(walkers, np.random.default_rng(seed))
    time = np.inf
    while sampler.iteration < steps and sampler.iteration < AUTOCORRELATION_TIMES * time:
        block = min(_BLOCK, steps - sampler.iteration)
        state = sampler.run_mcmc(state, block, skip_initial_state_check=True)
        time = float(emcee.autocorr.integrated_time(sampler.get_chain(), quiet=True, tol=0).max())
        progress(sampler.iteration)
    burn_in = min(int(_BURN_IN * time), sampler.iteration // 2)
    every = max(1, (sampler.iteration - burn_in) * walkers // _KEPT)
    draws = sampler.get_chain(discard=burn_in, thin=every, flat=True)
    columns = dict(zip(values, draws.T, strict=True))
    acceptance = float(sampler.acceptance_fraction.mean())
    return Mcmc(columns, sampler.iteration, acceptance, time, _note(sampler.iteration, time))


def _unit_free(intervals: Covariance) -> Floats:
    """The covariance for parameters measured in their standard errors."""
    scale = np.maximum(np.sqrt(np.diag(intervals.matrix)), np.finfo(float).tiny)
    correlation: Floats = intervals.matrix / scale / scale[:, None]
    return correlation


def _emcee() -> types.ModuleType:
    try:
        import emcee
    except ImportError:
        raise CalibrateError(f"emcee is not installed: {install_extra('mcmc')}") from None
    module: types.ModuleType = emcee
    return module


def _note(steps: int, time: float) -> str:
    if steps >= AUTOCORRELATION_TIMES * time:
        return ""
    wanted = int(np.ceil(AUTOCORRELATION_TIMES * time / _BLOCK)) * _BLOCK
    return (
        f"the chain of {steps:,} steps is only {steps / time:.0f} autocorrelation times long, "
        f"{AUTOCORRELATION_TIMES} are wanted: its intervals are rough; take {wanted:,} steps or more"
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Target:
    """The adjusted log-density about the solution; ``precision`` is the sandwich's, ``curvature`` the cost's."""

    problem: Problem
    names: tuple[str, ...]
    centre: Floats
    stderr: Floats
    precision: Floats
    curvature: Floats
    lower: Floats
    upper: Floats
    best: float

    @classmethod
    def of(cls, problem: Problem, values: Mapping[str, float], intervals: Covariance) -> "_Target":
        """The spread is widened from the normal distribution's to Student's t, as the sandwich's intervals are."""
        names = tuple(intervals.stderr)
        stderr = np.array([*intervals.stderr.values()])
        half_width = np.array([*intervals.half_width.values()])
        widened = float((half_width / stderr).max() / stats.norm.ppf(0.95)) ** 2
        return cls(
            problem,
            names,
            np.array([values[name] for name in names]),
            stderr,
            np.linalg.inv(_unit_free(intervals) * widened) / np.outer(stderr, stderr),
            intervals.curvature,
            np.array([PARAMETERS[name].lower for name in names]),
            np.array([PARAMETERS[name].upper for name in names]),
            cost(problem, values),
        )

    def log_density(self, point: Floats) -> float:
        """Minus infinity outside the physical bounds."""
        if (point < self.lower).any() or (point > self.upper).any():
            return -np.inf
        away = point - self.centre
        curved = away @ self.curvature @ away
        if curved <= 0:
            return 0.0
        rise = cost(self.problem, dict(zip(self.names, point.tolist(), strict=True))) - self.best
        return float(-rise * (away @ self.precision @ away) / curved)

    def ball(self, walkers: int, rng: np.random.Generator) -> Floats:
        """Where the walkers start: about the solution and within the bounds."""
        points = self.centre + _BALL * self.stderr * rng.standard_normal((walkers, len(self.names)))
        inside: Floats = np.clip(points, self.lower, self.upper)
        return inside
