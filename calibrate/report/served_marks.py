"""Marks of load points, filled or hollow, and the one legend of several panels."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from calibrate.report.style import Floats, drawable

_Values = Sequence[float] | Floats | pd.Series


def dots(
    axes: Axes, x: _Values, y: _Values, colour: str, marker: str, *, hollow: bool, **style: Any
) -> None:
    """Marks without lines."""
    face = _face(colour, hollow=hollow)
    axes.plot(x, y, linestyle="none", marker=marker, markersize=5.5, **face, **style)


def _face(colour: str, *, hollow: bool) -> dict[str, Any]:
    if hollow:
        return {
            "markerfacecolor": "none",
            "markeredgecolor": colour,
            "markeredgewidth": 1.2,
            "zorder": 2.5,
        }
    return {"markerfacecolor": colour, "markeredgewidth": 0, "zorder": 3, "alpha": 0.9}


def mark(axes: Axes, colour: str, marker: str, label: str, *, hollow: bool) -> None:
    """An entry for the legend."""
    dots(axes, [], [], colour, marker, hollow=hollow, label=drawable(label))


def legend(figure: Figure, axes: Axes, columns: int) -> None:
    """One legend for all panels, below the title."""
    handles, labels = axes.get_legend_handles_labels()
    top = 1 - 0.36 / figure.get_figheight()
    across = 0.1 / figure.get_figwidth()
    figure.legend(
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=(across, top),
        ncols=columns,
        columnspacing=1.3,
    )
