"""The HTML page: one file that opens from disk, every name from the data escaped."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from calibrate.config_writer import replace_text
from calibrate.report.plots import Plot

_WORST_ROWS = 20
_LEVELS = {"good": ("●", "Good"), "fair": ("◐", "Fair"), "poor": ("○", "Poor")}
_HELD_OUT = {"folds": "held out", "model": "model left out", "tp": "TP left out", "campaign": "campaign left out"}


def write_report(result: Mapping[str, Any], predictions: pd.DataFrame, plots: Sequence[Plot], folder: Path) -> Path:
    """Write ``folder/report.html`` with the plots of ``folder/plots`` inlined."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(percent=_percent, number=_number, ms=_milliseconds, signed=_signed_percent)
    page = environment.get_template("template.html.j2").render(
        result=result,
        campaigns=sorted({file["campaign"] for file in result["data"]}),
        level=_LEVELS[result["verdict"]["level"]],
        held_out={key: label for key, label in _HELD_OUT.items() if key in result["metrics"]["held_out"]},
        slices=_slices(result["metrics"]),
        worst=worst_rows(predictions, _WORST_ROWS),
        plots=[(plot, _inline(folder / "plots" / f"{plot.name}.png")) for plot in plots],
        outside=[p["name"] for p in result["parameters"] if p["status"] == "fitted" and _outside(p)],
    )
    path = folder / "report.html"
    replace_text(path, page)
    return path


def worst_rows(predictions: pd.DataFrame, count: int) -> list[dict[str, Any]]:
    """The rows with the largest residuals, the largest first, as plain values; ``held_out_us`` may be None."""
    order = np.argsort(-predictions["residual"].abs().to_numpy(), kind="stable")[:count]
    rows = predictions.iloc[order].astype(object)
    return [{str(key): value for key, value in row.items()} for row in rows.where(rows.notna(), None).to_dict("records")]


def _slices(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "label": label.replace(":", " ", 1),
            "before": metrics["before"][label],
            "after": after,
            "held_out": {name: slices.get(label) for name, slices in metrics["held_out"].items()},
        }
        for label, after in metrics["after"].items()
    ]


def _inline(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _outside(parameter: Mapping[str, Any]) -> bool:
    low, high = parameter["guide"]
    return not low <= parameter["value"] <= high


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _signed_percent(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1%}"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _milliseconds(value_us: float | None) -> str:
    if value_us is None:
        return "–"
    value = value_us / 1e3
    return f"{value:,.0f}" if value >= 1e3 else f"{value:.4g}"
