"""Writes two runs, or two configurations, side by side as one page."""

import dataclasses
from pathlib import Path
from typing import Any

from calibrate.outcome.comparison import Comparison, ParameterPair
from calibrate.records.files import replace_text
from calibrate.report import texts
from calibrate.report.frame import own_script, render_page
from calibrate.report.serving_tables import METRICS, SPLITS

_KINDS = {"phase": "Phase", "model": "Model", "tp": "Tensor parallelism"}
_DRIFTED = 0.02
_SECTIONS = {
    "summary": "Summary",
    "parameters": "Parameters",
    "errors": "Errors",
    "serving": "Serving",
}


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page to ``path``, in one step."""
    apart = [pair.name for pair in comparison.parameters if pair.overlap is False]
    page = render_page(
        "comparison.html.j2",
        [own_script("page.js")],
        found=comparison,
        sections=[
            (name, label)
            for name, label in _SECTIONS.items()
            if name != "serving" or comparison.serving
        ],
        apart=apart,
        everything=comparison.slices[0] if comparison.slices else None,
        drifted=[one for one in comparison.slices[1:] if abs(one.drift) > _DRIFTED],
        parameters=[_parameter(pair) for pair in comparison.parameters],
        slices=_slices(comparison),
        own=_own(comparison),
        serving=_serving(comparison),
        served=_served(comparison),
    )
    replace_text(path, page.decode("utf-8"))


def _own(comparison: Comparison) -> list[dict[str, Any]]:
    """Each run's own errors; beside those on common points, only the held-out ones say more."""
    return [
        {"label": name.replace(":", " ", 1), "a": a, "b": b}
        for name, (a, b) in comparison.own.items()
        if name.startswith("held out") or not comparison.slices
    ]


def _serving(comparison: Comparison) -> list[dict[str, Any]]:
    """The errors of serving, each with what to call it under the heading of its metric."""
    rows = []
    for one in comparison.serving:
        kind, _, label = one.slice.partition(":")
        slice_name = (
            f"{_KINDS.get(kind, kind.capitalize())} {label}" if label else "All load points"
        )
        held_out = SPLITS.get(one.fit.removeprefix("held out "), one.fit)
        what = slice_name if one.fit == "after" else f"All load points, {held_out}"
        rows.append({**dataclasses.asdict(one), "kind": METRICS[one.metric], "label": what})
    return rows


def _served(comparison: Comparison) -> dict[str, Any] | None:
    """The means over metrics of the errors by the fit on all; None unless both sides have the same ones."""
    errors = [
        (one.error_a, one.error_b)
        for one in comparison.serving
        if (one.slice, one.fit) == ("all", "after")
    ]
    both = [(a, b) for a, b in errors if a is not None and b is not None]
    if not both or len(both) < len(errors):
        return None
    return {
        "error_a": sum(a for a, _ in both) / len(both),
        "error_b": sum(b for _, b in both) / len(both),
    }


def _parameter(pair: ParameterPair) -> dict[str, Any]:
    change = (
        texts.change(pair.a, pair.b)
        if pair.a is not None and pair.b is not None and pair.a != pair.b
        else ""
    )
    words = {None: "", True: "overlap", False: "apart"}[pair.overlap]
    return {**dataclasses.asdict(pair), "change": change, "words": words}


def _slices(comparison: Comparison) -> list[dict[str, Any]]:
    rows = []
    for one in comparison.slices:
        kind, _, label = one.slice.partition(":")
        rows.append(
            {
                **dataclasses.asdict(one),
                "kind": _KINDS.get(kind, ""),
                "label": label or "All points",
            }
        )
    return rows
