"""The report of a fit: plots and one HTML page for whoever signs the configuration off.

In: a run as it was written. Out: plots and one page.
Uses: outcome and below.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from calibrate.outcome.comparison import Comparison


def draw_report(
    result: Mapping[str, Any], predictions: pd.DataFrame, folder: Path, served: pd.DataFrame | None = None
) -> Path:
    """Draw ``plots/*.png``, ``plots/*.svg`` and ``report.html`` into a run's folder; return the page's path.

    ``result`` is the content of its ``result.json``, ``predictions`` that of its ``predictions.csv``, empty for a fit
    without steps, and ``served`` that of its ``serving.csv``, where it was fitted to serving results.
    """
    from calibrate.report.contents import complete_result, complete_rows
    from calibrate.report.html import write_report
    from calibrate.report.plots import draw_plots

    plots = folder / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    whole, rows = complete_result(result), complete_rows(predictions)
    return write_report(whole, rows, draw_plots(whole, rows, plots, served), folder)


def draw_comparison(comparison: "Comparison", path: Path) -> None:
    """Write two runs, or two configurations, side by side as one page."""
    from calibrate.report.comparison_page import write_comparison

    write_comparison(comparison, path)
