"""Draws every plot of a report."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from calibrate.outcome.result import FitResult
from calibrate.records.beside import beside
from calibrate.records.errors import CalibrateError
from calibrate.report.contents import complete_rows
from calibrate.report.corner_plot import draw_corner
from calibrate.report.error_plots import (
    error_by_slice,
    error_cdf,
    residual_distribution,
)
from calibrate.report.fit_plots import distributions, intervals, profiles
from calibrate.report.matrix_plots import correlations, sensitivity, singular_values
from calibrate.report.parameter_tables import interval_methods
from calibrate.report.regime_plots import regimes
from calibrate.report.roofline_plot import roofline
from calibrate.report.served_plots import mean_figures, serving_errors, serving_predicted_measured
from calibrate.report.start_plots import multistart
from calibrate.report.step_plots import predicted_measured, residuals
from calibrate.report.style import Plot, house_style, save
from sim.errors import nearest

__all__ = ["Plot", "draw_plots"]

_Draw = Callable[[FitResult, pd.DataFrame], tuple[Figure, str]]

_Has = Callable[[FitResult], bool]


def _has_steps(result: FitResult) -> bool:
    return result.has_steps


def _has_correlations(result: FitResult) -> bool:
    return len(result.identifiability.correlations) > 1


def _has_sensitivity(result: FitResult) -> bool:
    return bool(result.identifiability.sensitivity.rms)


def _has_singular_values(result: FitResult) -> bool:
    return bool(result.identifiability.singular_values)


def _has_profiles(result: FitResult) -> bool:
    return any(parameter.name in result.profiles for parameter in result.parameters)


def _has_draws(result: FitResult) -> bool:
    drawn: set[str] = set()
    for draws in (result.bootstrap, result.mcmc):
        if draws is not None:
            drawn.update(draws.values)
    return any(parameter.name in drawn for parameter in result.parameters)


def _has_methods(result: FitResult) -> bool:
    return bool(interval_methods(result.parameters))


PLOTS: tuple[tuple[_Draw, str, _Has], ...] = (
    (predicted_measured, "Predicted against measured", _has_steps),
    (error_cdf, "How many steps are predicted how well", _has_steps),
    (residuals, "Where the errors are", _has_steps),
    (error_by_slice, "Mean error by slice", _has_steps),
    (residual_distribution, "How the errors are distributed", _has_steps),
    (roofline, "Roofline", _has_steps),
    (regimes, "What limits the steps", _has_steps),
    (intervals, "Intervals by method", _has_methods),
    (correlations, "Correlations", _has_correlations),
    (sensitivity, "What every group of rows sees", _has_sensitivity),
    (singular_values, "Singular values", _has_singular_values),
    (profiles, "Profiles", _has_profiles),
    (distributions, "Distributions of the estimates", _has_draws),
    (multistart, "Agreement of the starts", _has_steps),
)
"""How each plot is drawn, its title, and whether a run holds anything to draw; its file has the function's name."""

SERVING_PLOTS = (
    (serving_predicted_measured, "Serving: predicted against measured"),
    (serving_errors, "Serving: errors of every load point"),
)
"""The same of the plots of serving results, which every run has that was fitted to some."""


def draw_plots(result: FitResult, rows: pd.DataFrame, folder: Path) -> list[Plot]:
    """Draw the plots of a run into an existing folder: those for which the run holds something.

    ``rows`` are the run's predictions, complete: see :mod:`calibrate.report.contents`. Each plot is written as
    ``<name>.png`` and ``<name>.svg``.
    """
    drawn = [(draw, title) for draw, title, has in PLOTS if has(result)]

    def save_some(some: Sequence[tuple[_Draw, str]]) -> list[Plot]:
        return [
            save(partial(draw, result, rows), draw.__name__, title, folder) for draw, title in some
        ]

    half = beside(lambda: save_some(drawn[1::2]))
    plots = save_some(drawn[::2])
    plots += _corner(result, folder)
    plots += _serving(result.served, folder)
    return [*plots, *half()]


def draw_plot(result: FitResult, name: str) -> Figure:
    """One plot of a run by its function's name. Raises CalibrateError for another name, or where there is nothing."""
    drawable = {draw.__name__: draw for draw, _, has in PLOTS if has(result)}
    if name not in drawable:
        names = ", ".join(drawable)
        raise CalibrateError(
            f"no plot {name!r} of this fit (it has {names}){nearest(name, drawable)}"
        )
    rows = complete_rows(result.predictions)
    with house_style():
        figure, _ = drawable[name](result, rows)
    return figure


def _serving(served: pd.DataFrame | None, folder: Path) -> list[Plot]:
    if served is None:
        return []
    means = mean_figures(served)
    plots = []
    for draw, title in SERVING_PLOTS:
        plots.append(save(partial(draw, means), draw.__name__, title, folder))
    return plots


def _corner(result: FitResult, folder: Path) -> list[Plot]:
    """The corner plot of a chain of two parameters or more."""
    draws = result.mcmc.values if result.mcmc else {}
    samples = len(next(iter(draws.values()), []))
    if not 1 < len(draws) < samples:
        return []
    units = {parameter.name: parameter.unit for parameter in result.parameters}
    return [draw_corner(draws, result.values, units, folder)]
