"""Plots of identifiability: correlations, sensitivities by group of rows, singular values."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from calibrate.outcome.result import FitResult
from calibrate.report.style import (
    FAINT,
    INK,
    NARROW,
    QUIET,
    Floats,
    drawable,
    finite,
    legend_above,
    log_axis,
    new_figure,
)
from calibrate.report.texts import correlation, rounded

_DIVERGING = LinearSegmentedColormap.from_list("vermilion-blue", ["#D55E00", "#ffffff", "#0072B2"])
_RISING = LinearSegmentedColormap.from_list("white-blue", ["#ffffff", "#0072B2"])
_CELL = 0.62, 0.36
_DARK = 0.75
_UNSEEN = 0.005  # what two decimals write as nothing


def correlations(result: FitResult, _: pd.DataFrame) -> tuple[Figure, str]:
    """Correlations of the estimates of the fitted parameters, the lower triangle."""
    table = result.identifiability.correlations
    names = list(table)
    values = np.array([[table[a][b] for b in names] for a in names], dtype=np.float64)
    values[np.triu_indices(len(names), 1)] = np.nan
    figure, axes = _heat_map(values, names, names, _DIVERGING, correlation)
    axes.set_xticks(range(len(names)), [drawable(name) for name in names], rotation=35, ha="right")
    return figure, "Near ±1 the data hardly tells two parameters apart."


def sensitivity(result: FitResult, _: pd.DataFrame) -> tuple[Figure, str]:
    """How strongly the step times of every group of rows follow every parameter."""
    seen = result.identifiability.sensitivity
    values = np.array(list(seen.rms.values()), dtype=np.float64)
    values[np.abs(values) < _UNSEEN] = np.nan
    figure, axes = _heat_map(values, list(seen.rms), seen.groups, _RISING, rounded)
    labels = [f"{drawable(group)} ({n:,})" for group, n in zip(seen.groups, seen.n, strict=True)]
    axes.set_xticks(range(len(labels)), labels, rotation=35, ha="right")
    return figure, (
        "Root mean square of d ln t / d ln parameter: at 1 the step time follows the parameter in proportion, at 0 not "
        f"at all; empty: below {_UNSEEN}. In brackets: rows."
    )


def singular_values(result: FitResult, _: pd.DataFrame) -> tuple[Figure, str]:
    """Singular values of the unit-length sensitivities, at the start and at the solution."""
    start = result.identifiability.start.singular_values
    solution = result.identifiability.singular_values
    figure, (axes,) = new_figure(NARROW, 4.0, top=0.85)
    series = (
        ("all seen, at the start", start, QUIET, "o"),
        ("free, at the solution", solution, INK, "D"),
    )
    positive = [value for value in finite([*start, *solution]).tolist() if value]
    log_axis(axes, "y", min(positive, default=1.0), max(positive, default=1.0))
    for label, values, colour, marker in series:
        if values:
            rank = np.arange(1, len(values) + 1)
            axes.plot(
                rank,
                sorted(values, reverse=True),
                color=colour,
                marker=marker,
                linewidth=1.2,
                label=label,
            )
    axes.set_xticks(range(1, max(len(start), len(solution), 1) + 1))
    axes.set_xlabel("direction")
    axes.set_ylabel("singular value")
    legend_above(axes, 2)
    return (
        figure,
        "A value far below the others: a combination of parameters that the data hardly sees.",
    )


def _heat_map(
    values: Floats,
    rows: Sequence[str],
    columns: Sequence[str],
    colours: LinearSegmentedColormap,
    write: Callable[[float], str],
) -> tuple[Figure, Axes]:
    longest = max(len(drawable(name)) for name in rows)
    left = 0.4 + 0.075 * longest
    width = max(NARROW, left + 0.3 + _CELL[0] * len(columns))
    figure, (axes,) = new_figure(
        width, 1.9 + _CELL[1] * len(rows), left=left, bottom=1.45, top=0.45
    )
    axes.imshow(
        values, cmap=colours, vmin=-1.0 if colours is _DIVERGING else 0.0, vmax=1.0, aspect="auto"
    )
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if abs(value) > _DARK else INK
            axes.text(
                column, row, write(float(value)), ha="center", va="center", size=8, color=colour
            )
    axes.set_yticks(range(len(rows)), [drawable(name) for name in rows])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_color(FAINT)
    return figure, axes
