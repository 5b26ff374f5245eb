"""What the page says of every parameter: its row, other intervals, its prior, and the fit before this one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from calibrate.records.interval import Interval, ends, overlap
from calibrate.report import texts

_WORDS = {None: "unknown", True: "overlap", False: "apart"}
_MOVED = ("fitted", "at-bound")
_AGREE = 1.25
_STRIP_MARGIN = 0.12


def parameter_rows(parameters: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Parameters with what their rows show beside their numbers."""
    return [_row(parameter) for parameter in parameters]


def _row(parameter: Mapping[str, Any]) -> dict[str, Any]:
    moved = parameter["status"] in _MOVED
    low, high = ends(parameter["ci90"] or (parameter["value"], parameter["value"]))
    guide = parameter["guide"]
    return {
        **parameter,
        "moved": moved,
        "unbounded": texts.unbounded(parameter["ci90"]),
        "outside_guide": moved and (low > guide[1] or high < guide[0]),
        "change": texts.change(parameter["start"], parameter["value"]) if moved else "",
        "strip": _strip(parameter),
    }


def _strip(parameter: Mapping[str, Any]) -> dict[str, Any]:
    """Where guide, interval, old and new value lie on a strip that is 100 wide; an open interval runs to its end."""
    marks = [parameter["value"], parameter["start"], *parameter["guide"]]
    ci_low, ci_high = ends(parameter["ci90"] or (parameter["value"], parameter["value"]))
    low, high = min(marks), max(marks)
    margin = _STRIP_MARGIN * (high - low) or 1.0
    names = ("guide_low", "guide_high", "ci_low", "ci_high", "old", "new")
    values = (*parameter["guide"], ci_low, ci_high, parameter["start"], parameter["value"])
    share = [(value - low + margin) / (high - low + 2 * margin) * 100 for value in values]
    places = {name: round(min(max(x, 0.0), 100.0), 2) for name, x in zip(names, share, strict=True)}
    return {**places, "open_low": math.isinf(ci_low), "open_high": math.isinf(ci_high)}


def interval_methods(parameters: Sequence[Mapping[str, Any]]) -> list[str]:
    """The ways in which intervals were made, those of most parameters first; none if there was one way only."""
    used = [method for parameter in parameters for method in parameter["intervals"]]
    methods = sorted(dict.fromkeys(used), key=lambda method: -used.count(method))
    return methods if len(methods) > 1 else []


def interval_rows(parameters: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Parameters with the intervals of every method, and in words how far those agree."""
    return [{**p, "agreement": _agreement(list(p["intervals"].values()))} for p in parameters if p["intervals"]]


def _agreement(intervals: Sequence[Interval]) -> str:
    sides = {tuple(end is None for end in interval) for interval in intervals}
    if len(sides) > 1:
        return "some are open on one side"
    widths = [high - low for low, high in map(ends, intervals)]
    if len(widths) < 2 or not all(0 < width < math.inf for width in widths):
        return texts.NOTHING
    ratio = max(widths) / min(widths)
    return "alike in width" if ratio < _AGREE else f"widest {ratio:.1f} × the narrowest"


def prior_rows(parameters: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Parameters on which a prior was put."""
    return [{**parameter, **parameter["prior"]} for parameter in parameters if parameter["prior"]]


def previous_rows(previous: Mapping[str, Any] | None, parameters: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Parameters that this fit or the one before it determined: value then and now, and whether intervals overlap."""
    if previous is None:
        return []
    rows = []
    for parameter in parameters:
        then = previous["parameters"].get(parameter["name"])
        if then is None or (parameter["status"] not in _MOVED and then["value"] == parameter["value"]):
            continue
        rows.append(
            {
                **parameter,
                "then": then,
                "change": texts.change(then["value"], parameter["value"]),
                "overlap": _WORDS[overlap(then.get("ci90"), parameter["ci90"])],
            }
        )
    return rows
