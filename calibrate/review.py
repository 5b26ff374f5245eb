"""Judges a fit in words: what to distrust, where, and whether the model or the data is at fault."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from calibrate.metrics import FAIR, GOOD, Errors
from calibrate.objective import POINT, Dataset
from calibrate.result import Metrics, ParameterResult, Verdict, has_moved, is_worse
from sim.architecture import Architecture
from sim.batch import Floats
from sim.latency import LatencyModel

_PARTED = 1.5
_MUCH_OFF = 0.10
_BIASED = 0.10
_MISFIT = 3.0
_UNMOVED = "The configuration held this fit already: its error before is that of a fit."
_STARTS_TO_JUDGE, _AGREEING = 8, 0.2


def review(
    model: LatencyModel,
    data: Dataset,
    after_us: Floats,
    metrics: Metrics,
    parameters: Sequence[ParameterResult],
    architectures: Sequence[Architecture],
) -> list[str]:
    """Every warning about a finished fit, the weightiest first."""
    return [
        *_held_out(metrics, parameters),
        *_model_at_fault(model, data, after_us),
        *_parameters(parameters),
        *(text for arch in architectures for text in model.limits(arch)),
    ]


def check_search(starts: int, at_best: int) -> list[str]:
    """A warning where few starts found the best fit."""
    if starts < _STARTS_TO_JUDGE or at_best >= _AGREEING * starts:
        return []
    return [f"Only {at_best} of {starts} starts reached the best cost: there are other minima; try more --starts."]


def judge(metrics: Metrics, parameters: Sequence[ParameterResult], warnings: Sequence[str]) -> Verdict:
    """The verdict on a fit: its held-out error, how much better it is, and what speaks against it."""
    before, after = metrics.before["all"], metrics.after["all"]
    folds = metrics.unseen
    held = (folds or metrics.after)["all"]
    seen = [p for p in parameters if p.status in ("fitted", "at-bound")]
    stuck = [p.name for p in seen if p.status == "at-bound"]
    left_out = {name: slices["all"].mape for name, slices in metrics.held_out.items() if name not in ("folds", "run")}
    solid = held.mape <= GOOD and max(left_out.values(), default=0.0) <= FAIR and not stuck
    level = "good" if solid and folds else "fair" if held.mape <= FAIR and after.n > len(seen) else "poor"
    if is_worse(metrics, parameters):
        level = "poor"
    sentence = (
        f"Step times are predicted to {held.mape:.1%} on rows the fit {'has not seen' if folds else 'was made of'}, "
        f"against {before.mape:.1%} "
        "with the configuration it started from"
        + (f"; for a model it has not seen, to {left_out['model']:.1%}." if "model" in left_out else ".")
    )
    reasons = [
        *([] if has_moved(parameters) else [_UNMOVED]),
        f"Mean error {before.mape:.1%} before, {after.mape:.1%} after, "
        + (f"{held.mape:.1%} held out " if folds else "none could be held out ")
        + f"({held.n} rows, 90% of them within {held.p90_ape:.1%}).",
        *(
            f"Leaving one {name} out: {slices['all'].mape:.1%} (worst: {_worst(slices, name)})."
            for name, slices in metrics.held_out.items()
            if name in ("model", "tp", "campaign")
        ),
        f"{len(seen)} of {len(parameters)} parameters were determined by this data"
        + (f"; {', '.join(stuck)} ended at a physical bound." if stuck else "."),
    ]
    if warnings:
        reasons.append(f"{len(warnings)} warning{'s' if len(warnings) > 1 else ''} below.")
    return Verdict(level, sentence, tuple(reasons))  # type: ignore[arg-type]  # mypy widens the conditional to str


def _held_out(metrics: Metrics, parameters: Sequence[ParameterResult]) -> list[str]:
    found, after = [], metrics.after["all"].mape
    folds = metrics.unseen
    if folds is None:
        found.append("There is one run only: no error could be held out, and the training error flatters.")
    elif is_worse(metrics, parameters):
        found.append(
            f"Held out, the fit is worse than the configuration it started from "
            f"({folds['all'].mape:.1%} against {metrics.before['all'].mape:.1%})."
        )
    elif folds["all"].mape > _PARTED * after:
        found.append(
            f"Held-out error {folds['all'].mape:.1%} parts from training error {after:.1%}: the fit follows its rows."
        )
    for name in ("model", "tp", "campaign"):
        slices = metrics.held_out.get(name)
        if slices and slices["all"].mape > max(_PARTED * after, _MUCH_OFF):
            found.append(
                f"Leaving one {name} out, the error is {slices['all'].mape:.1%} (worst: {_worst(slices, name)}): "
                f"expect as much for a {name} that was not measured."
            )
    return found


def _worst(slices: dict[str, Errors], name: str) -> str:
    label, worst = max(((k, v) for k, v in slices.items() if k.startswith(f"{name}:")), key=lambda item: item[1].mape)
    return f"{label.replace('tp:', 'tp ').removeprefix(f'{name}:')}, {worst.mape:.1%}"


def _model_at_fault(model: LatencyModel, data: Dataset, after_us: Floats) -> list[str]:
    """Say so where replicates agree far better than the model does, or where whole slices are off one way."""
    frame = data.frame.assign(error=after_us / data.measured_us - 1.0)
    found = []
    spread = _replicate_spread(frame)
    typical = float(frame["error"].abs().mean())
    if spread is not None and typical > _MISFIT * max(spread, 0.005):
        found.append(
            f"The model, not the data, is at fault: replicates agree to {spread:.1%}, "
            f"{model.name} misses them by {typical:.1%}."
        )
    for keys in (["phase", "tp"], ["phase", "model"]):
        groups = frame.groupby(keys)["error"].agg(["mean", "size"])
        groups = groups[(groups["mean"].abs() > _BIASED) & (groups["size"] >= 5)]
        if len(groups) and len(frame.groupby(keys)) > 1:
            worst = groups["mean"].abs().sort_values(ascending=False).index[:4]
            listed = ", ".join(f"{_label(keys, key)} {groups.loc[key, 'mean']:+.0%}" for key in worst)
            found.append(f"{model.name} is off one way over whole slices ({listed}): it lacks a term there.")
    return [*found, *_trend(model, frame)]


def _trend(model: LatencyModel, frame: pd.DataFrame) -> list[str]:
    """A signed error that runs with the tokens of a step is structure, not noise."""
    found = []
    for phase in ("prefill", "decode"):
        rows = frame[frame["phase"] == phase]
        column = "prefill_tokens" if phase == "prefill" else "batch"
        if len(rows) < 30 or rows[column].nunique() < 4:
            continue
        small, large = rows[column] <= rows[column].quantile(0.25), rows[column] >= rows[column].quantile(0.75)
        low, high = float(rows["error"][small].mean()), float(rows["error"][large].mean())
        if abs(high - low) > _BIASED:
            what = "tokens" if phase == "prefill" else "batch"
            found.append(
                f"{model.name} errs with the {what} of {phase} steps: {low:+.0%} on the smallest quarter, "
                f"{high:+.0%} on the largest."
            )
    return found


def _replicate_spread(frame: pd.DataFrame) -> float | None:
    groups = frame.groupby(POINT, sort=False)["latency_us"]
    several = groups.transform("size") > 2
    if several.sum() < 6:
        return None
    return float(np.median((groups.transform("std") / groups.transform("mean"))[several]))


def _label(keys: Sequence[str], values: tuple[object, ...]) -> str:
    return " ".join(f"tp {value}" if key == "tp" else str(value) for key, value in zip(keys, values, strict=True))


def _parameters(parameters: Sequence[ParameterResult]) -> list[str]:
    found = [
        f"{p.name} ended at its physical bound ({p.value:.4g}): the model compensates for a term it lacks."
        for p in parameters
        if p.status == "at-bound"
    ]
    outside = [p for p in parameters if p.is_outside_guide]
    if outside:
        listed = ", ".join(f"{p.name} {p.value:.4g} ({p.guide[0]:g} to {p.guide[1]:g})" for p in outside)
        found.append(f"Outside the guide's ranges, intervals and all: {listed}.")
    return found
