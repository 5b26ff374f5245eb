"""The search of a fit to serving results: the simulator says where values stand, its closed form which way is down.

A simulation costs many times its closed form, and only jumps under a small step. So each round simulates once, takes
slopes there, of the closed form or of the simulator over a large step, and solves the problem on these straight lines.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from calibrate.fitting.objective import Loss
from calibrate.fitting.solver import Estimate, least_squares
from calibrate.serving.objective import ServingObjective
from sim.steps.batch import Floats

_ROUNDS = 8
_SHARES = (1.0, 0.5)  # of a step, where the cost does not fall at its end
_FALLEN = 1e-3  # a round that would lower the cost by less of it is not made

Values = Mapping[str, float]
Slopes = Callable[[Values], Floats]


def search(
    objective: ServingObjective, slopes: Slopes, start: Values, loss: str, evaluations: int = 0
) -> Estimate:
    """The best values of a few rounds from ``start``; ``slopes`` gives ∂residual/∂value, shape (m + steps, k).

    ``evaluations`` of the cost were made before; the estimate counts its own with them.
    """
    best = _at(objective, start, loss, evaluations + 1)
    for _ in range(_ROUNDS):
        found = _round(objective, slopes(best.values), best, loss)
        fell = found.cost < best.cost
        best = found
        if not fell:
            break
    return best


def _round(objective: ServingObjective, jacobian: Floats, here: Estimate, loss: str) -> Estimate:
    """Where the straight lines lead, or half the way; ``here`` where the cost falls at neither, or only by little."""
    residual = objective.residuals(here.values)
    end = on_straight_lines(residual, jacobian, here.values, objective.loss(loss))
    if end.cost > (1.0 - _FALLEN) * here.cost:
        return here
    for number, share in enumerate(_SHARES, start=1):
        values = {
            name: (1.0 - share) * old + share * end.values[name]
            for name, old in here.values.items()
        }
        found = _at(objective, values, loss, here.evaluations + number)
        if found.cost < here.cost:
            return found
    return dataclasses.replace(here, evaluations=here.evaluations + len(_SHARES))


def on_straight_lines(residual: Floats, jacobian: Floats, values: Values, loss: Loss) -> Estimate:
    """The least cost within the bounds if residuals (m,) went on as their slopes (m, k) at ``values`` say."""
    centre = np.array([*values.values()])

    def lines(moved: Values) -> Floats:
        line: Floats = residual + jacobian @ (np.array([*moved.values()]) - centre)
        return line

    return least_squares(lines, lambda _: jacobian, values, loss)


def _at(objective: ServingObjective, values: Values, loss: str, evaluations: int) -> Estimate:
    cost = objective.cost(values, loss)
    return Estimate(dict(values), cost, evaluations, True, "no step lowers the cost")
