"""Draws every plot of a report."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from calibrate.report.error_plots import error_by_slice, error_cdf, multistart, residual_distribution
from calibrate.report.step_plots import predicted_measured, residuals, roofline
from calibrate.report.style import Plot, save

__all__ = ["Plot", "draw_plots"]

_Draw = Callable[[Mapping[str, Any], pd.DataFrame], tuple[Figure, str]]

_PLOTS: tuple[tuple[_Draw, str], ...] = (
    (predicted_measured, "Predicted against measured"),
    (error_cdf, "How many steps are predicted how well"),
    (residuals, "Where the errors are"),
    (error_by_slice, "Mean error by slice"),
    (residual_distribution, "How the errors are distributed"),
    (roofline, "Roofline"),
    (multistart, "Agreement of the starts"),
)


def draw_plots(result: Mapping[str, Any], predictions: pd.DataFrame, folder: Path) -> list[Plot]:
    """Draw the plots of a run (the content of its result.json and predictions.csv) into an existing folder.

    Each is written as ``<name>.png`` and ``<name>.svg``.
    """
    return [save(partial(draw, result, predictions), draw.__name__, title, folder) for draw, title in _PLOTS]
