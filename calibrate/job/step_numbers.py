"""The numbers of a fit to steps: errors, how the minimisation went, and a row for every step."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.fitting.objective import Dataset, Objective, row_influence
from calibrate.job.solution import Solution
from calibrate.outcome.result import FitSummary, Metrics, Statistics
from calibrate.trust.bands import Bands
from calibrate.trust.crossval import KINDS
from calibrate.trust.metrics import errors_by_slice
from sim.hardware import Hardware
from sim.steps.batch import Floats
from sim.steps.work import minimum_work


def metrics_of(
    before_us: Floats, after_us: Floats, held_out: Mapping[str, Floats], data: Dataset
) -> Metrics:
    """Errors of the rows that count, and of every row where some were set aside."""
    every_row = _errors(before_us, after_us, held_out, data.frame)
    aside = data.set_aside
    if not aside.any():
        return every_row
    # A row without a prediction is left out of the errors
    counting = {
        name: np.where(aside, np.nan, predicted)
        for name, predicted in {"before": before_us, "after": after_us, **held_out}.items()
    }
    before, after = counting.pop("before"), counting.pop("after")
    return dataclasses.replace(_errors(before, after, counting, data.frame), every_row=every_row)


def _errors(
    before_us: Floats, after_us: Floats, held_out: Mapping[str, Floats], frame: pd.DataFrame
) -> Metrics:
    unseen = {name: errors_by_slice(predicted, frame) for name, predicted in held_out.items()}
    return Metrics(errors_by_slice(before_us, frame), errors_by_slice(after_us, frame), unseen)


def step_summary(solution: Solution, starts: int) -> FitSummary:
    """How the minimisation went, with its statistics and covariance."""
    best, data = solution.search.best, solution.problem.data
    return FitSummary(
        status="converged" if best.success else "stopped",
        message=best.message,
        cost=best.cost,
        n_rows=len(data),
        n_free=len(solution.problem.free),
        n_evaluations=best.evaluations,
        starts=starts,
        starts_at_best=solution.search.at_best,
        costs=solution.search.costs,
        loss=solution.problem.loss,
        statistics=_statistics(solution),
        covariance=solution.joint.by_name(),
    )


def _statistics(solution: Solution) -> Statistics:
    problem = solution.problem
    residuals = Objective(problem.model, solution.hardware, problem.data).residuals({})
    counting = int((~problem.data.set_aside).sum())
    chi_square = float((problem.data.weight * residuals**2).sum())
    return statistics(counting, len(problem.free), chi_square)


def statistics(counting: int, varied: int, chi_square: float) -> Statistics:
    """Goodness of fit of so many rows that count and parameters; ``chi_square`` is Σw·r²."""
    log_likelihood = counting * math.log(chi_square / counting) if chi_square > 0 else None
    return Statistics(
        n_data=counting,
        n_varys=varied,
        chi_square=chi_square,
        reduced_chi_square=chi_square / (counting - varied) if counting > varied else None,
        aic=None if log_likelihood is None else log_likelihood + 2 * varied,
        bic=None if log_likelihood is None else log_likelihood + varied * math.log(counting),
    )


def predictions_table(
    solution: Solution,
    before: Hardware,
    before_us: Floats,
    after_us: Floats,
    held_out: Mapping[str, Floats],
    causes: NDArray[np.str_],
    bands: Bands | None,
) -> pd.DataFrame:
    """One row a step: its labels, measured and predicted times, its weight and why it stands apart."""
    model, data = solution.problem.model, solution.problem.data
    work = minimum_work(data.table)
    residual = np.log(after_us / data.measured_us)
    nothing = np.full(len(data), np.nan)
    frame = data.frame.rename(columns={"latency_us": "measured_us"})
    frame = frame.drop(columns=["latency_std_us", "composed", "set_aside"], errors="ignore")
    return frame.assign(
        before_us=before_us,
        after_us=after_us,
        low_us=nothing if bands is None else bands.low_us,
        high_us=nothing if bands is None else bands.high_us,
        residual=residual,
        weight=data.weight,
        influence=np.where(
            data.set_aside, 0.0, row_influence(solution.problem.loss, residual / data.sigma)
        ),
        cause=causes,
        held_out_us=held_out.get("folds", held_out.get("run", nothing)),
        **{
            f"held_out_{name}_us": predicted
            for name, predicted in held_out.items()
            if name in KINDS
        },
        before_regime=model.regimes(data.table, before),
        regime=model.regimes(data.table, solution.hardware),
        flops=work.flops,
        bytes=work.bytes,
    )
