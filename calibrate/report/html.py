"""Writes the report as one page that needs no other file and no network."""

import base64
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from calibrate.outcome.result import FitResult, Metrics
from calibrate.report import parameter_tables
from calibrate.report.checks import checks
from calibrate.report.explorer import columns_shown, explorer_data, worst_rows
from calibrate.report.frame import chart_scripts, own_script, page_data, render_page
from calibrate.report.glossary import GLOSSARY
from calibrate.report.matrices import (
    correlation_rows,
    least_certain,
    sensitivity_rows,
    singular_bars,
)
from calibrate.report.plots import Plot
from calibrate.report.regimes import regime_colours, regime_errors, regime_moves, regime_table
from calibrate.report.serving_tables import serving_content

SPLITS = {
    "folds": "held out",
    "run": "one run out",
    "model": "one model out",
    "tp": "one TP out",
    "campaign": "one campaign out",
    "node": "one node out",
}
_KINDS = {
    "phase": "Phase",
    "model": "Model",
    "tp": "Tensor parallelism",
    "campaign": "Campaign",
    "node": "Node",
    "layers": "Kinds of layers",
    "dtype": "Weight type",
    "ep": "GPUs that share experts",
}
_IN_PAGE = (
    "predicted_measured",
    "error_cdf",
    "residuals",
    "residual_distribution",
    "roofline",
    "profiles",
    "distributions",
    "corner",
    "multistart",
    "serving_predicted_measured",
    "serving_errors",
)
_SECTIONS = {
    "verdict": "Verdict",
    "parameters": "Parameters",
    "serving": "Serving",
    "engines": "Engines",
    "errors": "Errors",
    "explorer": "Explorer",
    "regimes": "Regimes",
    "model-form": "Model form",
    "identifiability": "Identifiability",
    "provenance": "Provenance",
    "glossary": "Glossary",
}
_OF_STEPS = ("errors", "explorer", "regimes", "model-form")
_IMAGE_SCALE = 0.8


def write_report(
    result: FitResult, rows: pd.DataFrame, plots: Sequence[Plot], folder: Path
) -> Path:
    """Write ``report.html`` into ``folder``, with some of the PNGs that lie in ``folder/plots`` inside it.

    ``rows`` are the run's predictions, complete: see :mod:`calibrate.report.contents`.
    """
    parameters = result.parameters
    identifiability = result.identifiability
    page = render_page(
        "report.html.j2",
        _scripts(result),
        result=result,
        has_steps=result.has_steps,
        campaigns=sorted({file.campaign for file in result.data if file.used}),
        checks=checks(result, rows),
        parameters=parameter_tables.parameter_rows(parameters),
        methods=parameter_tables.interval_methods(parameters),
        intervals=parameter_tables.interval_rows(parameters),
        priors=parameter_tables.prior_rows(parameters),
        previous=parameter_tables.previous_rows(result.previous, parameters),
        serving=serving_content(result.serving),
        sections=_sections(result),
        figures=_figures(plots, folder / "plots"),
        correlations=correlation_rows(identifiability.correlations),
        sensitivities=sensitivity_rows(identifiability.sensitivity),
        singular=singular_bars(identifiability.singular_values),
        together=least_certain(identifiability.correlations),
        glossary=GLOSSARY,
        **(_of_steps(result, rows) if result.has_steps else {}),
    )
    path = folder / "report.html"
    path.write_bytes(page)
    return path


def _of_steps(result: FitResult, rows: pd.DataFrame) -> dict[str, Any]:
    """What the sections on steps show."""
    explorer = explorer_data(rows)
    return {
        "splits": {
            name: label for name, label in SPLITS.items() if name in result.metrics.held_out
        },
        "slices": _slices(result),
        "worst": worst_rows(rows),
        "explorer": explorer,
        "explorer_json": page_data(explorer),
        "shows": columns_shown(rows),
        "regimes": regime_table(rows),
        "regime_colours": regime_colours(rows),
        "regime_moves": regime_moves(rows),
        "regime_errors": regime_errors(rows),
    }


def _scripts(result: FitResult) -> list[str]:
    """The chart library weighs most of the page: it is there only for the explorer of steps."""
    explorer = [*chart_scripts(), *map(own_script, ("steps.js", "chart.js", "explorer.js"))]
    return [own_script("page.js"), *(explorer if result.has_steps else [])]


def _sections(result: FitResult) -> list[tuple[str, str]]:
    of_servers = {"serving": result.serving, "engines": result.engines}
    without = [name for name, found in of_servers.items() if not found]
    absent = {*(() if result.has_steps else _OF_STEPS), *without}
    return [(name, label) for name, label in _SECTIONS.items() if name not in absent]


def _slices(result: FitResult) -> list[dict[str, Any]]:
    """The table of errors: a row a slice, under the heading of its kind."""
    rows, metrics = [], result.metrics
    coverage = result.bands.coverage if result.bands else {}
    for name in metrics.after:
        field, _, label = name.partition(":")
        kind = _KINDS.get(field, "")
        row = _slice(metrics, name)
        rows.append(
            {
                **row,
                "field": field,
                "kind": kind,
                "label": label or "All steps",
                "coverage": coverage.get(name),
            }
        )
        if name == "all" and metrics.every_row is not None:
            every = _slice(metrics.every_row, name)
            rows.append({**every, "field": field, "kind": "", "label": "With those set aside"})
    return rows


def _slice(metrics: Metrics, name: str) -> dict[str, Any]:
    """The errors of one slice."""
    return {
        "before": metrics.before.get(name),
        "after": metrics.after[name],
        "held_out": {split: errors.get(name) for split, errors in metrics.held_out.items()},
        "coverage": None,
    }


def _figures(plots: Sequence[Plot], folder: Path) -> dict[str, dict[str, Any] | None]:
    """The pictures that the page shows, by name; None for those that this run does not have."""
    drawn = {plot.name: _figure(plot, folder) for plot in plots if plot.name in _IN_PAGE}
    return {name: drawn.get(name) for name in _IN_PAGE}


def _figure(plot: Plot, folder: Path) -> dict[str, Any]:
    content = (folder / f"{plot.name}.png").read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    return {
        "plot": plot,
        "width": round(width * _IMAGE_SCALE),
        "height": round(height * _IMAGE_SCALE),
        "png": base64.b64encode(content).decode("ascii"),
    }
