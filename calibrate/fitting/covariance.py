"""Standard errors that hold when rows of a run err together, outliers count less, and the model is not quite right."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from calibrate.fitting.objective import Objective, loss_curvature, row_influence
from calibrate.fitting.problem import Problem
from calibrate.fitting.thresholds import FEWEST_RUNS, SINGULAR
from calibrate.records.interval import Z90
from sim.steps.batch import Floats

METHOD = "sandwich by run"
BY_NOISE = "curvature of rows and prior"
RUNS = ("run",)
SLICES = {
    "sandwich by model and TP": ("model", "tp"),
    "sandwich by phase, model and TP": ("phase", "model", "tp"),
}
"""Columns of the rows that err together where the model is at fault, by the name of the method."""

_TINY = float(np.finfo(float).tiny)


@dataclasses.dataclass(frozen=True, eq=False)
class Covariance:
    """Standard errors and 90% half-widths of the estimates by parameter; empty where the data cannot tell.

    ``matrix``, their covariance, and ``curvature`` of the loss have shape (k, k), in the order of ``stderr``.
    """

    stderr: dict[str, float]
    half_width: dict[str, float]
    matrix: Floats
    curvature: Floats

    def by_name(self) -> dict[str, dict[str, float]]:
        """The matrix as it is written, by the names of its rows and columns."""
        names = list(self.stderr)
        rows = [[float(f"{value:.6g}") for value in row] for row in self.matrix.tolist()]
        return {
            name: dict(zip(names, row, strict=True)) for name, row in zip(names, rows, strict=True)
        }


NO_COVARIANCE = Covariance({}, {}, np.empty((0, 0)), np.empty((0, 0)))


def sandwich(problem: Problem, values: dict[str, float], by: Sequence[str] = RUNS) -> Covariance:
    """Covariance of a fit to steps at ``values``; rows alike in the columns ``by`` err together."""
    objective = Objective(problem.model, problem.hardware, problem.data)
    groups = problem.data.frame.groupby([*by], sort=False)
    clusters = [np.asarray(rows) for rows in groups.indices.values()]
    if not values or len(clusters) < max(FEWEST_RUNS, len(values) + 1):
        return NO_COVARIANCE
    residual = objective.residuals(values)
    jacobian = objective.jacobian(values)
    return sandwich_by_run(
        list(values), residual, jacobian, problem.data.weight, problem.loss, clusters
    )


def sandwich_by_slice(problem: Problem, values: dict[str, float]) -> tuple[str, Covariance]:
    """How wide the misfit of a model makes them: whole slices as the observations, and the method's name.

    Slices are model × TP or, where those are too few for the parameters, phase × model × TP; empty where those are.
    """
    by_slice = {method: sandwich(problem, values, by) for method, by in SLICES.items()}
    known = [(method, found) for method, found in by_slice.items() if found.stderr]
    return known[0] if known else (next(iter(SLICES)), NO_COVARIANCE)


def by_noise(
    problem: Problem, values: Mapping[str, float], scale: Floats, least: Floats
) -> Covariance:
    """Covariance at ``values`` if rows err apart, by the noise they state, its errors times the root of ``scale`` (k,).

    ``least`` (k, k) is a precision that is there without any row.
    """
    objective = Objective(problem.model, problem.hardware, problem.data)
    residual, jacobian = objective.residuals(values), objective.jacobian(values)
    bend = problem.data.weight * np.maximum(loss_curvature(problem.loss, residual), 0.0)
    curvature: Floats = (bend[:, None] * jacobian).T @ jacobian
    root = np.sqrt(scale)
    matrix: Floats = np.asarray(np.linalg.inv(curvature / np.outer(root, root) + least))
    stderr = dict(zip(values, np.sqrt(np.diag(matrix)).tolist(), strict=True))
    half_width = {name: Z90 * error for name, error in stderr.items()}
    return Covariance(stderr, half_width, matrix, curvature)


def wider(first: Covariance, second: Covariance) -> Covariance:
    """The covariance ``first``, each of its parameters as wide as the wider of both; ``first`` if either is empty."""
    if not first.stderr or not second.stderr:
        return first
    stderr = {name: max(error, second.stderr[name]) for name, error in first.stderr.items()}
    growth = np.array([stderr[name] / max(first.stderr[name], _TINY) for name in stderr])
    half_width = {name: max(h, second.half_width[name]) for name, h in first.half_width.items()}
    matrix: Floats = first.matrix * np.outer(growth, growth)
    return Covariance(stderr, half_width, matrix, first.curvature)


def sandwich_by_run(
    names: Sequence[str],
    residual: Floats,
    jacobian: Floats,
    weight: Floats,
    loss: str,
    rows_of_run: Sequence[NDArray[np.intp]],
) -> Covariance:
    """Asymptotic intervals of an M-estimator, with whole runs as the independent observations.

    ``residual`` and ``weight`` (n,) and ``jacobian`` (n, len(names)) are those at the estimate. The covariance is
    A⁻¹·B·A⁻¹: A the curvature of the loss, B the spread of its gradient over runs, each run's gradient taken as the
    fit without that run would leave it (Huber 1967 for the sandwich; Bell and McCaffrey 2002 for the jackknife form
    over clusters). Half-widths use Student's t with runs − 1 degrees of freedom. Empty for fewer than five runs, for
    no more runs than parameters, or where the curvature is singular.
    """
    if not names or len(rows_of_run) < max(FEWEST_RUNS, len(names) + 1):
        return NO_COVARIANCE
    scale = 1.0 / np.maximum(np.linalg.norm(jacobian, axis=0), np.finfo(float).tiny)
    jacobian = jacobian * scale  # parameters of all sizes; the inverses below want them alike
    bend = (weight * np.maximum(loss_curvature(loss, residual), 0.0))[:, None] * jacobian
    slope = (weight * row_influence(loss, residual) * residual)[:, None] * jacobian
    curvature = bend.T @ jacobian
    if np.linalg.cond(curvature) > SINGULAR:
        return NO_COVARIANCE
    of_runs = np.array([bend[rows].T @ jacobian[rows] for rows in rows_of_run])
    gradient = np.array([slope[rows].sum(axis=0) for rows in rows_of_run])
    covariance = _jackknife_covariance(of_runs, gradient) * np.outer(scale, scale)
    return _covariance(names, covariance, curvature / np.outer(scale, scale), len(rows_of_run))


def sandwich_of_sums(names: Sequence[str], gradient: Floats, curvature: Floats) -> Covariance:
    """The same of sums by run: ``gradient`` of the cost (runs, k) and its Gauss-Newton matrix (runs, k, k)."""
    runs = len(gradient)
    if not names or runs < max(FEWEST_RUNS, len(names) + 1):
        return NO_COVARIANCE
    whole = curvature.sum(axis=0)
    scale = 1.0 / np.sqrt(np.maximum(np.diag(whole), _TINY))
    sizes = np.outer(scale, scale)
    if np.linalg.cond(whole * sizes) > SINGULAR:
        return NO_COVARIANCE
    covariance = _jackknife_covariance(curvature * sizes, gradient * scale) * sizes
    return _covariance(names, covariance, whole, runs)


def _covariance(
    names: Sequence[str], covariance: Floats, curvature: Floats, runs: int
) -> Covariance:
    stderr = np.sqrt(np.diag(covariance))
    half_width = stats.t.ppf(0.95, runs - 1) * stderr
    return Covariance(
        dict(zip(names, stderr.tolist(), strict=True)),
        dict(zip(names, half_width.tolist(), strict=True)),
        covariance,
        curvature,
    )


def _jackknife_covariance(curvature: Floats, gradient: Floats) -> Floats:
    """Spread of the estimates, to first order, when one run after the other is left out: sums by run."""
    # Zero already, but where a bound holds a parameter against its gradient
    gradient = gradient - gradient.mean(axis=0)
    without = np.linalg.pinv(curvature.sum(axis=0) - curvature, rcond=1 / SINGULAR, hermitian=True)
    shifts = np.einsum("rij,rj->ri", without, gradient)
    runs = len(gradient)
    covariance: Floats = (runs - 1) / runs * shifts.T @ shifts
    return covariance
