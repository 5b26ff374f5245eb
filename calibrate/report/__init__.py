"""The report of a run: plots and one HTML page, drawn from result.json and predictions.csv alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def draw_report(result: Mapping[str, Any], predictions: "pd.DataFrame", folder: Path) -> Path:
    """Draw ``folder/plots/*.png`` and ``*.svg`` and ``folder/report.html``; return the page's path."""
    from calibrate.report.html import write_report
    from calibrate.report.plots import draw_plots

    plots = folder / "plots"
    plots.mkdir(exist_ok=True)
    return write_report(result, predictions, draw_plots(result, predictions, plots), folder)
