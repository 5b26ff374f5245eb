"""The main job: from campaigns and a starting configuration to a judged fit."""

import datetime
import importlib.metadata
import platform
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from calibrate.bands import LEVEL, Bands, prediction_bands
from calibrate.campaign import Campaign
from calibrate.crossval import LEAVE_OUT, predict_held_out, splits
from calibrate.errors import CalibrateError, CampaignError, merge
from calibrate.intervals import Asked, estimate
from calibrate.kernels import KernelEstimate, compare_with_steps, kernel_estimates, kernel_warnings
from calibrate.metrics import errors_by_slice
from calibrate.objective import MODEL_FLOOR, build_dataset, check_loss, leave_out_incomputable, row_influence
from calibrate.outliers import list_outliers
from calibrate.parameter_results import describe_identifiability, parameter_results
from calibrate.parameters import find_parameter, parameter_in
from calibrate.quality import check_coverage, check_peaks
from calibrate.result import BandSummary, FitResult, FitSummary, Metrics
from calibrate.review import check_search, judge, review
from calibrate.solution import Solution, solve
from calibrate.solver import Problem
from calibrate.structure import lack_of_fit, residual_structure
from sim.batch import Floats, StepTable
from sim.hardware import Hardware
from sim.latency import LatencyModel, latency_model
from sim.mfu_table import MfuTable
from sim.work import minimum_work

_PROFILES_ONLY = Asked()


def fit(
    campaigns: Sequence[Campaign],
    hardware: Hardware,
    *,
    model: str = "roofline-v1",
    mfu_table: MfuTable | None = None,
    fix: Mapping[str, float | None] | None = None,
    free: Sequence[str] = (),
    starts: int = 32,
    loss: str = "soft_l1",
    seed: int = 0,
    jobs: int = 1,
    floor: float = MODEL_FLOOR,
    cv: Sequence[str] = LEAVE_OUT,
    prior: str | None = None,
    prior_strength: float = 1.0,
    asked: Asked = _PROFILES_ONLY,
    skip_bad_rows: bool = False,
    command: str = "",
    notes: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> FitResult:
    """Fit a latency model's parameters to the steps of some campaigns, and judge the fit.

    ``hardware`` is the starting configuration, ``mfu_table`` the database of a model that needs one; ``fix`` holds
    parameters (at a value, or at the start's where it is None), ``free`` fits parameters that would be held.
    ``cv`` says what is held out (see :func:`calibrate.crossval.splits`), ``prior`` what was known before (see
    :func:`calibrate.priors.read_priors`), ``asked`` which intervals to make beside profiles. ``notes`` on the start
    lead the warnings; ``progress`` is told the name of each part of the work.
    Raises CampaignError if a campaign has errors (unless ``skip_bad_rows``), CalibrateError if nothing can be
    fitted, HardwareError if the configuration lacks what the model needs. The same seed gives the same result.
    """
    began = time.perf_counter()
    _check_options(starts, seed, floor)
    _refuse_errors(campaigns, skip_bad_rows)
    chosen = latency_model(model, mfu_table=mfu_table)
    fixed = _fixed(fix or {}, chosen)
    check_loss(loss)
    freed = [_of_model(name, chosen) for name in free]
    if set(freed) & set(fixed):
        raise CalibrateError(f"{', '.join(sorted(set(freed) & set(fixed)))}: cannot be both fixed and free")
    estimates = kernel_estimates(campaigns, hardware)
    if estimates and not any(len(campaign.steps) for campaign in campaigns):
        raise CalibrateError(_kernels_only(estimates, chosen))
    data, dropped = leave_out_incomputable(chosen, build_dataset(campaigns, floor))
    parts = splits(data, seed, cv)
    start = hardware.with_values(fixed_values := {k: v for k, v in fixed.items() if v is not None})
    with threadpool_limits(limits=1, user_api="blas"):  # small matrices: threads would only wait for one another
        progress("fitting")
        problem = Problem(chosen, start, data, (), loss)
        solution = solve(problem, list(fixed), freed, starts, seed, prior, prior_strength)
        problem, after = solution.problem, solution.hardware
        progress("predicting held-out rows")
        held_out = {s.name: predict_held_out(problem, solution.found.best.values, s, seed, jobs) for s in parts}
        spread = estimate(solution.solved, solution.inside, solution.joint, asked, seed, jobs, progress)
    data = problem.data
    before_us, after_us = chosen.predict_us(data.table, hardware), chosen.predict_us(data.table, after)
    metrics = _metrics(before_us, after_us, held_out, data.frame)
    parameters = parameter_results(solution, hardware, fixed_values, spread)
    kernels = compare_with_steps(estimates, chosen, parameters)
    lacks = lack_of_fit(chosen, data, after_us, len(problem.free))
    structure = residual_structure(chosen, data, after_us)
    outliers, causes = list_outliers(data, after_us, loss)
    unseen_us = held_out.get("folds", held_out.get("run"))
    bands = None if unseen_us is None else prediction_bands(solution.solved, solution.joint, unseen_us)
    held = solution.choice.held
    warnings = [
        *notes,
        *dropped,
        *(str(problem) for campaign in campaigns for problem in merge(campaign.problems)),
        *(f"--free {p.name} was not followed: {p.why}." for p in parameters if p.name in freed and p.name in held),
        *check_search(starts, solution.found.at_best),
        *([f"Markov chain: {spread.mcmc.note}."] if spread.mcmc and spread.mcmc.note else []),
        *review(metrics, parameters, lacks, structure, outliers),
        *kernel_warnings(kernels),
        *_limits(chosen, hardware, data.table),
    ]
    return FitResult(
        gpu=hardware.gpu,
        latency_model=chosen.name,
        seed=seed,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        duration_s=round(time.perf_counter() - began, 3),
        command=command,
        software=_software(),
        hardware={key: hardware.positive(key) for key in ("TFlopsPeak", "BwPeakTBs")},
        data=tuple(file for campaign in campaigns for file in campaign.files),
        parameters=parameters,
        fit=_summary(solution, starts),
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


def _metrics(before_us: Floats, after_us: Floats, held_out: Mapping[str, Floats], frame: pd.DataFrame) -> Metrics:
    unseen = {name: errors_by_slice(predicted, frame) for name, predicted in held_out.items()}
    return Metrics(errors_by_slice(before_us, frame), errors_by_slice(after_us, frame), unseen)


def _limits(model: LatencyModel, hardware: Hardware, table: StepTable) -> list[str]:
    """What the model cannot count, the peaks get wrong, and the steps do not cover."""
    found = [*check_peaks(hardware), *check_coverage(f"the campaigns of {hardware.gpu}", table)]
    return [*(text for arch in table.architectures for text in model.limits(arch)), *map(str, found)]


def _check_options(starts: int, seed: int, floor: float) -> None:
    for name, value, good, range_ in (
        ("starts", starts, starts >= 1, "1 or more"),
        ("seed", seed, seed >= 0, "0 or more"),
        ("floor", floor, 0 < floor < 1, "between 0 and 1"),
    ):
        if not good:
            raise CalibrateError(f"{name} must be {range_}, got {value}")


def _refuse_errors(campaigns: Sequence[Campaign], skip_bad_rows: bool) -> None:
    bad = [problem for campaign in campaigns for problem in campaign.problems if problem.severity == "error"]
    if bad and not skip_bad_rows:
        raise CampaignError(bad, "Correct these, or leave the rows out with --skip-bad-rows; nothing was fitted.")


def _of_model(name: str, model: LatencyModel) -> str:
    found = find_parameter(name).name
    if found not in model.parameter_names:
        raise CalibrateError(f"{model.name} does not read {found} (it reads {', '.join(model.parameter_names)})")
    return found


def _fixed(fix: Mapping[str, float | None], model: LatencyModel) -> dict[str, float | None]:
    fixed = {}
    for name, value in fix.items():
        bounds = parameter_in(model.name, _of_model(name, model))
        if value is not None and not (bounds.lower <= value <= bounds.upper or (value == 0 and bounds.zero)):
            raise CalibrateError(
                f"{bounds.name} = {value:g} is outside its bounds, {bounds.lower:g} to {bounds.upper:g}"
            )
        fixed[bounds.name] = value
    return fixed


def _kernels_only(estimates: Sequence[KernelEstimate], model: LatencyModel) -> str:
    found = [estimate for estimate in estimates if estimate.parameter in model.parameter_names]
    listed = ", ".join(f"{e.parameter} {e.value:.3g} ({e.source})" for e in found) or "no parameter of this model"
    given = " ".join(f"--spec {e.parameter}={e.value:.3g}" for e in found)
    return (
        f"no step row to fit: the campaigns hold kernels only. They determine {listed}. Measure steps "
        f"(`calibrate plan` says which), and start from these values: {given}"
    )


def _summary(solution: Solution, starts: int) -> FitSummary:
    best = solution.found.best
    return FitSummary(
        "converged" if best.success else "stopped",
        best.message,
        best.cost,
        len(solution.problem.data),
        len(solution.problem.free),
        best.evaluations,
        starts,
        solution.found.at_best,
        solution.found.costs,
        solution.problem.loss,
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
    residual, nothing = np.log(after_us / data.measured_us), np.full(len(data), np.nan)
    frame = data.frame.rename(columns={"latency_us": "measured_us"})
    frame = frame.drop(columns=["latency_std_us", "composed", "set_aside"], errors="ignore")
    return frame.assign(
        before_us=before_us,
        after_us=after_us,
        low_us=nothing if bands is None else bands.low_us,
        high_us=nothing if bands is None else bands.high_us,
        residual=residual,
        weight=data.weight,
        influence=np.where(data.set_aside, 0.0, row_influence(solution.problem.loss, residual / data.sigma)),
        cause=causes,
        held_out_us=held_out.get("folds", held_out.get("run", nothing)),
        **{f"held_out_{name}_us": predicted for name, predicted in held_out.items() if name in LEAVE_OUT},
        before_regime=model.regimes(data.table, before),
        regime=model.regimes(data.table, solution.hardware),
        flops=work.flops,
        bytes=work.bytes,
    )


def _software() -> dict[str, str]:
    names = ("calibrate", "numpy", "scipy", "lmfit")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
