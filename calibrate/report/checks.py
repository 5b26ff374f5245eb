"""The verdict, check by check: what was looked at, how it stands, and the number behind it."""

import dataclasses
from collections import Counter
from collections.abc import Mapping

import pandas as pd

from calibrate.outcome.result import BandSummary, FitResult, Metrics
from calibrate.report.texts import count, is_known, number, percent, rating, signed_percent
from calibrate.serving.summary import ServingSummary, mean_error
from calibrate.trust.metrics import Errors
from calibrate.trust.thresholds import FAIR

_COLLINEAR = 15.0
"""Collinearity index above which parameters are poorly told apart (Brun et al., Water Resour. Res. 37, 2001)."""
ILL_CONDITIONED = 1e3
_FEW_AGREE = 0.2
_BAND_GOOD, _BAND_FAIR = 0.05, 0.15
_MISFIT_P = 0.01


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was looked at. ``level`` is good, fair, poor or unknown."""

    title: str
    level: str
    value: str
    more: str
    target: str


def checks(result: FitResult, rows: pd.DataFrame) -> list[Check]:
    """Error, held-out error, bands, coverage of regimes, serving, identifiability, form, data: those looked at."""
    of_steps = result.has_steps
    looked_at = (
        _error(result.metrics) if of_steps else None,
        _held_out(result.metrics.held_out) if of_steps else None,
        _bands(result.bands),
        _coverage(rows) if of_steps else None,
        *_serving(result.serving),
        _identifiability(result),
        _form(result) if of_steps else None,
        _data(result),
    )
    return [check for check in looked_at if check is not None]


def _serving(serving: ServingSummary | None) -> list[Check]:
    """The mean of the errors of all metrics, after tuning and held out."""
    if serving is None:
        return []
    before = mean_error(serving.before)
    after = mean_error(serving.after)
    fitted = Check(
        "Serving, tuned",
        rating(after),
        percent(after),
        f"nothing tuned: {percent(before)}",
        "serving",
    )
    if not serving.held_out:
        return [
            fitted,
            Check("Serving, held out", "unknown", "–", "one run and model only", "serving"),
        ]
    name, unseen = next(iter(serving.held_out.items()))
    error = mean_error(unseen)
    level = rating(error) if error <= before else "poor"
    listed = ", ".join(
        f"{metric.upper()} {percent(slices['all'].mape)}" for metric, slices in unseen.items()
    )
    whom = {
        "model": "one model",
        "tp": "one TP",
        "campaign": "one campaign",
        "node": "one node",
    }.get(name, "runs")
    more = f"{whom} out: {listed}"
    return [fitted, Check("Serving, held out", level, percent(error), more, "serving")]


def _error(metrics: Metrics) -> Check:
    before, after = metrics.before["all"], metrics.after["all"]
    spread = f"median {percent(after.median_ape)}, bias {signed_percent(after.bias)}"
    more = f"before: {percent(before.mape)}; {spread}"
    return Check(
        "Mean error after the fit", rating(after.mape), percent(after.mape), more, "errors"
    )


def _held_out(held_out: Mapping[str, Mapping[str, Errors]]) -> Check:
    splits = {name: slices["all"].mape for name, slices in held_out.items() if "all" in slices}
    left_out = {name: mape for name, mape in splits.items() if name != "folds"}
    listed = ", ".join(
        f"one {'TP' if name == 'tp' else name} {percent(mape)}" for name, mape in left_out.items()
    )
    if "folds" not in splits:
        return Check("Held out", "unknown", "–", "too few runs: nothing was held out", "errors")
    level = rating(splits["folds"])
    if level == "good" and not all(mape <= FAIR for mape in left_out.values()):
        level = "fair"
    return Check(
        "Mean error held out",
        level,
        percent(splits["folds"]),
        f"left out: {listed}" if listed else "",
        "errors",
    )


def _bands(bands: BandSummary | None) -> Check | None:
    share = bands.coverage.get("all") if bands else None
    if bands is None or not is_known(share):
        return None
    off = abs(share - bands.level)
    level = "good" if off <= _BAND_GOOD else "fair" if off <= _BAND_FAIR else "poor"
    return Check(
        "Bands of steps",
        level,
        percent(share),
        f"of held-out steps in their {bands.level:.0%} band",
        "errors",
    )


def _coverage(rows: pd.DataFrame) -> Check:
    regimes = Counter(rows["regime"])
    phases = set(rows["phase"])
    missing = [] if "mixed" in phases else sorted({"prefill", "decode"} - phases)
    level = "good" if len(regimes) > 1 and not missing else "fair"
    shares = ", ".join(f"{name} {_share(n / len(rows))}" for name, n in regimes.most_common())
    more = shares + "".join(f"; no {phase} step" for phase in missing)
    return Check("Coverage of regimes", level, f"{len(regimes)} seen", more, "regimes")


def _share(fraction: float) -> str:
    return "<1%" if fraction < 0.005 else f"{fraction:.0%}"


def _identifiability(result: FitResult) -> Check:
    seen, fit = result.identifiability, result.fit
    determined = [p for p in result.parameters if p.status in ("fitted", "at-bound")]
    stuck = sum(p.status == "at-bound" for p in determined)
    one_sided = sum(p.ci90 is not None and None in p.ci90 for p in determined)
    condition = seen.condition_number
    collinearity = seen.collinearity_index
    doubts = (
        stuck,
        one_sided,
        not condition <= ILL_CONDITIONED,
        collinearity > _COLLINEAR,
        fit.starts_at_best < _FEW_AGREE * fit.starts,
    )
    more = [
        *([f"{stuck} at a bound"] if stuck else []),
        *([f"{one_sided} bounded on one side"] if one_sided else []),
        f"condition number {number(condition)}" if is_known(condition) else "singular",
        *([f"{fit.starts_at_best} of {fit.starts} starts agree"] if fit.starts > 1 else []),
    ]
    value = f"{len(determined)} of {len(result.parameters)}"
    return Check(
        "Parameters determined",
        "fair" if any(doubts) else "good",
        value,
        ", ".join(more),
        "identifiability",
    )


def _form(result: FitResult) -> Check:
    misfit, trends = result.lack_of_fit, len(result.structure)
    lacks = misfit is not None and misfit.p < _MISFIT_P
    more = f"{trends} trend{'s' if trends != 1 else ''} in the errors"
    if misfit is not None:
        replicates = percent(misfit.spread_replicates)
        more = f"misses by {percent(misfit.spread_model)}, replicates by {replicates}; {more}"
    level, value = ("fair", "lacks a term") if lacks or trends else ("good", "holds")
    return Check("Form of the model", level, value, more, "model-form")


def _data(result: FitResult) -> Check:
    warnings = len(result.warnings)
    outliers = len(result.outliers)
    dropped = sum(file.dropped for file in result.data)
    more = [
        f"{count(result.fit.n_rows)} {'steps' if result.has_steps else 'load points'} used",
        *([f"{count(dropped)} rows dropped"] if dropped else []),
        *([f"{outliers} outlier{'s' if outliers != 1 else ''}"] if result.has_steps else []),
    ]
    value = f"{warnings} warning{'s' if warnings != 1 else ''}" if warnings else "no warnings"
    return Check(
        "Data and warnings",
        "fair" if warnings or dropped else "good",
        value,
        ", ".join(more),
        "warnings",
    )
