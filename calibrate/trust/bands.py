"""Prediction bands: between which times one new step lies, of a run that the fit has not seen.

A band is as wide as the row's noise and the parameters' uncertainty make it, times a factor for its phase that the
held-out errors set: split conformal prediction with normalised scores (Lei, G'Sell, Rinaldo, Tibshirani and Wasserman
2018). Model error is in it, since held-out errors have it; rows of a run that err together make it less sure.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from calibrate.fitting.covariance import Covariance
from calibrate.fitting.objective import MODEL_FLOOR
from calibrate.fitting.problem import Problem
from calibrate.trust.thresholds import FEWEST_OF_PHASE
from sim.steps.batch import Floats, StepTable

LEVEL = 0.9
_PARTS = 10  # into which runs are put to measure the coverage


@dataclasses.dataclass(frozen=True, eq=False)
class Bands:
    """90% bands of every row in µs, shape (n,).

    ``coverage`` is the share of held-out rows inside bands whose factor the row's own run had no part in, by slice
    (``all``, ``phase:…``, ``model:…``, ``tp:…``, ``campaign:…``). ``factor`` by phase is what the width is times σ.
    """

    low_us: Floats
    high_us: Floats
    coverage: dict[str, float]
    factor: dict[str, float]


def prediction_bands(problem: Problem, intervals: Covariance, held_out_us: Floats) -> Bands | None:
    """Bands about the predictions of ``problem.hardware``, which holds the solution.

    ``held_out_us``, shape (n,), has every row's prediction by a fit that has not seen its run, NaN where there is
    none. None if too few rows are held out for nine in ten to mean anything.
    """
    data = problem.data
    phase = data.table.phases
    spread = _spread(problem, intervals, data.table, data.sigma)
    score = np.abs(np.log(held_out_us / data.measured_us)) / spread
    known = ~np.isnan(score)
    factor = _factors(score[known], phase[known])
    if not factor:
        return None
    return Bands(
        *_around(problem, data.table, spread, factor),
        coverage=_coverage(problem, score, known),
        factor=factor,
    )


def bands_of(
    problem: Problem,
    intervals: Covariance,
    factor: Mapping[str, float],
    table: StepTable,
    sigma: float | Floats = MODEL_FLOOR,
) -> tuple[Floats, Floats]:
    """Low and high ends in µs, shape (n,), for other steps, with the ``factor`` of :class:`Bands`.

    ``sigma`` is the relative noise of a measurement. A phase that was not held out takes the widest factor.
    """
    return _around(problem, table, _spread(problem, intervals, table, sigma), factor)


def _around(
    problem: Problem, table: StepTable, spread: Floats, factor: Mapping[str, float]
) -> tuple[Floats, Floats]:
    widest = max(factor.values())
    half = np.array([factor.get(phase, widest) for phase in table.phases]) * spread
    predicted = problem.model.predict_us(table, problem.hardware)
    return predicted * np.exp(-half), predicted * np.exp(half)


def _spread(
    problem: Problem, intervals: Covariance, table: StepTable, sigma: float | Floats
) -> Floats:
    """√(σ² + se²) of ln(prediction), se² = g·Σ·gᵀ with g the gradient of ln(prediction) by the parameters."""
    names = list(intervals.stderr)
    predicted, jacobian = problem.model.predict_with_jacobian_us(table, problem.hardware, names)
    gradient = jacobian / predicted[:, None]
    variance = np.einsum("ni,ij,nj->n", gradient, intervals.matrix, gradient)
    spread: Floats = np.sqrt(np.square(sigma) + variance)
    return spread


def _factors(score: Floats, phase: NDArray[np.str_]) -> dict[str, float]:
    """The conformal quantile of the scores by phase; of all scores for a phase with few. Empty for too few in all."""
    everything = _quantile(score)
    if everything is None:
        return {}
    counts = {name: int((phase == name).sum()) for name in np.unique(phase).tolist()}
    own = {
        name: _quantile(score[phase == name]) if n >= FEWEST_OF_PHASE else None
        for name, n in counts.items()
    }
    return {name: everything if quantile is None else quantile for name, quantile in own.items()}


def _quantile(score: Floats) -> float | None:
    """The ⌈(n + 1)·0.9⌉-th smallest score; None where n is below nine."""
    rank = int(np.ceil((len(score) + 1) * LEVEL))
    return float(np.partition(score, rank - 1)[rank - 1]) if rank <= len(score) else None


def _coverage(problem: Problem, score: Floats, known: NDArray[np.bool_]) -> dict[str, float]:
    frame = problem.data.frame
    phase = problem.data.table.phases
    part = frame.groupby("run", sort=False).ngroup().to_numpy() % _PARTS
    inside = np.full(len(score), np.nan)
    for number in range(_PARTS):
        judged = known & (part == number)
        others = known & (part != number)
        factor = _factors(score[others], phase[others])
        if factor:
            allowed = np.array([factor.get(name, max(factor.values())) for name in phase[judged]])
            inside[judged] = score[judged] <= allowed
    rows = frame.assign(inside=inside)[~np.isnan(inside)]
    if not len(rows):
        return {}
    slices = {"all": float(rows["inside"].mean())}
    for column in ("phase", "model", "tp", "campaign"):
        slices |= {
            f"{column}:{value}": float(share)
            for value, share in rows.groupby(column)["inside"].mean().items()
        }
    return slices
