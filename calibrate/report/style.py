"""The look of every plot: colour-blind safe colours (Okabe and Ito), small figures, text left as text in SVG."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PHASE_COLOURS = {"prefill": "#0072B2", "decode": "#D55E00", "mixed": "#009E73"}
BEFORE, AFTER, HELD_OUT = "#999999", "#0072B2", "#E69F00"
QUIET = "#666666"

_RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "none",
    "svg.hashsalt": "calibrate",
    "text.parse_math": False,
    "path.simplify": True,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Apply the look within the block; nothing global stays changed."""
    with mpl.rc_context(_RC):
        yield


def figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure in inches with a grid of axes, row by row."""
    made = Figure(figsize=(width, height), dpi=110)
    axes = made.subplots(rows, columns, squeeze=False)
    margins = {"left": 0.85 / width, "right": 1 - 0.25 / width, "top": 1 - 0.4 / height, "bottom": 0.6 / height}
    made.subplots_adjust(**margins, wspace=0.28, hspace=0.62)
    return made, list(axes.flat)


def percent_axis(axis: Any) -> None:
    """Label an axis of fractions in percent."""
    axis.set_major_formatter(lambda value, _: f"{value:+.0%}" if value else "0%")
