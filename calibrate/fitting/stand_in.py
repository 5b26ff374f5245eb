"""Some rows in memory that stand for all: they say where a minimum lies, so that all are read only to correct them.

Where all rows were read, the cost of the few is given the gradient and the Gauss-Newton matrix of all (Shamir, Srebro
and Zhang 2014; Jordan, Lee and Yang 2019). What is left of the way to the minimum after a step is how much the
curvature of the few changes otherwise than that of all: about a hundredth. A search over all rows alone leaves a tenth.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from calibrate.fitting.exact import SumsAt, minimise_sums, with_pulls
from calibrate.fitting.partitioned import Codes, Partitioned
from calibrate.fitting.problem import Problem, Pull
from calibrate.fitting.solver import Estimate
from calibrate.fitting.sums import Sums, Terms, nothing, weighed_rows
from sim.steps.batch import Floats, StepTable

TOLERANCE = 1e-11
"""Share of the cost below which a step is the last: it is taken, and leaves the values good to 1e-7."""

_OF_FEW = 1e-14
_LEAST = 1e-3
"""Share of the cost of all rows that no minimum comes near: what few rows say below it misleads."""


@dataclasses.dataclass(frozen=True, eq=False)
class StandIn:
    """Rows that stand for all, as many times as makes up for those that are not here; arrays have an entry a row.

    ``weight`` is that of a fit to all rows; ``unit`` says which of the units of all rows each is of.
    """

    table: StepTable
    log_measured: Floats
    sigma: Floats
    weight: Floats
    unit: Codes

    def sums_at(self, terms: Terms, values: Mapping[str, float], share: Floats) -> Sums:
        """What stands for the sums of all rows, where a row of each unit counts ``share`` (units,) of its weight."""
        weight = self.weight * share[self.unit]
        rows = (self.table, self.log_measured, self.sigma, weight)
        return weighed_rows(*rows, terms, values).total


def stand_in(problem: Problem, data: Partitioned) -> StandIn:
    """The rows of a problem, which are among those in partitions, as what stands for all of these."""
    rows = problem.data
    weight = rows.weight * (len(data) / len(rows))
    unit = data.unit_of(rows.frame)
    return StandIn(rows.table, np.log(rows.measured_us), rows.sigma, weight, unit)


def minimise_with(
    sums_at: SumsAt,
    few_at: SumsAt,
    start: Mapping[str, float],
    pulls: Mapping[str, Pull] | None = None,
    tolerance: float = TOLERANCE,
) -> Estimate:
    """The minimum of a cost, known by its sums, with the help of what few rows say of it.

    Where these mislead the search goes on without them.
    """
    values, asked, cost, readings = start, start, math.inf, 0
    while True:
        sums = sums_at(asked)
        readings += 1
        before, cost = cost, float(with_pulls(sums, asked, pulls or {}).cost)
        if not cost < before:
            break
        values = asked
        best = minimise_sums(_corrected(few_at, sums, values), values, pulls, _OF_FEW)
        straight = minimise_sums(_corrected(_nothing, sums, values), values, pulls, _OF_FEW)
        if cost - straight.cost <= tolerance * cost:
            return dataclasses.replace(best, evaluations=readings)
        asked = best.values
    alone = minimise_sums(sums_at, values, pulls)
    return dataclasses.replace(alone, evaluations=readings + alone.evaluations)


def _nothing(values: Mapping[str, float]) -> Sums:
    return nothing(len(values))


def _corrected(few_at: SumsAt, sums: Sums, values: Mapping[str, float]) -> SumsAt:
    """What few rows say of a cost, corrected by the ``sums`` of all rows at some values."""
    here = np.array([*values.values()])
    few = few_at(values)
    gradient, curvature = sums.gradient - few.gradient, sums.curvature - few.curvature

    def corrected(at: Mapping[str, float]) -> Sums:
        off = np.array([*at.values()]) - here
        bent = curvature @ off
        found = few_at(at)
        cost = found.cost + (sums.cost - few.cost) + gradient @ off + 0.5 * (bent @ off)
        return Sums(
            np.maximum(cost, _LEAST * sums.cost),
            found.squares,
            found.gradient + gradient + bent,
            found.curvature + curvature,
        )

    return corrected
