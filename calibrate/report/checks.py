"""The verdict, check by check: what was looked at, how it stands, and the number behind it."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from calibrate.outcome.run_files import has_steps
from calibrate.report.texts import count, number, percent, rating, signed_percent
from calibrate.trust.thresholds import FAIR

_COLLINEAR = 15.0
"""Collinearity index above which parameters are poorly told apart (Brun et al., Water Resour. Res. 37, 2001)."""
_ILL_CONDITIONED = 1e3
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


def checks(result: Mapping[str, Any], rows: pd.DataFrame) -> list[Check]:
    """Error, held-out error, bands, coverage of regimes, serving, identifiability, form, data: those looked at."""
    of_steps = has_steps(result)
    found = (
        _error(result["metrics"]) if of_steps else None,
        _held_out(result["metrics"]["held_out"]) if of_steps else None,
        _bands(result["bands"]),
        _coverage(rows) if of_steps else None,
        *_serving(result["serving"]),
        _identifiability(result),
        _form(result) if of_steps else None,
        _data(result),
    )
    return [check for check in found if check is not None]


def _serving(serving: Mapping[str, Any] | None) -> list[Check]:
    """The mean of the errors of all metrics, after tuning and held out."""
    if serving is None:
        return []
    before, after = _mean(serving["before"]), _mean(serving["after"])
    fitted = Check("Serving, tuned", rating(after), percent(after), f"nothing tuned: {percent(before)}", "serving")
    if not serving["held_out"]:
        return [fitted, Check("Serving, held out", "unknown", "–", "one run and model only", "serving")]
    name, unseen = next(iter(serving["held_out"].items()))
    level = rating(_mean(unseen)) if _mean(unseen) <= before else "poor"
    listed = ", ".join(f"{metric.upper()} {percent(slices['all']['mape'])}" for metric, slices in unseen.items())
    more = f"{'one model' if name == 'model' else 'runs'} out: {listed}"
    return [fitted, Check("Serving, held out", level, percent(_mean(unseen)), more, "serving")]


def _mean(served: Mapping[str, Any]) -> float:
    return float(np.mean([slices["all"]["mape"] for slices in served.values()]))


def _error(metrics: Mapping[str, Any]) -> Check:
    before, after = metrics["before"]["all"], metrics["after"]["all"]
    spread = f"median {percent(after['median_ape'])}, bias {signed_percent(after['bias'])}"
    more = f"before: {percent(before['mape'])}; {spread}"
    return Check("Mean error after the fit", rating(after["mape"]), percent(after["mape"]), more, "errors")


def _held_out(held_out: Mapping[str, Any]) -> Check:
    splits = {name: slices["all"]["mape"] for name, slices in held_out.items() if "all" in slices}
    left_out = {name: mape for name, mape in splits.items() if name != "folds"}
    listed = ", ".join(f"one {'TP' if name == 'tp' else name} {percent(mape)}" for name, mape in left_out.items())
    if "folds" not in splits:
        return Check("Held out", "unknown", "–", "one run only: nothing to hold out", "errors")
    level = rating(splits["folds"])
    if level == "good" and any(mape is None or mape > FAIR for mape in left_out.values()):
        level = "fair"
    return Check(
        "Mean error held out", level, percent(splits["folds"]), f"left out: {listed}" if listed else "", "errors"
    )


def _bands(bands: Mapping[str, Any] | None) -> Check | None:
    share = bands["coverage"].get("all") if bands else None
    if bands is None or share is None:
        return None
    off = abs(share - bands["level"])
    level = "good" if off <= _BAND_GOOD else "fair" if off <= _BAND_FAIR else "poor"
    return Check(
        "Bands of steps", level, percent(share), f"of held-out steps in their {bands['level']:.0%} band", "errors"
    )


def _coverage(rows: pd.DataFrame) -> Check:
    regimes, phases = Counter(rows["regime"]), set(rows["phase"])
    missing = [] if "mixed" in phases else sorted({"prefill", "decode"} - phases)
    level = "good" if len(regimes) > 1 and not missing else "fair"
    shares = ", ".join(f"{name} {_share(n / len(rows))}" for name, n in regimes.most_common())
    more = shares + "".join(f"; no {phase} step" for phase in missing)
    return Check("Coverage of regimes", level, f"{len(regimes)} seen", more, "regimes")


def _share(fraction: float) -> str:
    return "<1%" if fraction < 0.005 else f"{fraction:.0%}"


def _identifiability(result: Mapping[str, Any]) -> Check:
    parameters, seen, fit = result["parameters"], result["identifiability"], result["fit"]
    determined = [p for p in parameters if p["status"] in ("fitted", "at-bound")]
    stuck = sum(p["status"] == "at-bound" for p in determined)
    one_sided = sum(bool(p["ci90"]) and None in p["ci90"] for p in determined)
    condition, collinearity = seen["condition_number"], seen["collinearity_index"]
    doubts = (
        stuck,
        one_sided,
        condition is None or condition > _ILL_CONDITIONED,
        (collinearity or 0.0) > _COLLINEAR,
        fit["starts_at_best"] < _FEW_AGREE * fit["starts"],
    )
    more = [
        *([f"{stuck} at a bound"] if stuck else []),
        *([f"{one_sided} bounded on one side"] if one_sided else []),
        f"condition number {number(condition)}" if condition is not None else "singular",
        *([f"{fit['starts_at_best']} of {fit['starts']} starts agree"] if fit["starts"] > 1 else []),
    ]
    value = f"{len(determined)} of {len(parameters)}"
    return Check("Parameters determined", "fair" if any(doubts) else "good", value, ", ".join(more), "identifiability")


def _form(result: Mapping[str, Any]) -> Check | None:
    misfit, structure = result["lack_of_fit"], result["structure"]
    if misfit is None and structure is None:
        return None
    lacks = misfit is not None and misfit["p"] is not None and misfit["p"] < _MISFIT_P
    trends = (
        f"{len(structure)} trend{'s' if len(structure) != 1 else ''} in the errors" if structure is not None else ""
    )
    spread = (
        f"misses by {percent(misfit['spread_model'])}, replicates by {percent(misfit['spread_replicates'])}"
        if misfit
        else ""
    )
    value = "lacks a term" if lacks or structure else "holds"
    more = "; ".join(filter(None, (spread, trends)))
    return Check("Form of the model", "fair" if lacks or structure else "good", value, more, "model-form")


def _data(result: Mapping[str, Any]) -> Check:
    warnings, outliers = len(result["warnings"]), result["outliers"]
    dropped = sum(file["dropped"] for file in result["data"])
    more = [
        f"{count(result['fit']['n_rows'])} {'steps' if has_steps(result) else 'load points'} used",
        *([f"{count(dropped)} rows dropped"] if dropped else []),
        *(
            [f"{len(outliers)} outlier{'s' if len(outliers) != 1 else ''}"]
            if outliers is not None and has_steps(result)
            else []
        ),
    ]
    value = f"{warnings} warning{'s' if warnings != 1 else ''}" if warnings else "no warnings"
    return Check("Data and warnings", "fair" if warnings or dropped else "good", value, ", ".join(more), "warnings")
