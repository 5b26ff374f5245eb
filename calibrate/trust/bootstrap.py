"""Bootstrap by run: the spread of the estimates over campaigns made up of the same runs, drawn again."""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from threadpoolctl import threadpool_limits

from calibrate.fitting.objective import Objective
from calibrate.fitting.problem import Problem
from calibrate.fitting.solver import at_bound, minimise, snap
from calibrate.fitting.thresholds import FEWEST_RUNS
from calibrate.records.checkpoint import Checkpoint
from calibrate.records.workers import in_parts
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
        values = self.values[name]
        seen = values[~np.isnan(values)]
        fewest_samples = max(1, _SHOWN * len(values))
        if self.runs < FEWEST_RUNS or len(seen) < fewest_samples:
            return None, None

        freedom = self.runs - 1
        expansion = math.sqrt(self.runs / freedom)
        reach = expansion * stats.t.ppf(0.95, freedom)
        levels = stats.norm.cdf([-reach, reach])
        low, high = np.quantile(seen, levels, method="weibull").tolist()

        lower = None if at_bound(name, low) else low
        upper = None if at_bound(name, high) else high
        return lower, upper


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
    start = _solution(problem, values)
    saved = Checkpoint(checkpoint, _key(problem, start, seed)) if checkpoint else None
    done = _resume(saved, samples)
    progress(len(done))

    missing = [number for number in range(samples) if number not in done]
    streams = np.random.SeedSequence(seed).spawn(samples)
    for batch in _refit_all(problem, start, missing, streams, jobs):
        if saved:
            saved.append(batch)
        done.update(batch)
        progress(len(done))

    in_order = [done[number] for number in range(samples)]
    good = [sample for sample in in_order if sample is not None]
    failed = samples - len(good)
    runs = problem.data.frame["run"].nunique()
    return Bootstrap(_columns(good, start), failed, runs)


def _solution(problem: Problem, values: Mapping[str, float]) -> dict[str, float]:
    """The free parameters at the solution; ``values`` before what the hardware says."""
    known = problem.model.parameters(problem.hardware)
    start = {name: known[name] for name in problem.free}
    return start | dict(values)


def _resume(saved: Checkpoint | None, samples: int) -> dict[int, _Sample]:
    """The samples that are in the checkpoint, by number; those beyond ``samples`` are left there."""
    if saved is None:
        return {}
    return {number: sample for number, sample in saved.resume().items() if number < samples}


def _refit_all(
    problem: Problem,
    start: Mapping[str, float],
    missing: Sequence[int],
    streams: Sequence[np.random.SeedSequence],
    jobs: int,
) -> Iterator[dict[int, _Sample]]:
    """The missing samples by number, a batch at a time, in order."""
    batches = [missing[first : first + _BATCH] for first in range(0, len(missing), _BATCH)]
    tasks = ((problem, start, [streams[number] for number in batch]) for batch in batches)
    results = in_parts(_refit, tasks, jobs)
    for batch, samples in zip(batches, results, strict=True):
        yield dict(zip(batch, samples, strict=True))


def _columns(samples: Sequence[dict[str, float | None]], names: Iterable[str]) -> dict[str, Floats]:
    """The estimates of each parameter, NaN for None."""
    columns = {}
    for name in names:
        estimates = [sample[name] for sample in samples]
        columns[name] = np.array(estimates, dtype=np.float64)
    return columns


def _refit(
    problem: Problem, start: Mapping[str, float], streams: Sequence[np.random.SeedSequence]
) -> list[_Sample]:
    """A sample for each stream."""
    runs = Runs.of(problem.data.frame)
    objective = Objective(problem.model, problem.hardware, problem.data)
    columns = np.abs(objective.jacobian(start))

    samples = []
    with threadpool_limits(limits=1, user_api="blas"):
        for stream in streams:
            rng = np.random.default_rng(stream)
            samples.append(_one(problem, start, runs, columns, rng))
    return samples


def _one(
    problem: Problem,
    start: Mapping[str, float],
    runs: "Runs",
    columns: Floats,
    rng: np.random.Generator,
) -> _Sample:
    """One sample's estimates, None for a parameter that none of its rows shows; None where nothing converged."""
    drawn = runs.draw(rng)
    weight = problem.data.weight * drawn
    data = dataclasses.replace(problem.data, weight=weight)
    sample = dataclasses.replace(problem, data=data)

    others = [_about(start, rng) for _ in range(_OTHER_STARTS)]
    fits = [minimise(sample, point) for point in (start, *others)]
    converged = [fit for fit in fits if fit.success]
    if not converged:
        return None

    best = min(converged, key=lambda fit: fit.cost)
    largest = columns.max(axis=0)
    largest_drawn = columns[drawn > 0].max(axis=0)
    shown = largest_drawn > _UNSEEN * largest

    estimates: dict[str, float | None] = {}
    for (name, value), is_shown in zip(best.values.items(), shown, strict=True):
        estimates[name] = snap(name, value) if is_shown else None
    return estimates


def _about(start: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    """A point about another; a value near 0 as if it were half the guide's least."""
    steps = rng.uniform(-_SPREAD, _SPREAD, len(start)).tolist()
    point = {}
    for (name, value), step in zip(start.items(), steps, strict=True):
        point[name] = _beside(PARAMETERS[name], value, step)
    return point


def _beside(known: Parameter, value: float, step: float) -> float:
    if known.is_linear:
        return value + step * known.size(value)
    least = known.guide[0] / 2
    return max(value, least) * math.exp(step)


@dataclasses.dataclass(frozen=True, eq=False)
class Runs:
    """The run of every row, shape (n,), and the runs of every campaign, as numbers."""

    of_row: NDArray[np.intp]
    of_campaign: list[NDArray[np.intp]]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> "Runs":
        """Of rows with a ``run`` and a ``campaign``."""
        by_run = frame.groupby("run", sort=False)
        by_campaign = frame.groupby("campaign", sort=False)

        numbers = by_run.ngroup().to_numpy()
        of_row: NDArray[np.intp] = numbers.astype(np.intp)
        rows_of_campaign = by_campaign.indices.values()
        of_campaign = [np.unique(of_row[rows]) for rows in rows_of_campaign]
        return cls(of_row, of_campaign)

    def draw(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """How often every row is drawn with its run, shape (n,)."""
        runs = self.of_row.max() + 1
        times = np.zeros(runs, dtype=np.intp)
        for campaign in self.of_campaign:
            size = len(campaign)
            drawn = rng.integers(0, size, size)
            times[campaign] = np.bincount(drawn, minlength=size)
        return times[self.of_row]


def _key(problem: Problem, start: Mapping[str, float], seed: int) -> str:
    """A digest of everything a sample's estimates follow from."""
    data = problem.data
    table = data.table
    arrays = (
        data.measured_us,
        data.sigma,
        data.weight,
        table.moments,
        table.tp,
        table.arch_index,
    )
    runs = "\0".join(data.frame["run"])

    digest = hashlib.sha256()
    digest.update(_labels(problem, start, seed).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(runs.encode())
    return digest.hexdigest()


def _labels(problem: Problem, start: Mapping[str, float], seed: int) -> str:
    """What a sample's estimates follow from beside the data's columns."""
    model = problem.model
    hardware = problem.hardware.values
    pulls = [
        (name, pull.mean, pull.precision, *sorted(pull.coupled.items()))
        for name, pull in problem.pulls.items()
    ]
    settings = (
        model.name,
        repr(model),
        problem.loss,
        sorted(hardware.items()),
        sorted(start.items()),
        seed,
        sorted(pulls),
    )
    return repr((settings, problem.free, problem.data.table.architectures))
