"""The corner plot of parameters drawn together: each alone, and every pair, by the library corner (extra ``mcmc``)."""

import re
import types
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from calibrate.records.distribution import install_extra
from calibrate.records.errors import CalibrateError
from calibrate.report.style import PHASES, QUIET, Floats, Plot, drawable, save

_PANEL, _MARGIN, _TOP = 1.2, 0.95, 0.5  # inches
_LONG_NAME = 14
_BLUE = PHASES["prefill"][0]
_ORANGE = PHASES["decode"][0]
_FEWEST_BINS, _MOST_BINS = 10, 30


def draw_corner(
    draws: Mapping[str, Sequence[float] | Floats],
    best: Mapping[str, float],
    units: Mapping[str, str],
    folder: Path,
) -> Plot:
    """Draw ``corner.png`` and ``corner.svg`` into an existing folder.

    ``draws`` holds as many draws of every parameter, ``best`` the fitted values, ``units`` what stands on the axes.
    Raises CalibrateError if corner is not installed, for fewer than two parameters, or fewer draws than parameters.
    """
    corner = _corner()
    points = np.column_stack([np.asarray(column, dtype=np.float64) for column in draws.values()])
    if points.shape[1] < 2:
        raise CalibrateError("a corner plot shows pairs: it needs two parameters or more")
    if len(points) <= points.shape[1]:
        raise CalibrateError(
            f"a corner plot of {points.shape[1]} parameters needs more draws than {len(points)}"
        )
    labels = [_label(name, units.get(name, "")) for name in draws]
    draw = partial(_draw, corner, points, labels, [best[name] for name in draws])
    return save(draw, "corner", "Parameters together", folder)


def _corner() -> types.ModuleType:
    try:
        import corner
    except ImportError:
        raise CalibrateError(f"corner is not installed: {install_extra('mcmc')}") from None
    module: types.ModuleType = corner
    return module


def _label(name: str, unit: str) -> str:
    return _wrapped(drawable(name)) + ("" if unit in ("", "–") else f"\n{drawable(unit)}")


def _wrapped(name: str) -> str:
    """A long name in two lines, broken before the capital that is nearest its middle."""
    capitals = [match.start() for match in re.finditer("[A-Z]", name) if match.start()]
    if len(name) <= _LONG_NAME or not capitals:
        return name
    middle = min(capitals, key=lambda position: abs(position - len(name) / 2))
    return f"{name[:middle]}\n{name[middle:]}"


def _draw(
    corner: types.ModuleType, points: Floats, labels: list[str], best: list[float]
) -> tuple[Figure, str]:
    count = points.shape[1]
    side = _MARGIN + count * _PANEL
    figure = Figure(figsize=(side + 0.2, side + _TOP))
    FigureCanvasAgg(figure)
    corner.corner(
        points,
        fig=figure,
        labels=labels,
        truths=best,
        truth_color=_ORANGE,
        color=_BLUE,
        bins=int(np.clip(np.sqrt(len(points)) / 3, _FEWEST_BINS, _MOST_BINS)),
        range=[_range(column) for column in points.T],
        levels=(0.5, 0.9),
        smooth=1.0,
        plot_datapoints=False,
        plot_density=False,
        fill_contours=True,
        max_n_ticks=3,
        labelpad=0.1,
        label_kwargs={"fontsize": 7.5, "linespacing": 1.1},
        hist_kwargs={"linewidth": 1.0},
    )
    figure.subplots_adjust(
        left=_MARGIN / (side + 0.2),
        right=1 - 0.2 / (side + 0.2),
        bottom=_MARGIN / (side + _TOP),
        top=1 - _TOP / (side + _TOP),
        wspace=0.08,
        hspace=0.08,
    )
    for axes in figure.axes:
        axes.grid(visible=False)
        axes.tick_params(labelsize=6.5, colors=QUIET)
    caption = (
        "Draws of the parameters together: each alone on the diagonal, every pair below it. The contours hold half and "
        "nine in ten of the draws; orange is the fit. A slanted contour is a pair that the data can hardly tell apart."
    )
    return figure, caption


def _range(column: Floats) -> tuple[float, float]:
    """All but the outermost draws, and never of no width."""
    low, high = np.quantile(column, [0.002, 0.998]).tolist()
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room
