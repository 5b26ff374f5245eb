"""The report of a fit: plots and one HTML page for whoever signs the configuration off.

In: a run as it was written. Out: plots and one page.
Uses: watch and below.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calibrate.outcome.comparison import Comparison
    from calibrate.outcome.result import FitResult
    from calibrate.watch.watched import Watched


def draw_report(result: "FitResult", folder: Path) -> Path:
    """Draw ``plots/*.png``, ``plots/*.svg`` and ``report.html`` into a run's folder; return the page's path.

    ``result`` is the run with its tables, as :func:`calibrate.outcome.run_files.read_run` reads it.
    """
    from calibrate.report.contents import complete_rows
    from calibrate.report.html import write_report
    from calibrate.report.plots import draw_plots

    plots = folder / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    rows = complete_rows(result.predictions)
    return write_report(result, rows, draw_plots(result, rows, plots), folder)


def draw_comparison(comparison: "Comparison", path: Path) -> None:
    """Write two runs, or two configurations, side by side as one page."""
    from calibrate.report.comparison_page import write_comparison

    write_comparison(comparison, path)


def draw_watched(found: "Watched", path: Path) -> None:
    """Write what a watch found as one page: a chart a slice, with bands and alarms."""
    from calibrate.report.watch_page import write_watched

    write_watched(found, path)
