"""The main job: from campaigns and a starting configuration to a judged fit."""

import dataclasses
import datetime
import importlib.metadata
import platform
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from calibrate.campaign import Campaign
from calibrate.crossval import LEAVE_OUT, predict_held_out, splits
from calibrate.errors import CalibrateError, CampaignError
from calibrate.explanation import informants, row_groups
from calibrate.identifiability import Choice, Sensitivity, choose_free, sensitivity
from calibrate.metrics import errors_by_slice
from calibrate.objective import MODEL_FLOOR, Dataset, build_dataset, check_loss, leave_out_incomputable, row_influence
from calibrate.outliers import isolated, list_outliers
from calibrate.parameter_results import describe_identifiability, parameter_results
from calibrate.parameters import find_parameter
from calibrate.quality import check_coverage, check_peaks
from calibrate.result import (
    FitResult,
    FitSummary,
    Metrics,
)
from calibrate.review import check_search, judge, review
from calibrate.solver import Problem, Search, minimise, search, snap
from calibrate.structure import lack_of_fit, residual_structure
from sim.batch import Floats
from sim.hardware import Hardware
from sim.latency import LatencyModel, latency_model
from sim.work import minimum_work

_SIGNIFICANT_DIGITS = 6
_ROUNDS = 3

Progress = Callable[[str], None]


def fit(
    campaigns: Sequence[Campaign],
    hardware: Hardware,
    *,
    model: str = "roofline-v1",
    fix: Mapping[str, float | None] | None = None,
    free: Sequence[str] = (),
    starts: int = 32,
    loss: str = "soft_l1",
    seed: int = 0,
    jobs: int = 1,
    floor: float = MODEL_FLOOR,
    cv: Sequence[str] = LEAVE_OUT,
    skip_bad_rows: bool = False,
    command: str = "",
    notes: Sequence[str] = (),
    progress: Progress = lambda _: None,
) -> FitResult:
    """Fit a latency model's parameters to the steps of some campaigns, and judge the fit.

    ``hardware`` is the starting configuration; ``fix`` holds parameters (at a value, or at the start's where it is
    None), ``free`` fits parameters that would be held. ``notes`` on the start lead the
    warnings; ``progress`` is told the name of each part of the work.
    Raises CampaignError if a campaign has errors (unless ``skip_bad_rows``), CalibrateError if nothing can be
    fitted, HardwareError if the configuration lacks what the model needs. The same seed gives the same result.
    """
    began = time.perf_counter()
    _check_options(starts, seed, floor)
    _refuse_errors(campaigns, skip_bad_rows)
    chosen, fixed = latency_model(model), _fixed(fix or {})
    check_loss(loss)
    freed = [find_parameter(name).name for name in free]
    if set(freed) & set(fixed):
        raise CalibrateError(f"{', '.join(sorted(set(freed) & set(fixed)))}: cannot be both fixed and free")
    data, dropped = leave_out_incomputable(chosen, build_dataset(campaigns, floor))
    parts = splits(data, seed, cv)
    start = hardware.with_values(fixed_values := {k: v for k, v in fixed.items() if v is not None})
    with threadpool_limits(limits=1, user_api="blas"):  # small matrices: threads would only wait for one another
        progress("fitting")
        at_start = sensitivity(chosen, start, data)
        choice, found = _search(chosen, start, data, at_start, list(fixed), freed, starts, loss, seed)
        data, found = _without_outliers(Problem(chosen, start, data, choice.free, loss), found)
        after = start.with_values(found.best.values)
        progress("predicting held-out rows")
        problem = Problem(chosen, start, data, choice.free, loss)
        held_out = {s.name: predict_held_out(problem, found.best.values, s, seed, jobs) for s in parts}
    seen = sensitivity(chosen, after, data)
    before_us, after_us = chosen.predict_us(data.table, hardware), chosen.predict_us(data.table, after)
    metrics = Metrics(
        errors_by_slice(before_us, data.frame),
        errors_by_slice(after_us, data.frame),
        {name: errors_by_slice(predicted, data.frame) for name, predicted in held_out.items()},
    )
    groups = row_groups(chosen, after, data)
    parameters = parameter_results(
        problem, hardware, after, choice, fixed_values, informants(seen, groups, choice.free)
    )
    lacks = lack_of_fit(chosen, data, after_us, len(choice.free))
    structure = residual_structure(chosen, data, after_us)
    outliers, causes = list_outliers(data, after_us, loss)
    warnings = [
        *notes,
        *dropped,
        *(f"--free {name} was not followed: {choice.held[name][1]}." for name in freed if name in choice.held),
        *check_search(starts, found.at_best),
        *review(metrics, parameters, lacks, structure, outliers),
        *(text for arch in data.table.architectures for text in chosen.limits(arch)),
        *(str(problem) for problem in check_peaks(hardware)),
        *(str(problem) for problem in check_coverage(f"the campaigns of {hardware.gpu}", data.table)),
        *(str(problem) for campaign in campaigns for problem in campaign.problems),
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
        fit=_summary(found, data, choice, starts, loss),
        metrics=metrics,
        identifiability=describe_identifiability(at_start, seen, choice, groups),
        lack_of_fit=lacks,
        structure=tuple(structure),
        outliers=tuple(outliers),
        verdict=judge(metrics, parameters, warnings),
        warnings=tuple(warnings),
        predictions=_predictions(problem, hardware, after, before_us, after_us, held_out, causes),
    )


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


def _fixed(fix: Mapping[str, float | None]) -> dict[str, float | None]:
    fixed = {}
    for name, value in fix.items():
        bounds = find_parameter(name)
        if value is not None and not bounds.lower <= value <= bounds.upper:
            raise CalibrateError(
                f"{bounds.name} = {value:g} is outside its bounds, {bounds.lower:g} to {bounds.upper:g}"
            )
        fixed[bounds.name] = value
    return fixed


def _search(
    model: LatencyModel,
    start: Hardware,
    data: Dataset,
    at_start: Sensitivity,
    fixed: Sequence[str],
    freed: Sequence[str],
    starts: int,
    loss: str,
    seed: int,
) -> tuple[Choice, Search]:
    """Choose what is free at the start, fit, and look again at the solution until the choice stands."""
    values = model.parameters(start)
    choice = choose_free(at_start, values, fixed, freed)
    for remaining in reversed(range(_ROUNDS)):
        if not choice.free:
            raise CalibrateError("nothing can be fitted: every parameter is fixed, or no row of the data sees it")
        found = _rounded(search(Problem(model, start, data, choice.free, loss), starts, seed))
        seen = sensitivity(model, start.with_values(found.best.values), data)
        revised = _revise(choice, choose_free(seen, values, fixed, freed), seen)
        if revised.free == choice.free or not remaining:
            break
        choice = revised
    return choice, found


def _without_outliers(problem: Problem, found: Search) -> tuple[Dataset, Search]:
    """Set isolated outliers aside and fit again until they stay the same; a linear loss trusts every row."""
    data = problem.data
    for _ in range(_ROUNDS if problem.loss != "linear" else 0):
        predicted = problem.model.predict_us(data.table, problem.hardware.with_values(found.best.values))
        rows = isolated(data, np.log(predicted / data.measured_us))
        if (rows == data.set_aside).all():
            break
        data = data.setting_aside(rows)
        again = minimise(dataclasses.replace(problem, data=data), found.best.values)
        best = dataclasses.replace(again, evaluations=found.best.evaluations + again.evaluations)
        found = _rounded(dataclasses.replace(found, best=best))
    return data, found


def _revise(choice: Choice, again: Choice, seen: Sensitivity) -> Choice:
    """Let go of what no row sees at the solution, and take up what was unseen at the start only."""
    gone = {name for name in choice.free if name in seen.inert}
    new = {name for name in again.free if choice.held.get(name, ("",))[0] == "inert"}
    free = tuple(name for name in seen.names if name in ({*choice.free} | new) - gone)
    held = {**choice.held, **{name: again.held[name] for name in gone if name in again.held}}
    return Choice(free, {name: entry for name, entry in held.items() if name not in free})


def _rounded(found: Search) -> Search:
    """Values as they are written, so that the report speaks of the configuration that is handed on."""
    values = {name: float(f"{snap(name, value):.{_SIGNIFICANT_DIGITS}g}") for name, value in found.best.values.items()}
    return dataclasses.replace(found, best=dataclasses.replace(found.best, values=values))


def _summary(found: Search, data: Dataset, choice: Choice, starts: int, loss: str) -> FitSummary:
    best = found.best
    return FitSummary(
        "converged" if best.success else "stopped",
        best.message,
        best.cost,
        len(data),
        len(choice.free),
        best.evaluations,
        starts,
        found.at_best,
        found.costs,
        loss,
    )


def _predictions(
    problem: Problem,
    before: Hardware,
    after: Hardware,
    before_us: Floats,
    after_us: Floats,
    held_out: Mapping[str, Floats],
    causes: NDArray[np.str_],
) -> pd.DataFrame:
    data = problem.data
    work = minimum_work(data.table)
    residual = np.log(after_us / data.measured_us)
    frame = data.frame.rename(columns={"latency_us": "measured_us"}).drop(
        columns=["latency_std_us", "set_aside"], errors="ignore"
    )
    return frame.assign(
        before_us=before_us,
        after_us=after_us,
        residual=residual,
        weight=data.weight,
        influence=np.where(data.set_aside, 0.0, row_influence(problem.loss, residual / data.sigma)),
        cause=causes,
        held_out_us=held_out.get("folds", held_out.get("run", np.full(len(data), np.nan))),
        **{f"held_out_{name}_us": predicted for name, predicted in held_out.items() if name in LEAVE_OUT},
        before_regime=problem.model.regimes(data.table, before),
        regime=problem.model.regimes(data.table, after),
        flops=work.flops,
        bytes=work.bytes,
    )


def _software() -> dict[str, str]:
    names = ("calibrate", "numpy", "scipy", "lmfit")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
