"""Which parameter moved: the steps since a change, fitted again one parameter at a time from the calibration.

The steps are freed of the reference first, so that the calibration explains all that came before the change. A change
has one cause as a rule: the parameter that explains most alone has moved; those that explain as much are its rivals; a
second joins only where the first leaves what chance does not.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from calibrate.fitting.identifiability import choose_free, sensitivity
from calibrate.fitting.objective import Dataset, Objective, row_influence
from calibrate.fitting.problem import Problem
from calibrate.fitting.solver import cost, minimise
from calibrate.records.interval import Z90
from calibrate.watch.thresholds import MOST_MOVED, RIVAL, SECOND
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.steps.batch import Floats, StepTable

_LOSS = "huber"


@dataclasses.dataclass(frozen=True)
class Moved:
    """A parameter's value in the calibration and since the change, with its 90% interval."""

    name: str
    was: float
    now: float
    ci90: tuple[float, float]
    stderr: float


@dataclasses.dataclass(frozen=True)
class Refit:
    """What explains a change. ``rivals`` explain it as well as the first of ``moved`` does, ``stayed`` do not.

    ``explained`` is the share of the steps' change that is gone with it; ``steps`` were fitted. ``covariance`` is that
    of the moved, by name and name.
    """

    moved: tuple[Moved, ...]
    rivals: tuple[Moved, ...]
    stayed: tuple[Moved, ...]
    explained: float
    steps: int
    covariance: dict[str, dict[str, float]]

    @property
    def values(self) -> dict[str, float]:
        """The moved values, by name."""
        return {one.name: one.now for one in self.moved}


def refit(
    model: LatencyModel,
    hardware: Hardware,
    table: StepTable,
    deviation: Floats,
    noise: Floats,
    inflation: float,
) -> Refit | None:
    """What moved in steps whose ln(measured/reference) is ``deviation`` (n,), with ``noise`` (n,) each.

    ``inflation`` is how much less the steps say than as many independent ones. None where no parameter is seen.
    """
    problem = _problem(model, hardware, table, deviation, noise)
    values = model.parameters(hardware)
    names = choose_free(sensitivity(model, hardware, problem.data), values, [], []).free
    if not names:
        return None
    search = _Search(problem, values, inflation)
    moved = search.choose(names)
    fitted = search.fit(moved)
    rivals = [] if len(moved) > 1 else search.rivals(names, moved)
    stayed = [name for name in names if name not in (*moved, *rivals)]
    before, after = search.deviance({}), search.deviance(fitted)
    return Refit(
        moved=tuple(search.described(name, fitted) for name in moved),
        rivals=tuple(search.described(name, search.fit([name])) for name in rivals),
        stayed=tuple(search.held(name, fitted) for name in stayed),
        explained=_explained(problem, fitted, before, after),
        steps=len(table),
        covariance=search.covariance(fitted),
    )


def _problem(
    model: LatencyModel, hardware: Hardware, table: StepTable, deviation: Floats, noise: Floats
) -> Problem:
    """The steps as a fit takes them: what the calibration says of each, times its change."""
    measured = model.predict_us(table, hardware) * np.exp(deviation)
    ones = np.ones(len(table))
    labels = pd.DataFrame({"set_aside": np.zeros(len(table), dtype=bool)})
    return Problem(model, hardware, Dataset(table, measured, noise, ones, labels), (), _LOSS)


def _explained(problem: Problem, fitted: Mapping[str, float], before: float, after: float) -> float:
    """How much of the mean change is gone; 1 where there was none."""
    objective = Objective(problem.model, problem.hardware, problem.data)
    sizes = [abs(float(np.mean(objective.residuals(values)))) for values in ({}, fitted)]
    if not sizes[0] or after > before:
        return 0.0
    return max(0.0, 1.0 - sizes[1] / sizes[0])


class _Search:
    """Fits of some of the parameters, each made once."""

    def __init__(self, problem: Problem, values: Mapping[str, float], inflation: float) -> None:
        self._problem = problem
        self._values = values
        self._inflation = inflation
        self._fits: dict[tuple[str, ...], dict[str, float]] = {}

    def fit(self, names: Sequence[str]) -> dict[str, float]:
        """Where the named parameters go, from the calibration's values."""
        key = tuple(sorted(names))
        if key not in self._fits:
            free = dataclasses.replace(self._problem, free=key)
            self._fits[key] = minimise(free, {name: free.start[name] for name in key}).values
        return self._fits[key]

    def deviance(self, values: Mapping[str, float]) -> float:
        """Twice the cost, as independent steps would have it."""
        return 2.0 * cost(self._problem, values) / self._inflation

    def choose(self, names: Sequence[str]) -> list[str]:
        """The parameter that explains most, and further ones as long as each explains what chance does not.

        The first may be a compromise of two that come later: each is asked again at the end.
        """
        chosen: list[str] = []
        deviance = self.deviance({})
        while len(chosen) < min(MOST_MOVED, len(names)):
            left = [name for name in names if name not in chosen]
            falls = {name: self.deviance(self.fit([*chosen, name])) for name in left}
            best = min(falls, key=lambda name: falls[name])
            if chosen and deviance - falls[best] < SECOND:
                break
            chosen, deviance = [*chosen, best], falls[best]
        return self._needed(chosen)

    def _needed(self, chosen: list[str]) -> list[str]:
        """Without those that the others explain as well."""
        while len(chosen) > 1:
            without = {name: [other for other in chosen if other != name] for name in chosen}
            rises = {name: self.deviance(self.fit(left)) for name, left in without.items()}
            least = min(rises, key=lambda name: rises[name])
            if rises[least] - self.deviance(self.fit(chosen)) >= SECOND:
                break
            chosen = without[least]
        return chosen

    def rivals(self, names: Sequence[str], moved: Sequence[str]) -> list[str]:
        """Those that alone explain as much as the one that moved."""
        least = self.deviance(self.fit(moved))
        others = [name for name in names if name not in moved]
        return [name for name in others if self.deviance(self.fit([name])) - least < RIVAL]

    def covariance(self, fitted: Mapping[str, float]) -> dict[str, dict[str, float]]:
        """That of the fitted values: the inverse of the weighted curvature, inflated."""
        names = list(fitted)
        matrix = np.linalg.pinv(self._curvature(fitted)) * self._inflation
        rows = zip(names, matrix.tolist(), strict=True)
        return {name: dict(zip(names, row, strict=True)) for name, row in rows}

    def described(self, name: str, fitted: Mapping[str, float]) -> Moved:
        """A fitted parameter before and after."""
        error = self.covariance(fitted)[name][name] ** 0.5
        now = fitted[name]
        return Moved(name, self._values[name], now, (now - Z90 * error, now + Z90 * error), error)

    def held(self, name: str, fitted: Mapping[str, float]) -> Moved:
        """Where one that was held would go from the calibration's value, were it free beside the fitted ones."""
        values = {**fitted, name: self._values[name]}
        matrix = np.linalg.pinv(self._curvature(values))
        step = -matrix @ self._gradient(values)
        error = float(matrix[-1, -1] * self._inflation) ** 0.5
        now = values[name] + float(step[-1])
        return Moved(name, self._values[name], now, (now - Z90 * error, now + Z90 * error), error)

    def _parts(self, values: Mapping[str, float]) -> tuple[Floats, Floats, Floats]:
        objective = Objective(self._problem.model, self._problem.hardware, self._problem.data)
        residual = objective.residuals(values)
        return residual, objective.jacobian(values), row_influence(_LOSS, residual)

    def _curvature(self, values: Mapping[str, float]) -> Floats:
        _, jacobian, weight = self._parts(values)
        curvature: Floats = (jacobian * weight[:, None]).T @ jacobian
        return curvature

    def _gradient(self, values: Mapping[str, float]) -> Floats:
        residual, jacobian, weight = self._parts(values)
        gradient: Floats = jacobian.T @ (weight * residual)
        return gradient
