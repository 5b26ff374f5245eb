"""Bootstrap by run: the spread of the estimates over campaigns made up of the same runs, drawn again."""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import joblib
import numpy as np
from numpy.typing import NDArray
from scipy import stats
from threadpoolctl import threadpool_limits

from calibrate.fitting.objective import Dataset, Objective
from calibrate.fitting.solver import Problem, at_bound, minimise, snap
from calibrate.fitting.thresholds import FEWEST_RUNS
from calibrate.records.checkpoint import Checkpoint
from sim.models.parameter import Parameter
from sim.models.registry import PARAMETERS
from sim.steps.batch import Floats

METHOD = "bootstrap by run"
_BATCH = 10
_OTHER_STARTS = 3  # of a sample, beside the solution: the roofline's kinks leave it stuck in a tenth of the samples
_SHOWN = 0.95
_SPREAD = 0.5  # those lie within a factor e^±0.5 of the solution
_UNSEEN = 1e-6  # a column of the Jacobian this small beside what all runs show

_Sample = dict[str, float | None] | None


@dataclasses.dataclass(frozen=True, eq=False)
class Bootstrap:
    """Estimates by parameter, one a sample; NaN in a sample whose runs do not show the parameter.

    ``failed`` samples, in which no fit converged, are left out; ``runs`` is how many were drawn for each.
    """

    values: dict[str, Floats]
    failed: int
    runs: int

    def interval(self, name: str) -> tuple[float | None, float | None]:
        """The 90% interval of a parameter inside its bounds: expanded percentiles (Hesterberg 2015).

        They reach out to where Student's t with runs − 1 degrees of freedom does; bias-corrected ones cover less often.
        A side is None where its percentile lies at a physical bound; both are for fewer than five runs, and where more
        than a twentieth of the samples do not show the parameter.
        """
        seen = self.values[name][~np.isnan(self.values[name])]
        if self.runs < FEWEST_RUNS or len(seen) < max(1, _SHOWN * len(self.values[name])):
            return None, None
        reach = math.sqrt(self.runs / (self.runs - 1)) * stats.t.ppf(0.95, self.runs - 1)
        low, high = np.quantile(seen, stats.norm.cdf([-reach, reach]), method="weibull").tolist()
        return None if at_bound(name, low) else low, None if at_bound(name, high) else high


def bootstrap(
    problem: Problem,
    values: Mapping[str, float],
    samples: int = 200,
    seed: int = 0,
    jobs: int = 1,
    progress: Callable[[int], None] = lambda _: None,
    checkpoint: Path | None = None,
) -> Bootstrap:
    """Refit ``samples`` times to runs drawn with replacement, as many of every campaign as it has.

    ``problem.hardware`` holds the solution, ``values`` the free parameters inside their bounds there; all free ones
    are fitted again, from the solution and from three points about it. Every sample draws from a stream of its own,
    so that neither ``jobs`` nor an interruption changes a number. Finished samples go into the file ``checkpoint``;
    called again with the same problem and seed, it goes on there. ``progress`` is told how many samples are done.
    """
    start = {name: problem.model.parameters(problem.hardware)[name] for name in problem.free} | dict(values)
    saved = Checkpoint(checkpoint, _key(problem, start, seed)) if checkpoint else None
    done: dict[int, _Sample] = {i: s for i, s in saved.resume().items() if i < samples} if saved else {}
    streams = np.random.SeedSequence(seed).spawn(samples)
    missing = [i for i in range(samples) if i not in done]
    batches = [missing[i : i + _BATCH] for i in range(0, len(missing), _BATCH)]
    results = joblib.Parallel(n_jobs=jobs, return_as="generator")(
        joblib.delayed(_refit)(problem, start, [streams[i] for i in batch]) for batch in batches
    )
    progress(len(done))
    for batch, refitted in zip(batches, results, strict=True):
        found = dict(zip(batch, refitted, strict=True))
        if saved:
            saved.append(found)
        done.update(found)
        progress(len(done))
    good = [sample for i in range(samples) if (sample := done[i]) is not None]
    columns = {name: np.array([sample[name] for sample in good], dtype=np.float64) for name in start}
    return Bootstrap(columns, samples - len(good), problem.data.frame["run"].nunique())


def _refit(problem: Problem, start: Mapping[str, float], streams: Sequence[np.random.SeedSequence]) -> list[_Sample]:
    runs = _Runs.of(problem.data)
    columns = np.abs(Objective(problem.model, problem.hardware, problem.data).jacobian(start))
    with threadpool_limits(limits=1, user_api="blas"):
        return [_one(problem, start, runs, columns, np.random.default_rng(stream)) for stream in streams]


def _one(
    problem: Problem, start: Mapping[str, float], runs: "_Runs", columns: Floats, rng: np.random.Generator
) -> _Sample:
    """One sample's estimates, None for a parameter that none of its rows shows; None where nothing converged."""
    drawn = runs.draw(rng)
    data = dataclasses.replace(problem.data, weight=problem.data.weight * drawn)
    sample = dataclasses.replace(problem, data=data)
    fits = [minimise(sample, point) for point in (start, *(_about(start, rng) for _ in range(_OTHER_STARTS)))]
    converged = [fit for fit in fits if fit.success]
    if not converged:
        return None
    best = min(converged, key=lambda fit: fit.cost)
    shown = columns[drawn > 0].max(axis=0) > _UNSEEN * columns.max(axis=0)
    return {
        name: snap(name, value) if is_shown else None
        for (name, value), is_shown in zip(best.values.items(), shown, strict=True)
    }


def _about(start: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    """A point about another; a value near 0 as if it were half the guide's least."""
    steps = rng.uniform(-_SPREAD, _SPREAD, len(start))
    return {name: _beside(PARAMETERS[name], start[name], float(step)) for name, step in zip(start, steps, strict=True)}


def _beside(known: Parameter, value: float, step: float) -> float:
    if known.is_linear:
        return value + step * known.size(value)
    return max(value, known.guide[0] / 2) * math.exp(step)


@dataclasses.dataclass(frozen=True, eq=False)
class _Runs:
    """The run of every row, shape (n,), and the runs of every campaign, as numbers."""

    of_row: NDArray[np.intp]
    of_campaign: list[NDArray[np.intp]]

    @classmethod
    def of(cls, data: Dataset) -> "_Runs":
        run: NDArray[np.intp] = data.frame.groupby("run", sort=False).ngroup().to_numpy().astype(np.intp)
        campaigns = data.frame.groupby("campaign", sort=False).indices.values()
        return cls(run, [np.unique(run[rows]) for rows in campaigns])

    def draw(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """How often every row is drawn with its run, shape (n,)."""
        times = np.zeros(self.of_row.max() + 1, dtype=np.intp)
        for runs in self.of_campaign:
            times[runs] = np.bincount(rng.integers(0, len(runs), len(runs)), minlength=len(runs))
        return times[self.of_row]


def _key(problem: Problem, start: Mapping[str, float], seed: int) -> str:
    """A digest of everything a sample's estimates follow from."""
    data, table = problem.data, problem.data.table
    digest = hashlib.sha256()
    hardware = sorted(problem.hardware.values.items())
    pulls = sorted((name, pull.mean, pull.precision) for name, pull in problem.pulls.items())
    labels = (problem.model.name, repr(problem.model), problem.loss, hardware, sorted(start.items()), seed, pulls)
    digest.update(repr((labels, problem.free, table.architectures)).encode())
    for array in (data.measured_us, data.sigma, data.weight, table.moments, table.tp, table.arch_index):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update("\0".join(data.frame["run"]).encode())
    return digest.hexdigest()
