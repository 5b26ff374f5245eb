"""Held-out error over partitions: every row predicted by an exact fit to the others, all fits read the rows at once."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from calibrate.fitting.exact import Asked, SumsAt, side_by_side
from calibrate.fitting.partitioned import Codes, Partitioned
from calibrate.fitting.problem import Pull
from calibrate.fitting.solver import Estimate
from calibrate.fitting.stand_in import StandIn, minimise_with
from calibrate.fitting.sums import Sums, Terms
from calibrate.records.errors import CalibrateError
from calibrate.trust.crossval import FOLDS, KINDS, fold_of_groups, number_of_folds
from sim.steps.batch import Floats

_TOLERANCE = 1e-6
"""Share of the cost below which a step is the last: it changes predictions by 4·10⁻⁵ of themselves (√(2·10⁻⁶·cost/rows)
of their noise), and is taken. A held-out error is good to a thousandth of itself."""
_MOST_PARTS = 200


@dataclasses.dataclass(frozen=True, eq=False)
class UnitSplit:
    """A way of leaving rows out: ``part`` (units,) numbers the part that each unit is left out with."""

    name: str
    part: Codes

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return int(self.part.max()) + 1


@dataclasses.dataclass(frozen=True, eq=False)
class Solved:
    """A solution on all rows: its free ``values``, the weight of each unit, and the ``sums`` by unit there.

    ``few`` are rows that stand for all.
    """

    values: Mapping[str, float]
    weight: Floats
    sums: Sums
    few: StandIn

    def share(self, weight: Floats) -> Floats:
        """How many times the weight of each unit (units,) another ``weight`` is."""
        return np.divide(weight, self.weight, out=np.zeros_like(weight), where=self.weight > 0)


def unit_splits(data: Partitioned, seed: int, kinds: Sequence[str]) -> list[UnitSplit]:
    """Folds by run, and leave-one-out by the ``kinds``, each where there are two parts or more.

    Those of :func:`calibrate.trust.crossval.splits`; runs go apart though they repeat one another's points, as those of
    servers do. Raises CalibrateError for another kind, or for more parts than can be fitted.
    """
    folds = number_of_folds(kinds)
    names, run = np.unique(data.units["run"].to_numpy(dtype=str), return_inverse=True)
    sizes = np.bincount(run, data.units["n"], len(names)).astype(np.int64)
    if "run" in kinds:
        found = [UnitSplit("run", run)]
    else:
        found = [UnitSplit("folds", fold_of_groups(sizes, folds or FOLDS, seed)[run])]
    for name in dict.fromkeys(kind for kind in kinds if kind in KINDS):
        part, _ = pd.factorize(data.units[name].to_numpy())
        found.append(UnitSplit(name, part.astype(np.intp)))
    found = [split for split in found if split.parts >= 2]
    many = next((split for split in found if split.parts > _MOST_PARTS), None)
    if many is not None:
        raise CalibrateError(
            f"--cv {many.name}: {many.parts:,} fits to all rows; give a number of folds in its place"
        )
    return found


def refit_weighed(
    data: Partitioned,
    terms: Terms,
    solved: Solved,
    starts: Sequence[Mapping[str, float]],
    weights: Sequence[Floats],
    pulls: Mapping[str, Pull],
) -> list[Estimate]:
    """The fits from some ``starts``, each with ``weights`` (units,) of its own, and the same priors.

    A start at the solution itself costs no reading: the sums by unit are known there.
    """
    tasks: list[Callable[[SumsAt], Estimate]] = [
        functools.partial(
            minimise_with,
            few_at=_few_at(terms, solved, weight),
            start=start,
            pulls=pulls,
            tolerance=_TOLERANCE,
        )
        for start, weight in zip(starts, weights, strict=True)
    ]

    def sums_at(asked: Sequence[Asked]) -> list[Sums]:
        at_solution = [values == solved.values for _, values in asked]
        others = [
            (values, weights[task])
            for (task, values), known in zip(asked, at_solution, strict=True)
            if not known
        ]
        summed = iter(data.sums(terms, others) if others else [])
        return [
            solved.sums.weighed(solved.share(weights[task])) if known else next(summed)
            for (task, _), known in zip(asked, at_solution, strict=True)
        ]

    return side_by_side(sums_at, tasks)


def _few_at(terms: Terms, solved: Solved, weight: Floats) -> SumsAt:
    share = solved.share(weight)
    return lambda values: solved.few.sums_at(terms, values, share)
