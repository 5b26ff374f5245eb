"""A plot of how the starts of the search ended."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from calibrate.outcome.result import FitResult
from calibrate.report.style import (
    FAINT,
    NARROW,
    corner_note,
    finite,
    legend_above,
    log_ticks,
    new_figure,
    short_number,
)

_FAR_PERCENT = 300.0


def multistart(result: FitResult, _: pd.DataFrame) -> tuple[Figure, str]:
    """The costs at which the starts of the search ended, the best first."""
    figure, (axes,) = new_figure(NARROW, 4.8, top=0.85)
    costs = np.sort(finite(result.fit.costs))
    best = float(costs[0]) if len(costs) else 0.0
    excess = (costs - best) / best * 100 if best > 0 else np.zeros(len(costs))
    rank = np.arange(1, len(costs) + 1)
    reached = rank <= result.fit.starts_at_best
    axes.vlines(rank, 0, excess, color=FAINT, linewidth=2)
    groups = (
        ("reached the best", "#0072B2", "o", reached),
        ("ended elsewhere", "#D55E00", "X", ~reached),
    )
    for label, colour, marker, rows in groups:
        text = f"{label}: {int(rows.sum())} of {len(costs)}"
        axes.plot(
            rank[rows],
            excess[rows],
            linestyle="none",
            marker=marker,
            color=colour,
            markersize=8,
            label=text,
        )
    _excess_axis(axes, float(excess.max(initial=0.0)))
    axes.set_xlim(0.4, max(len(costs), 1) + 0.6)
    axes.set_xticks(rank[:: 1 + len(costs) // 16])
    axes.set_xlabel("start, by its final cost")
    legend_above(axes, 2)
    corner_note(figure, f"best cost {best:.6g}")
    caption = "Starts from all over the plausible range. Many at the best cost: an easy minimum. Few: use more starts."
    return figure, caption


def _excess_axis(axes: Axes, largest: float) -> None:
    """Percent above the best: linear, or logarithmic beyond one percent where some are very far above."""
    axes.set_ylabel("final cost above the best (%)")
    if largest <= _FAR_PERCENT:
        top = max(1.0, largest)
        axes.set_ylim(-0.06 * top, 1.3 * top)
        return
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_ylim(-0.4, 5 * largest)
    ticks = [0.0, *log_ticks(1.0, 5 * largest)]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FixedFormatter([short_number(tick) for tick in ticks]))
    axes.yaxis.set_minor_locator(NullLocator())
