"""Writes the report as one page that needs no other file and no network."""

import base64
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from calibrate.report import texts
from calibrate.report.plots import Plot

_WORST_ROWS = 20
_SPLITS = {"folds": "held out", "model": "one model out", "tp": "one TP out", "campaign": "one campaign out"}
_KINDS = {"phase": "Phase", "model": "Model", "tp": "Tensor parallelism", "campaign": "Campaign"}
_IMAGE_SCALE = 0.8


def write_report(result: Mapping[str, Any], predictions: pd.DataFrame, plots: Sequence[Plot], folder: Path) -> Path:
    """Write ``report.html`` into ``folder``, with the PNGs that lie in ``folder/plots`` inside it."""
    page = _template().render(
        result=result,
        campaigns=sorted({file["campaign"] for file in result["data"]}),
        held_out=result["metrics"]["held_out"].get("folds", {}).get("all"),
        parameters=[_parameter(parameter) for parameter in result["parameters"]],
        splits={name: label for name, label in _SPLITS.items() if name in result["metrics"]["held_out"]},
        slices=_slices(result["metrics"]),
        worst=_worst(predictions),
        figures=[_figure(plot, folder / "plots") for plot in plots],
        correlations=_correlations(result["identifiability"]["correlations"]),
    )
    path = folder / "report.html"
    path.write_bytes(page.encode("utf-8", "replace"))
    return path


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=texts.percent,
        signed_percent=texts.signed_percent,
        milliseconds=texts.milliseconds,
        number=texts.number,
        count=texts.count,
        rounded=texts.rounded,
        correlation=texts.correlation,
        moment=texts.moment,
        rating=texts.rating,
    )
    return environment.get_template("template.html.j2")


def _parameter(parameter: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter with what its row shows beside its numbers."""
    guide, interval = parameter["guide"], _ends(parameter)
    moved = parameter["status"] in ("fitted", "at-bound")
    return {
        **parameter,
        "moved": moved,
        "outside_guide": moved and (interval[0] > guide[1] or interval[1] < guide[0]),
        "change": texts.change(parameter["start"], parameter["value"]) if moved else "",
        "strip": _strip(parameter),
    }


def _ends(parameter: Mapping[str, Any]) -> list[float]:
    """The interval's ends; the physical bound where the data does not bound a side."""
    low, high = parameter["ci90"] or [parameter["value"]] * 2
    return [parameter["lower"] if low is None else low, parameter["upper"] if high is None else high]


def _strip(parameter: Mapping[str, Any]) -> dict[str, float]:
    """Where guide, interval, old and new value lie on a strip that is 100 wide."""
    marks = [parameter["value"], parameter["start"], *parameter["guide"]]
    interval = _ends(parameter)
    low, high = min(marks), max(marks)
    margin = 0.12 * (high - low) or 1.0
    names = ("guide_low", "guide_high", "ci_low", "ci_high", "old", "new")
    values = (*parameter["guide"], *interval, parameter["start"], parameter["value"])
    share = [(value - low + margin) / (high - low + 2 * margin) * 100 for value in values]
    return dict(zip(names, [round(min(max(x, 0.0), 100.0), 2) for x in share], strict=True))


def _slices(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The table of errors: a row a slice, under the heading of its kind."""
    rows = []
    for name, after in metrics["after"].items():
        kind, _, label = name.partition(":")
        held_out = {split: errors.get(name) for split, errors in metrics["held_out"].items()}
        rows.append(
            {
                "kind": _KINDS.get(kind, ""),
                "label": label or "All steps",
                "before": metrics["before"].get(name),
                "after": after,
                "held_out": held_out,
            }
        )
    return rows


def _worst(predictions: pd.DataFrame) -> list[dict[str, Any]]:
    size = predictions["residual"].abs().to_numpy(dtype=np.float64)
    order = np.argsort(-np.nan_to_num(size, nan=np.inf), kind="stable")[:_WORST_ROWS]
    rows = predictions.iloc[order]
    held_out = rows["held_out_us"] if "held_out_us" in rows else pd.Series(np.nan, index=rows.index)
    shown = rows.assign(
        error=rows["after_us"] / rows["measured_us"] - 1,
        held_out_error=held_out / rows["measured_us"] - 1,
        pull=rows["weight"] * rows["influence"],
    )
    return [{str(name): value for name, value in row.items()} for row in shown.to_dict("records")]


def _figure(plot: Plot, folder: Path) -> dict[str, Any]:
    content = (folder / f"{plot.name}.png").read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    return {
        "plot": plot,
        "width": round(width * _IMAGE_SCALE),
        "height": round(height * _IMAGE_SCALE),
        "png": base64.b64encode(content).decode("ascii"),
    }


def _correlations(table: Mapping[str, Mapping[str, float | None]]) -> list[dict[str, Any]]:
    """The lower triangle, a row a parameter; ``shade`` is the share of full colour behind a cell."""
    rows = []
    for index, (name, row) in enumerate(table.items()):
        before = [row[other] for other in list(table)[:index]]
        cells = [{"value": value, "shade": round(abs(value or 0.0) * 45)} for value in before]
        rows.append({"name": name, "cells": cells})
    return rows
