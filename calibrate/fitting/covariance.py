"""Standard errors that hold when rows of a run err together, outliers count less, and the model is not quite right."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from calibrate.fitting.objective import Objective, loss_curvature, row_influence
from calibrate.fitting.problem import Problem
from calibrate.fitting.thresholds import FEWEST_RUNS, SINGULAR
from sim.steps.batch import Floats

METHOD = "sandwich by run"


@dataclasses.dataclass(frozen=True, eq=False)
class Covariance:
    """Standard errors and 90% half-widths of the estimates by parameter; empty where the data cannot tell.

    ``matrix``, their covariance, and ``curvature`` of the loss have shape (k, k), in the order of ``stderr``.
    """

    stderr: dict[str, float]
    half_width: dict[str, float]
    matrix: Floats
    curvature: Floats


NO_COVARIANCE = Covariance({}, {}, np.empty((0, 0)), np.empty((0, 0)))


def sandwich(problem: Problem, values: dict[str, float]) -> Covariance:
    """Covariance of a fit to steps at ``values``; see :func:`sandwich_by_run`."""
    objective = Objective(problem.model, problem.hardware, problem.data)
    runs = [
        np.asarray(rows) for rows in problem.data.frame.groupby("run", sort=False).indices.values()
    ]
    if not values or len(runs) < max(FEWEST_RUNS, len(values) + 1):
        return NO_COVARIANCE
    residual = objective.residuals(values)
    jacobian = objective.jacobian(values)
    return sandwich_by_run(
        list(values), residual, jacobian, problem.data.weight, problem.loss, runs
    )


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
    covariance = _jackknife_covariance(jacobian, bend, slope, rows_of_run) * np.outer(scale, scale)
    stderr = np.sqrt(np.diag(covariance))
    half_width = stats.t.ppf(0.95, len(rows_of_run) - 1) * stderr
    return Covariance(
        dict(zip(names, stderr.tolist(), strict=True)),
        dict(zip(names, half_width.tolist(), strict=True)),
        covariance,
        curvature / np.outer(scale, scale),
    )


def _jackknife_covariance(
    jacobian: Floats, bend: Floats, slope: Floats, rows_of_run: Sequence[NDArray[np.intp]]
) -> Floats:
    """Spread of the estimates, to first order, when one run after the other is left out."""
    curvature = np.array([bend[rows].T @ jacobian[rows] for rows in rows_of_run])
    gradient = np.array([slope[rows].sum(axis=0) for rows in rows_of_run])
    # Zero already, but where a bound holds a parameter against its gradient
    gradient -= gradient.mean(axis=0)
    without = np.linalg.pinv(curvature.sum(axis=0) - curvature, rcond=1 / SINGULAR, hermitian=True)
    shifts = np.einsum("rij,rj->ri", without, gradient)
    runs = len(rows_of_run)
    covariance: Floats = (runs - 1) / runs * shifts.T @ shifts
    return covariance
