"""The minimisation from one start: lmfit over the objective. Only this file knows lmfit."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import lmfit
import numpy as np

from calibrate.fitting.objective import Loss, Objective, weighted_loss
from calibrate.fitting.problem import Problem, Pull, precision_of
from calibrate.fitting.thresholds import AT_BOUND, CORRELATED
from calibrate.parameters.own import facts
from sim.models.registry import PARAMETERS
from sim.steps.batch import Floats

_MAX_EVALUATIONS = 2000
_SIGNIFICANT_DIGITS = 6


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Where one minimisation ended. ``values`` are by free parameter, ``cost`` is ½Σw·ρ(r²)."""

    values: dict[str, float]
    cost: float
    evaluations: int
    success: bool
    message: str


def cost(problem: Problem, values: Mapping[str, float]) -> float:
    """½Σw·ρ(r²) and the priors' terms at some values; what they do not name stays as the configuration has it."""
    residuals = Objective(problem.model, problem.hardware, problem.data).residuals(values)
    fit = 0.5 * weighted_loss(problem.loss, problem.data.weight)(residuals**2)[0].sum()
    known = {**problem.model.parameters(problem.hardware), **values} if problem.pulls else {}
    off = {name: pull.off(name, known[name]) for name, pull in problem.pulls.items()}
    return float(fit + sum(_pulled(pull, name, off) for name, pull in problem.pulls.items()))


def _pulled(pull: Pull, name: str, off: Mapping[str, float]) -> float:
    """A prior's term of the cost; ``off`` is how far each parameter is from its mean."""
    coupled = sum(precision * off[other] for other, precision in pull.coupled.items())
    return 0.5 * pull.precision * off[name] ** 2 + 0.5 * coupled * off[name]


def minimise(problem: Problem, start: Mapping[str, float]) -> Estimate:
    """Least squares from one start, within the physical bounds, with the closed-form Jacobian."""
    objective = Objective(problem.model, problem.hardware, problem.data)
    pulled = [name for name in start if name in problem.pulls]
    shift, roots = _prior_of(problem, pulled)
    place = np.array([[name == other for other in start] for name in pulled], dtype=np.float64)

    def residuals(values: Mapping[str, float]) -> Floats:
        off = np.array([problem.pulls[name].off(name, values[name]) for name in pulled])
        return np.concatenate([objective.residuals(values), roots @ (off + shift)])

    def jacobian(values: Mapping[str, float]) -> Floats:
        slope = [problem.pulls[name].slope(name, values[name]) for name in pulled]
        of_prior = roots @ (np.array(slope)[:, None] * place.reshape(-1, len(start)))
        return np.vstack([objective.jacobian(values), of_prior])

    loss = weighted_loss(problem.loss, problem.data.weight, len(pulled))
    estimate = least_squares(residuals, jacobian, start, loss)
    # With the pulls on what is held, too
    return dataclasses.replace(estimate, cost=cost(problem, estimate.values))


def _prior_of(problem: Problem, names: Sequence[str]) -> tuple[Floats, Floats]:
    """How far others' values move the means of some parameters down (k,), and the root of their precision (k, k)."""
    pulls = problem.pulls
    shift = np.zeros(len(names))
    precision = precision_of(pulls, names, names)
    held = [name for name in pulls if name not in names and pulls[name].coupled]
    if held and names:
        known = problem.model.parameters(problem.hardware)
        off = np.array([pulls[name].off(name, known[name]) for name in held])
        shift = np.linalg.solve(precision, precision_of(pulls, names, held) @ off)
    root: Floats = np.linalg.cholesky(precision).T.astype(np.float64)
    return shift, root


def least_squares(
    residuals: Callable[[Mapping[str, float]], Floats],
    jacobian: Callable[[Mapping[str, float]], Floats],
    start: Mapping[str, float],
    loss: Loss,
    tolerance: float = 1e-9,
) -> Estimate:
    """Minimise ½Σ of ``loss`` over residuals (n,) with their Jacobian (n, k), by value, within the physical bounds."""
    parameters = lmfit.Parameters()
    known = {f"p{place}": name for place, name in enumerate(start)}  # its own names are identifiers
    for key, name in known.items():
        bounds = facts(name)
        parameters.add(
            key,
            value=min(max(start[name], bounds.lower), bounds.upper),
            min=bounds.lower,
            max=bounds.upper,
        )

    def by_name(p: lmfit.Parameters) -> dict[str, float]:
        return {known[key]: float(value) for key, value in p.valuesdict().items()}

    minimiser = lmfit.Minimizer(
        lambda p: residuals(by_name(p)),
        parameters,
        calc_covar=False,  # intervals are made by calibrate.fitting.covariance
        nan_policy="raise",
        max_nfev=_MAX_EVALUATIONS,
    )
    # Lmfit takes logarithms of the zero cost of a perfect fit
    with np.errstate(invalid="ignore", divide="ignore"):
        result = minimiser.minimize(
            method="least_squares",
            jac=lambda p: jacobian(by_name(p)),
            loss=loss,
            x_scale="jac",
            xtol=tolerance,
            ftol=tolerance,
        )
    values = by_name(result.params)
    return Estimate(
        values=values,
        cost=float(0.5 * loss(result.residual**2)[0].sum()),
        evaluations=int(result.nfev),
        success=bool(result.success),
        message=str(result.message),
    )


def lmfit_parameters(
    values: Mapping[str, float],
    starts: Mapping[str, float],
    free: Sequence[str],
    covariance: Mapping[str, Mapping[str, float]],
) -> lmfit.Parameters:
    """Values as lmfit knows them: starts, bounds, which are ``free``, standard errors and correlations."""
    parameters = lmfit.Parameters()
    for name, value in values.items():
        known = PARAMETERS[name]
        # 0 may stand for "off" below the bounds
        low = min(known.lower, value)
        high = max(known.upper, value)
        parameters.add(name, value=value, min=low, max=high, vary=name in free)
        parameters[name].init_value = starts[name]
    errors = {name: math.sqrt(row[name]) for name, row in covariance.items()}
    for name, row in covariance.items():
        parameters[name].stderr = errors[name]
        others = {other: value for other, value in row.items() if other != name}
        parameters[name].correl = {
            other: value / (errors[name] * errors[other])
            for other, value in others.items()
            if errors[name] and errors[other]  # both 0 where the data has no noise
        }
    return parameters


def lmfit_report(parameters: lmfit.Parameters) -> str:
    """The variables and their correlations as lmfit writes them."""
    return str(lmfit.fit_report(parameters, show_correl=True, min_correl=CORRELATED))


def at_bound(name: str, value: float) -> bool:
    """Whether a value lies at one of its parameter's physical bounds."""
    bounds = facts(name)
    scale = (bounds.upper - bounds.lower) if bounds.upper <= 10 else max(bounds.guide)
    return min(value - bounds.lower, bounds.upper - value) < AT_BOUND * scale


def snap(name: str, value: float) -> float:
    """The bound itself for a value at its bound (never quite reached by an interior method), else the value."""
    bounds = facts(name)
    return (
        min((bounds.lower, bounds.upper), key=lambda bound: abs(bound - value))
        if at_bound(name, value)
        else value
    )


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Values as they are written, so that a report speaks of the configuration that is handed on."""
    return {
        name: float(f"{snap(name, value):.{_SIGNIFICANT_DIGITS}g}")
        for name, value in values.items()
    }
