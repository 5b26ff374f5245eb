"""The search: stage by stage, jointly, then from other starts."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from calibrate.fitting.objective import Dataset
from calibrate.fitting.problem import Problem, first_tried
from calibrate.fitting.quick import minimise_quickly
from calibrate.fitting.solver import Estimate, minimise
from calibrate.fitting.thresholds import AGREEING, AT_BEST
from calibrate.parameters.registry import STAGES
from calibrate.records.workers import in_parts
from sim.models.registry import PARAMETERS, parameter_in
from sim.steps.batch import Floats

_START_ROWS = 5000
_SMALL_BATCH = 32
# Other starts lie between a third and five times the guide's range
_SPREAD_BELOW, _SPREAD_ABOVE = (3.0, 5.0)


@dataclasses.dataclass(frozen=True)
class Search:
    """The best estimate of all starts, and the cost that each start reached, sorted, on the rows they share."""

    best: Estimate
    costs: tuple[float, ...]

    @property
    def at_best(self) -> int:
        """How many starts reached the best cost."""
        return sum(cost <= self.costs[0] * (1 + AT_BEST) for cost in self.costs)

    @property
    def agreed(self) -> bool:
        """Whether so many did that one start does for a problem much alike."""
        return self.at_best >= AGREEING * len(self.costs)


def fit_staged(problem: Problem) -> Estimate:
    """Fit as the calibration guide orders it, every stage on the rows that show its parameters; then all jointly."""
    values, evaluations = problem.start, 0
    for stage in STAGES:
        names = [name for name in problem.free if parameter_in(problem.model, name).stage == stage]
        rows = _stage_rows(stage, problem.data)
        if not names or rows.sum() <= len(names):
            continue
        part = dataclasses.replace(
            problem.on(rows), hardware=problem.hardware.with_values(values), free=tuple(names)
        )
        estimate = minimise(part, {name: values[name] for name in names})
        values = {**values, **estimate.values}
        evaluations = evaluations + estimate.evaluations
    joint = minimise(problem, values)
    return dataclasses.replace(joint, evaluations=joint.evaluations + evaluations)


def search(problem: Problem, starts: int, seed: int, before: Search | None = None) -> Search:
    """The staged fit and ``starts`` − 1 joint fits from all over the plausible range; the best is polished.

    The scattered starts see at most 5,000 rows, drawn evenly from the slices, so that their cost stays small. Where
    they agreed ``before``, when a few more or fewer parameters were free, the best of then stands for them.
    """
    if before is not None and before.agreed:
        return _search_again(problem, before)
    staged = fit_staged(problem)
    few = problem.on(thin(problem.data, _START_ROWS, seed))
    reference = minimise(few, staged.values) if len(few.data) < len(problem.data) else staged
    points = _scattered(problem, starts - 1, seed)
    others = [*in_parts(minimise_quickly, ((few, point) for point in points))]
    best = min((reference, *others), key=lambda estimate: estimate.cost)
    evaluations = staged.evaluations + sum(other.evaluations for other in others)
    if best is not reference:
        polished = minimise(problem, best.values)
        staged = polished if polished.cost < staged.cost else staged
        evaluations += polished.evaluations
    costs = tuple(sorted(estimate.cost for estimate in (reference, *others)))
    return Search(dataclasses.replace(staged, evaluations=evaluations), costs)


def _search_again(problem: Problem, before: Search) -> Search:
    near = {name: before.best.values.get(name, value) for name, value in problem.start.items()}
    fits = fit_staged(problem), minimise(problem, first_tried(problem.model, near))
    best = min(fits, key=lambda estimate: estimate.cost)
    evaluations = sum(estimate.evaluations for estimate in (before.best, *fits))
    return Search(dataclasses.replace(best, evaluations=evaluations), before.costs)


def thin(data: Dataset, rows: int, seed: int) -> NDArray[np.intp]:
    """Indices of at most ``rows`` rows, sorted, drawn without replacement and likelier where a slice is small."""
    if len(data) <= rows:
        return np.arange(len(data))
    rng = np.random.default_rng(seed)
    keys = rng.exponential(size=len(data)) / np.maximum(data.weight, 1e-12)
    return np.sort(np.argpartition(keys, rows)[:rows])


def _stage_rows(stage: str, data: Dataset) -> NDArray[np.bool_]:
    frame = data.frame
    phase, tp = frame["phase"].to_numpy(), data.table.tp
    lowest = tp == tp.min()
    match stage:
        case "bandwidth":
            return np.asarray(
                lowest & (phase == "decode") & (frame["batch"].to_numpy() <= _SMALL_BATCH)
            )
        case "prefill" | "decode":
            return np.asarray(lowest & (phase == stage))
        case "gemm" | "attention":
            return np.asarray(lowest)
        case "tensor-parallel":
            return np.ones(len(data), dtype=bool)
        case "mixed":
            return np.asarray(phase == "mixed")
    return np.ones(len(data), dtype=bool)


def _scattered(problem: Problem, count: int, seed: int) -> Sequence[dict[str, float]]:
    """Points spread over the plausible values, whatever the configuration holds, so that every fit finds the same."""
    if count < 1 or not problem.free:
        return []
    points: Floats = qmc.LatinHypercube(len(problem.free), rng=np.random.default_rng(seed)).random(
        count
    )
    known = [PARAMETERS[name] for name in problem.free]
    columns = [
        p.between(*p.widened(_SPREAD_BELOW, _SPREAD_ABOVE), s)
        for p, s in zip(known, points.T, strict=True)
    ]
    scattered = np.column_stack(columns)
    return [dict(zip(problem.free, row.tolist(), strict=True)) for row in scattered]
