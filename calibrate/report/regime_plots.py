"""A plot of the branch of the roofline that limits the steps of every phase, before the fit and after it."""

import pandas as pd
from matplotlib.figure import Figure

from calibrate.outcome.result import FitResult
from calibrate.report.regimes import regime_colours, regime_table
from calibrate.report.style import INK, WIDE, drawable, legend_above, new_figure

_LABELLED = 0.06


def regimes(_: FitResult, frame: pd.DataFrame) -> tuple[Figure, str]:
    """Share of the steps of every phase that each regime limits."""
    table = regime_table(frame)
    figure, (axes,) = new_figure(WIDE, 1.3 + 0.36 * len(table), left=2.3, top=0.75)
    left = [0.0] * len(table)
    for name, colour in regime_colours(frame).items():
        shares = [row["counts"].get(name, 0) / row["n"] for row in table]
        axes.barh(
            range(len(table)),
            [share * 100 for share in shares],
            left=left,
            color=colour,
            label=drawable(name),
        )
        for place, (start, share) in enumerate(zip(left, shares, strict=True)):
            if share >= _LABELLED:
                text = f"{table[place]['counts'][name]:,}"
                axes.text(
                    start + share * 50, place, text, ha="center", va="center", size=8, color=INK
                )
        left = [start + share * 100 for start, share in zip(left, shares, strict=True)]
    axes.set_yticks(
        range(len(table)), [f"{drawable(row['phase'])}, {row['stage']}" for row in table]
    )
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    axes.set_xlim(0, 100)
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.set_xlabel("share of the steps (%)")
    legend_above(axes, 6)
    return figure, "The largest part of every predicted step. Numbers: steps."
