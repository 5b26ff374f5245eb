"""The minimisation: lmfit over the objective, staged, joint, then from other starts. Only this file knows lmfit."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import lmfit
import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from calibrate.fitting.objective import Dataset, Loss, Objective, weighted_loss
from calibrate.fitting.problem import Problem, Pull, precision_of
from calibrate.fitting.thresholds import AT_BEST, AT_BOUND, CORRELATED
from calibrate.parameters.own import facts
from calibrate.parameters.registry import STAGES
from calibrate.records.workers import in_parts
from sim.models.registry import PARAMETERS, parameter_in
from sim.steps.batch import Floats

_MAX_EVALUATIONS = 2000
_SIGNIFICANT_DIGITS = 6
_START_ROWS = 5000
_SMALL_BATCH = 32
# Other starts lie between a third and five times the guide's range
_SPREAD_BELOW, _SPREAD_ABOVE = (3.0, 5.0)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Where one minimisation ended. ``values`` are by free parameter, ``cost`` is ½Σw·ρ(r²)."""

    values: dict[str, float]
    cost: float
    evaluations: int
    success: bool
    message: str


@dataclasses.dataclass(frozen=True)
class Search:
    """The best estimate of all starts, and the cost that each start reached, sorted, on the rows they share."""

    best: Estimate
    costs: tuple[float, ...]

    @property
    def at_best(self) -> int:
        """How many starts reached the best cost."""
        return sum(cost <= self.costs[0] * (1 + AT_BEST) for cost in self.costs)


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


def search(problem: Problem, starts: int, seed: int) -> Search:
    """The staged fit and ``starts`` − 1 joint fits from all over the plausible range; the best is polished.

    The scattered starts see at most 5,000 rows, drawn evenly from the slices, so that their cost stays small.
    """
    staged = fit_staged(problem)
    few = problem.on(thin(problem.data, _START_ROWS, seed))
    reference = minimise(few, staged.values) if len(few.data) < len(problem.data) else staged
    points = _scattered(problem, starts - 1, seed)
    others = [*in_parts(minimise, ((few, point) for point in points))]
    best = min((reference, *others), key=lambda estimate: estimate.cost)
    evaluations = staged.evaluations + sum(other.evaluations for other in others)
    if best is not reference:
        polished = minimise(problem, best.values)
        staged = polished if polished.cost < staged.cost else staged
        evaluations += polished.evaluations
    costs = tuple(sorted(estimate.cost for estimate in (reference, *others)))
    return Search(dataclasses.replace(staged, evaluations=evaluations), costs)


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
