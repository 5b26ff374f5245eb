"""The fit to steps: from measured steps and a starting configuration to parameters, intervals, and what they miss."""

import dataclasses
import datetime
import functools
import importlib.metadata
import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.campaign.campaign import Campaign
from calibrate.campaign.quality import check_coverage, check_peaks
from calibrate.fitting.covariance import Covariance
from calibrate.fitting.leverage import leverage_warning, row_leverage, row_names
from calibrate.fitting.objective import (
    Dataset,
    Objective,
    build_dataset,
    leave_out_incomputable,
    row_influence,
)
from calibrate.fitting.outliers import list_outliers
from calibrate.fitting.problem import Problem
from calibrate.job.options import Options
from calibrate.job.parameter_results import describe_identifiability, parameter_results
from calibrate.job.solution import Question, Solution, refit, solve
from calibrate.outcome.kernels import KernelEstimate, compare_with_steps, kernel_warnings
from calibrate.outcome.result import BandSummary, FitResult, FitSummary, Metrics, Statistics
from calibrate.outcome.review import check_search, judge, review
from calibrate.records.errors import merge
from calibrate.trust.bands import LEVEL, Bands, prediction_bands
from calibrate.trust.crossval import LEAVE_OUT, Split, predict_parts, splits, starts_of_part
from calibrate.trust.intervals import IntervalOptions, all_intervals
from calibrate.trust.metrics import errors_by_slice
from calibrate.trust.structure import lack_of_fit, residual_structure
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.steps.batch import Floats, StepTable
from sim.steps.work import minimum_work


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What to fit and how, as :func:`calibrate.job.calibration.fit` was asked, its options checked.

    ``fixed`` holds parameters (at the start's value where it is None), ``freed`` would otherwise be held;
    ``estimates`` is what the campaigns' kernels say.
    """

    campaigns: Sequence[Campaign]
    hardware: Hardware
    model: LatencyModel
    options: Options
    fixed: Mapping[str, float | None]
    freed: Sequence[str]
    estimates: Sequence[KernelEstimate]
    checkpoint: Path | None
    command: str
    notes: Sequence[str]
    progress: Callable[[str], None]
    began: float = dataclasses.field(default_factory=time.perf_counter)

    @property
    def intervals(self) -> IntervalOptions:
        """Which intervals to make beside profiles."""
        return IntervalOptions(self.options.bootstrap, self.checkpoint, self.options.mcmc)

    @property
    def start(self) -> Hardware:
        """The configuration with the fixed values in it."""
        return self.hardware.with_values(
            {name: value for name, value in self.fixed.items() if value is not None}
        )

    @property
    def has_steps(self) -> bool:
        """Whether any campaign holds a good row of steps."""
        return any(len(campaign.steps) for campaign in self.campaigns)

    @property
    def has_serving(self) -> bool:
        """Whether any campaign holds a good row of serving results."""
        return any(len(campaign.serving) for campaign in self.campaigns)

    @property
    def problems(self) -> list[str]:
        """The notes on the start, and what is wrong with the campaigns."""
        return [
            *self.notes,
            *(str(problem) for campaign in self.campaigns for problem in merge(campaign.problems)),
        ]


def fit_steps(task: Task) -> tuple[FitResult, Problem]:
    """The fit to the steps of the campaigns, and the problem it solved with the solution as its configuration.

    Raises CalibrateError if nothing can be fitted.
    """
    chosen = task.model
    hardware = task.hardware
    seed = task.options.seed
    data, dropped = leave_out_incomputable(
        chosen, build_dataset(task.campaigns, task.options.floor)
    )
    parts = splits(data, seed, task.options.cv or LEAVE_OUT)
    task.progress("fitting")
    known = chosen.parameter_names
    fixed = {name: value for name, value in task.fixed.items() if name in known}
    problem = Problem(chosen, task.start, data, (), task.options.loss)
    asked = Question(
        fixed=list(fixed),
        freed=[name for name in task.freed if name in known],
        starts=task.options.starts,
        seed=seed,
        prior=task.options.prior,
        prior_strength=task.options.prior_strength,
    )
    solution = solve(problem, asked)
    task.progress("predicting held-out rows")
    jobs = task.options.jobs
    held_out = {split.name: _unseen(problem, split, asked, jobs) for split in parts}
    problem, after = solution.problem, solution.hardware
    spread = all_intervals(
        solution.solved, solution.inside, solution.joint, task.intervals, seed, jobs, task.progress
    )
    data = problem.data
    before_us = chosen.predict_us(data.table, hardware)
    after_us = chosen.predict_us(data.table, after)
    metrics = _metrics(before_us, after_us, held_out, data)
    at = {name: value for name, value in fixed.items() if value is not None}
    parameters = parameter_results(solution, hardware, at, spread)
    kernels = compare_with_steps(task.estimates, chosen, parameters)
    lacks = lack_of_fit(chosen, data, after_us, len(problem.free))
    structure = residual_structure(chosen, data, after_us)
    outliers, causes = list_outliers(data, after_us, task.options.loss)
    unseen_us = held_out.get("folds", held_out.get("run"))
    bands = (
        None if unseen_us is None else prediction_bands(solution.solved, solution.joint, unseen_us)
    )
    held = solution.choice.held
    warnings = [
        *dropped,
        *task.problems,
        *(
            f"--free {p.name} was not followed: {p.why}."
            for p in parameters
            if p.name in task.freed and p.name in held
        ),
        *check_search(task.options.starts, solution.search.at_best),
        *([f"Markov chain: {spread.mcmc.note}."] if spread.mcmc and spread.mcmc.note else []),
        *review(metrics, parameters, lacks, structure, outliers),
        *leverage_warning(row_leverage(solution.solved, solution.inside), row_names(data.frame)),
        *kernel_warnings(kernels),
        *_limits(chosen, hardware, data.table),
    ]
    result = FitResult(
        **header(task),
        parameters=parameters,
        fit=_summary(solution, task.options.starts),
        metrics=metrics,
        identifiability=describe_identifiability(solution),
        lack_of_fit=lacks,
        structure=tuple(structure),
        outliers=tuple(outliers),
        profiles=spread.profiles,
        bootstrap=spread.bootstrap,
        mcmc=spread.mcmc,
        bands=None if bands is None else BandSummary(LEVEL, bands.coverage),
        kernels=kernels,
        verdict=judge(metrics, parameters, warnings),
        warnings=tuple(warnings),
        predictions=_predictions(solution, hardware, before_us, after_us, held_out, causes, bands),
    )
    return result, solution.solved


def _unseen(problem: Problem, split: Split, asked: Question, jobs: int) -> Floats:
    """Every row predicted by a fit to the other parts, made as the whole was: from the start, with fewer starts."""
    starts = min(asked.starts, starts_of_part(split))
    again = functools.partial(refit, asked=dataclasses.replace(asked, starts=starts))
    return predict_parts(problem, split, again, asked.seed, jobs)


def header(task: Task, *, serving: bool = False) -> dict[str, Any]:
    """The fields of a result that say what was fitted, when and with what; without ``serving`` no row of it is used."""
    files = [file for campaign in task.campaigns for file in campaign.files]
    return {
        "gpu": task.hardware.gpu,
        "latency_model": task.model.name,
        "seed": task.options.seed,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "duration_s": round(time.perf_counter() - task.began, 3),
        "command": task.command,
        "software": _software(),
        "peaks": {key: task.hardware.positive(key) for key in ("TFlopsPeak", "BwPeakTBs")},
        "data": tuple(
            file if serving or file.table != "serving" else dataclasses.replace(file, used=0)
            for file in files
        ),
    }


def _metrics(
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


def _limits(model: LatencyModel, hardware: Hardware, table: StepTable) -> list[str]:
    """What the model cannot count, the peaks get wrong, and the steps do not cover."""
    found = [*check_peaks(hardware), *check_coverage(f"the campaigns of {hardware.gpu}", table)]
    return [
        *(text for arch in table.architectures for text in model.limits(arch)),
        *map(str, found),
    ]


def _summary(solution: Solution, starts: int) -> FitSummary:
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
        covariance=by_name(solution.joint),
    )


def by_name(covariance: Covariance) -> dict[str, dict[str, float]]:
    """A covariance as it is written, by the names of its rows and columns."""
    names = list(covariance.stderr)
    rows = [[float(f"{value:.6g}") for value in row] for row in covariance.matrix.tolist()]
    return {name: dict(zip(names, row, strict=True)) for name, row in zip(names, rows, strict=True)}


def _statistics(solution: Solution) -> Statistics:
    problem = solution.problem
    residuals = Objective(problem.model, solution.hardware, problem.data).residuals({})
    counting = int((~problem.data.set_aside).sum())
    varied = len(problem.free)
    chi_square = float((problem.data.weight * residuals**2).sum())
    log_likelihood = counting * math.log(chi_square / counting) if chi_square > 0 else None
    return Statistics(
        n_data=counting,
        n_varys=varied,
        chi_square=chi_square,
        reduced_chi_square=chi_square / (counting - varied) if counting > varied else None,
        aic=None if log_likelihood is None else log_likelihood + 2 * varied,
        bic=None if log_likelihood is None else log_likelihood + varied * math.log(counting),
    )


def _predictions(
    solution: Solution,
    before: Hardware,
    before_us: Floats,
    after_us: Floats,
    held_out: Mapping[str, Floats],
    causes: NDArray[np.str_],
    bands: Bands | None,
) -> pd.DataFrame:
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
            if name in LEAVE_OUT
        },
        before_regime=model.regimes(data.table, before),
        regime=model.regimes(data.table, solution.hardware),
        flops=work.flops,
        bytes=work.bytes,
    )


def _software() -> dict[str, str]:
    names = ("calibrate", "numpy", "scipy", "lmfit")
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }
