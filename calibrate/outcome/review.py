"""Judges a fit in words: what to distrust, where, and whether the model or the data is at fault."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from calibrate.fitting.outliers import MEDIAN_TO_SD, Outlier
from calibrate.outcome.result import Metrics, ParameterResult, has_moved, is_worse
from calibrate.outcome.thresholds import (
    AGREEING,
    BEYOND_KNEE,
    BIASED,
    FEWEST_BIASED,
    MOST_SHOWN,
    MUCH_OFF,
    PARTED,
    STARTS_TO_JUDGE,
)
from calibrate.outcome.verdict import Statement, Verdict
from calibrate.outcome.verdicts import worst_of
from calibrate.trust.metrics import Errors
from calibrate.trust.structure import LackOfFit, Structure
from calibrate.trust.thresholds import FAIR, SIGNIFICANT
from sim.steps.batch import Floats
from sim.units import US_PER_MS

_UNMOVED = (
    "The configuration held this fit already, as the last one wrote it: its smaller error is on rows that it was "
    "fitted to, and is no measure beside the error on rows not seen."
)


def review(
    metrics: Metrics,
    parameters: Sequence[ParameterResult],
    lacks: LackOfFit | None,
    structure: Sequence[Structure],
    outliers: Sequence[Outlier],
) -> list[str]:
    """Every warning about a finished fit, the weightiest first."""
    return [
        *([] if has_moved(parameters) else [_UNMOVED]),
        *_held_out(metrics, parameters),
        *([lacks.text] if lacks is not None and lacks.p < SIGNIFICANT else []),
        *(trend.text for trend in structure),
        *_biased_slices(metrics),
        *_set_aside(outliers),
        *_parameters(parameters),
    ]


def check_search(starts: int, at_best: int) -> list[str]:
    """A warning where few starts found the best fit."""
    if starts < STARTS_TO_JUDGE or at_best >= AGREEING * starts:
        return []
    return [
        f"Only {at_best} of {starts} starts reached the best cost: there are other minima; try more --starts."
    ]


def check_loss(loss: str, residual: Floats, sigma: Floats) -> list[str]:
    """A warning where the knee of a robust loss sits inside the model's misfit.

    ``residual``, ln(predicted/measured), and ``sigma`` have shape (n,), of the rows that count.
    """
    size = np.abs(residual)
    share = float(np.mean(size > sigma))
    if loss == "linear" or share <= BEYOND_KNEE:
        return []
    typical = MEDIAN_TO_SD * float(np.median(size))
    return [
        f"The loss {loss} plays down rows that are off by more than {float(np.median(sigma)):.1%}, and {share:.0%} of "
        "them are: its knee sits inside the model's misfit, and the fit leans towards the rows it meets already. "
        f"--loss linear weighs all alike, --floor {typical:.1g} moves the knee; compare their values."
    ]


def count_warnings(warnings: Sequence[str]) -> list[str]:
    """The reason that says how many warnings there are; none where there is none."""
    return [f"{len(warnings)} warning{'s' if len(warnings) > 1 else ''} below."] if warnings else []


def lacks_term(metrics: Metrics, lacks: LackOfFit | None, structure: Sequence[Structure]) -> bool:
    """Whether the residuals show that the model lacks a term: lack of fit, a trend, or slices that are off one way."""
    at_fault = lacks is not None and lacks.p < SIGNIFICANT
    return at_fault or bool(structure) or bool(_biased_slices(metrics))


def judge(
    metrics: Metrics,
    parameters: Sequence[ParameterResult],
    warnings: Sequence[str],
    statements: Sequence[Statement],
) -> Verdict:
    """The verdict on a fit: its held-out error, how much better it is, and what speaks against it.

    It is never better than ``statements`` on more of the same data and on what was not seen.
    """
    before, after = metrics.before["all"], metrics.after["all"]
    folds = metrics.unseen
    held = (folds or metrics.after)["all"]
    seen = [p for p in parameters if p.status in ("fitted", "at-bound")]
    stuck = [p.name for p in seen if p.status == "at-bound"]
    left_out = {
        name: slices["all"].mape
        for name, slices in metrics.held_out.items()
        if name not in ("folds", "run")
    }
    level = _level(metrics, parameters, statements)
    sentence = (
        f"Step times are predicted to {held.mape:.1%} on rows the fit {'has not seen' if folds else 'was made of'}, "
        f"against {before.mape:.1%} "
        "with the configuration it started from"
        + (
            f"; for a model it has not seen, to {left_out['model']:.1%}."
            if "model" in left_out
            else "."
        )
    )
    reasons = [
        f"Mean error {before.mape:.1%} before, {after.mape:.1%} after, "
        + (f"{held.mape:.1%} held out " if folds else "none could be held out ")
        + f"({held.n} rows, 90% of them within {held.p90_ape:.1%}).",
        *_with_set_aside(metrics),
        *(
            f"Leaving one {name} out: {slices['all'].mape:.1%} (worst: {_worst(slices, name)})."
            for name, slices in metrics.held_out.items()
            if name in ("model", "tp", "campaign")
        ),
        f"{len(seen)} of {len(parameters)} parameters were determined by this data"
        + (f"; {', '.join(stuck)} ended at a physical bound." if stuck else "."),
    ]
    reasons += count_warnings(warnings)
    return Verdict(level, sentence, tuple(reasons))


def _level(
    metrics: Metrics, parameters: Sequence[ParameterResult], statements: Sequence[Statement]
) -> Literal["good", "fair", "poor"]:
    """Good where more of the same is, and nothing that was left out is worse; fair up to 20% on runs."""
    same, unseen = statements[0].light, statements[1].light
    if same == "good" and unseen in ("good", "unknown"):
        return "good"
    held = (metrics.unseen or metrics.after)["all"]
    determined = sum(p.status in ("fitted", "at-bound") for p in parameters)
    enough = metrics.after["all"].n > determined
    if is_worse(metrics, parameters) or held.mape > FAIR or not enough:
        return "poor"
    return "fair"


def _with_set_aside(metrics: Metrics) -> list[str]:
    """The reason that gives the errors of every row beside those of the rows that count."""
    every = metrics.every_row
    if every is None:
        return []
    rows = every.after["all"].n - metrics.after["all"].n
    unseen = every.unseen
    held = f", {unseen['all'].mape:.1%} held out" if unseen else ""
    return [
        f"{_rows(rows)} set aside and not in these figures; with {'it' if rows == 1 else 'them'}: "
        f"{every.before['all'].mape:.1%} before, {every.after['all'].mape:.1%} after{held}."
    ]


def _rows(count: int) -> str:
    return f"{count} row was" if count == 1 else f"{count} rows were"


def _held_out(metrics: Metrics, parameters: Sequence[ParameterResult]) -> list[str]:
    found, after = [], metrics.after["all"].mape
    folds = metrics.unseen
    if folds is None:
        found.append("Nothing was held out, for want of runs: the training error flatters.")
    elif is_worse(metrics, parameters):
        found.append(
            f"Held out, the fit is worse than the configuration it started from "
            f"({folds['all'].mape:.1%} against {metrics.before['all'].mape:.1%})."
        )
    elif folds["all"].mape > PARTED * after:
        found.append(
            f"Held-out error {folds['all'].mape:.1%} parts from training error {after:.1%}: the fit follows its rows."
        )
    for name in ("model", "tp", "campaign"):
        slices = metrics.held_out.get(name)
        if slices and slices["all"].mape > max(PARTED * after, MUCH_OFF):
            found.append(
                f"Leaving one {name} out, the error is {slices['all'].mape:.1%} (worst: {_worst(slices, name)}): "
                f"expect as much for a {name} that was not measured."
            )
    return found


def _worst(slices: dict[str, Errors], name: str) -> str:
    label, worst = worst_of(slices, name)
    return f"{label}, {worst.mape:.1%}"


def _biased_slices(metrics: Metrics) -> list[str]:
    others = ("all", "campaign")
    slices = {
        name: errors
        for name, errors in metrics.after.items()
        if name.partition(":")[0] not in others
    }
    biased = {
        name.replace("tp:", "tp ").partition(":")[2] or name.replace("tp:", "tp "): errors.bias
        for name, errors in slices.items()
        if abs(errors.bias) > BIASED and errors.n >= FEWEST_BIASED
    }
    if not biased:
        return []
    worst = sorted(biased, key=lambda name: -abs(biased[name]))[:4]
    listed = ", ".join(f"{name} {biased[name]:+.0%}" for name in worst)
    return [
        f"Predictions are off one way over whole slices ({listed}): the model lacks a term there."
    ]


def _set_aside(outliers: Sequence[Outlier]) -> list[str]:
    gone = [one for one in outliers if one.influence == 0]
    if not gone:
        return []
    rows = "row stands" if len(gone) == 1 else "rows stand"
    listed = "; ".join(
        f"{one.campaign}:{one.line} took {one.measured_us / US_PER_MS:,.4g} ms "
        f"against {one.predicted_us / US_PER_MS:,.4g} ms, {one.cause}"
        for one in gone[:MOST_SHOWN]
    )
    more = f"; {len(gone) - MOST_SHOWN} more in the report" if len(gone) > MOST_SHOWN else ""
    return [f"{len(gone)} {rows} apart from all others and did not count ({listed}{more})."]


def _parameters(parameters: Sequence[ParameterResult]) -> list[str]:
    found = [
        f"{p.name} ended at its physical bound ({p.value:.4g}): the model compensates for a term it lacks."
        for p in parameters
        if p.status == "at-bound"
    ]
    outside = [p for p in parameters if p.is_outside_guide]
    if outside:
        listed = ", ".join(
            f"{p.name} {p.value:.4g} ({p.guide[0]:g} to {p.guide[1]:g})" for p in outside
        )
        found.append(f"Outside the guide's ranges, intervals and all: {listed}.")
    return found
