"""Draws every plot of a report."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from calibrate.outcome.run_files import has_steps
from calibrate.report.corner_plot import draw_corner
from calibrate.report.error_plots import error_by_slice, error_cdf, multistart, residual_distribution
from calibrate.report.fit_plots import distributions, intervals, profiles
from calibrate.report.matrix_plots import correlations, sensitivity, singular_values
from calibrate.report.parameter_tables import interval_methods
from calibrate.report.regime_plots import regimes
from calibrate.report.served_plots import mean_figures, serving_errors, serving_predicted_measured
from calibrate.report.step_plots import predicted_measured, residuals, roofline
from calibrate.report.style import Plot, save

__all__ = ["Plot", "draw_plots"]

_Draw = Callable[[Mapping[str, Any], pd.DataFrame], tuple[Figure, str]]

_Has = Callable[[Mapping[str, Any]], bool]


def _has_correlations(result: Mapping[str, Any]) -> bool:
    return len(result["identifiability"]["correlations"]) > 1


def _has_sensitivity(result: Mapping[str, Any]) -> bool:
    return bool((result["identifiability"]["sensitivity"] or {}).get("rms"))


def _has_singular_values(result: Mapping[str, Any]) -> bool:
    return bool(result["identifiability"]["singular_values"])


def _has_profiles(result: Mapping[str, Any]) -> bool:
    return any(parameter["name"] in result["profiles"] for parameter in result["parameters"])


def _has_draws(result: Mapping[str, Any]) -> bool:
    drawn = {name for key in ("bootstrap", "mcmc") if result[key] for name in result[key]["values"]}
    return any(parameter["name"] in drawn for parameter in result["parameters"])


def _has_methods(result: Mapping[str, Any]) -> bool:
    return bool(interval_methods(result["parameters"]))


PLOTS: tuple[tuple[_Draw, str, _Has], ...] = (
    (predicted_measured, "Predicted against measured", has_steps),
    (error_cdf, "How many steps are predicted how well", has_steps),
    (residuals, "Where the errors are", has_steps),
    (error_by_slice, "Mean error by slice", has_steps),
    (residual_distribution, "How the errors are distributed", has_steps),
    (roofline, "Roofline", has_steps),
    (regimes, "What limits the steps", has_steps),
    (intervals, "Intervals by method", _has_methods),
    (correlations, "Correlations", _has_correlations),
    (sensitivity, "What every group of rows sees", _has_sensitivity),
    (singular_values, "Singular values", _has_singular_values),
    (profiles, "Profiles", _has_profiles),
    (distributions, "Distributions of the estimates", _has_draws),
    (multistart, "Agreement of the starts", has_steps),
)
"""How each plot is drawn, its title, and whether a run holds anything to draw; its file has the function's name."""

SERVING_PLOTS = (
    (serving_predicted_measured, "Serving: predicted against measured"),
    (serving_errors, "Serving: errors of every load point"),
)
"""The same of the plots of serving results, which every run has that was fitted to some."""


def draw_plots(
    result: Mapping[str, Any], rows: pd.DataFrame, folder: Path, served: pd.DataFrame | None = None
) -> list[Plot]:
    """Draw the plots of a run into an existing folder: those for which the run holds something.

    ``result`` and ``rows`` are complete: see :mod:`calibrate.report.contents`; ``served`` are the figures of serving
    results, if any. Each plot is written as ``<name>.png`` and ``<name>.svg``.
    """
    drawn = [
        save(partial(draw, result, rows), draw.__name__, title, folder) for draw, title, has in PLOTS if has(result)
    ]
    return [*drawn, *_corner(result, folder), *_serving(served, folder)]


def _serving(served: pd.DataFrame | None, folder: Path) -> list[Plot]:
    if served is None:
        return []
    means = mean_figures(served)
    return [save(partial(draw, means), draw.__name__, title, folder) for draw, title in SERVING_PLOTS]


def _corner(result: Mapping[str, Any], folder: Path) -> list[Plot]:
    """The corner plot of a chain of two parameters or more."""
    draws = result["mcmc"]["values"] if result["mcmc"] else {}
    if not 1 < len(draws) < len(next(iter(draws.values()), [])):
        return []
    by_name = {parameter["name"]: parameter for parameter in result["parameters"]}
    best = {name: by_name[name]["value"] for name in draws}
    return [draw_corner(draws, best, {name: by_name[name]["unit"] for name in draws}, folder)]
