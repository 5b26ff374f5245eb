"""The look that all plots share: colours, axes, ticks, and how a figure is saved."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from numpy.typing import NDArray

from calibrate.report.axis_zones import Zone, axis_zones
from sim.units import GIGA, KILO, MEGA

Floats = NDArray[np.float64]

PNG_DPI = 130
NARROW, WIDE = 5.4, 10.9
"""Widths of figures in inches: two narrow ones take the room of a wide one."""

INK, QUIET, FAINT = "#222222", "#666666", "#d9d9d9"
PHASES = {"prefill": ("#0072B2", "o"), "decode": ("#D55E00", "^"), "mixed": ("#009E73", "s")}
"""Colour (Okabe-Ito) and marker of every phase."""
STAGES = {"before": ("#8c8c8c", "o"), "after": ("#000000", "D"), "held out": ("#CC79A7", "s")}
"""Colour and marker of an error before the fit, after it, and on rows held out of it."""
TOLERANCE = 0.10
"""The relative error that every plot marks as a band."""

_DRAWN_ROWS, _DRAWN_WORST, _VECTOR_ROWS = 4000, 400, 1500
_LONGEST_NAME = 30
_HUGE = 1e12
_RC: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.color": INK,
    "text.parse_math": False,
    "text.usetex": False,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "grid.color": "#ececec",
    "grid.linewidth": 0.7,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handletextpad": 0.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "calibrate",
}


@dataclasses.dataclass(frozen=True)
class Plot:
    """A drawn plot: its files are ``<name>.png`` and ``<name>.svg``; ``caption`` says how to read it, ``zones`` what
    its axes mean.
    """

    name: str
    title: str
    caption: str
    zones: tuple[Zone, ...] = ()


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Draw as the report does, whatever the caller's settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def save(draw: Callable[[], tuple[Figure, str]], name: str, title: str, folder: Path) -> Plot:
    """Draw a figure in the house style and write it twice, as PNG and as SVG; the same bytes every time."""
    with house_style():
        figure, caption = draw()
        left = 0.14 / figure.get_figwidth()
        top = 1 - 0.12 / figure.get_figheight()
        figure.text(left, top, title, va="top", weight="bold", size=11)
        figure.savefig(folder / f"{name}.png", dpi=PNG_DPI, metadata={"Software": None})
        figure.savefig(
            folder / f"{name}.svg", dpi=PNG_DPI, metadata={"Date": None, "Creator": None}
        )
        zones = axis_zones(figure)
    return Plot(name, title, caption, zones)


def new_figure(
    width: float,
    height: float,
    panels: tuple[int, int] = (1, 1),
    *,
    left: float = 0.72,
    bottom: float = 0.55,
    top: float = 0.45,
    gap: tuple[float, float] = (0.75, 0.6),
) -> tuple[Figure, list[Axes]]:
    """A figure with a grid of (rows, columns) panels; margins and gaps (across, down) in inches."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    rows, columns = panels
    right = 0.18
    across = (width - left - right - gap[0] * (columns - 1)) / columns
    down = (height - bottom - top - gap[1] * (rows - 1)) / rows
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        bottom=bottom / height,
        top=1 - top / height,
        wspace=gap[0] / across,
        hspace=gap[1] / down,
    )
    return figure, list(axes.flat)


def thinned(frame: pd.DataFrame) -> pd.DataFrame:
    """At most about 4,000 rows to draw: the worst ones and every so-manieth of the others."""
    if len(frame) <= _DRAWN_ROWS:
        return frame
    worst = np.argsort(-frame["residual"].abs().to_numpy(), kind="stable")[:_DRAWN_WORST]
    even = np.linspace(0, len(frame) - 1, _DRAWN_ROWS - _DRAWN_WORST).astype(np.intp)
    return frame.iloc[np.union1d(worst, even)]


def thinning_note(frame: pd.DataFrame) -> str:
    """A sentence for the caption if the plot leaves rows out, else nothing."""
    shown = len(thinned(frame))
    return (
        f" {shown:,} of {len(frame):,} rows are drawn, the worst among them."
        if shown < len(frame)
        else ""
    )


def points(axes: Axes, x: Floats, y: Floats, colour: str, marker: str, **style: Any) -> None:
    """Scatter points; many of them become a picture within the SVG, so that it stays small."""
    defaults = {
        "markersize": 3.6,
        "alpha": 0.55,
        "markeredgewidth": 0.0,
        "rasterized": len(x) > _VECTOR_ROWS,
    }
    axes.plot(x, y, linestyle="none", marker=marker, color=colour, **{**defaults, **style})


def phases_of(frame: pd.DataFrame) -> list[str]:
    """The phases that occur, in the order in which they are drawn."""
    present = set(frame["phase"].unique())
    return [phase for phase in PHASES if phase in present]


def phase_key(axes: Axes, phase: str, label: str) -> None:
    """An entry for the legend: the phase's mark, solid however faint its points are."""
    colour, marker = PHASES[phase]
    axes.plot(
        [],
        [],
        linestyle="none",
        marker=marker,
        color=colour,
        markersize=5.5,
        markeredgewidth=0,
        label=label,
    )


def legend_above(axes: Axes, columns: int) -> None:
    """Put the legend over the panel, at the right, where it hides no point."""
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=columns,
        columnspacing=1.3,
        borderaxespad=0.2,
    )


def corner_note(figure: Figure, text: str) -> None:
    """Write at the right of the title's line."""
    x = 1 - 0.18 / figure.get_figwidth()
    y = 1 - 0.13 / figure.get_figheight()
    figure.text(x, y, text, ha="right", va="top")


def log_axis(axes: Axes, which: str, low: float, high: float) -> tuple[float, float]:
    """Make an axis logarithmic around positive data, at least a factor four wide, with plainly written ticks."""
    low, high = low / 1.25, high * 1.25
    widen = max(1.0, math.sqrt(4 * low / high))
    low, high = low / widen, high * widen
    set_scale, set_limits, axis = (
        (axes.set_xscale, axes.set_xlim, axes.xaxis)
        if which == "x"
        else (axes.set_yscale, axes.set_ylim, axes.yaxis)
    )
    set_scale("log")
    set_limits(low, high)
    ticks = log_ticks(low, high)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FixedFormatter([short_number(tick) for tick in ticks]))
    axis.set_minor_locator(NullLocator())
    return low, high


def log_ticks(low: float, high: float) -> list[float]:
    """Decades; 1-2-5 steps where fewer than two and a half decades show; thinned where there are very many."""
    steps = (1, 2, 5) if high / low < 300 else (1,)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**exponent for exponent in exponents for step in steps]
    inside = [tick for tick in ticks if low <= tick <= high]
    return inside[:: 1 + len(inside) // 9]


def short_number(value: float) -> str:
    """A tick's text: 0.05, 20, 500, 4k, 1M."""
    if abs(value) >= _HUGE:
        return f"{value:.0e}".replace("e+", "e")
    for size, suffix in ((GIGA, "G"), (MEGA, "M"), (KILO, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"


def drawable(text: object) -> str:
    """A name out of the data as text that the font can draw, on one line and not too long."""
    known = _glyphs()
    line = " ".join(str(text).split())
    safe = "".join(
        letter if letter.isprintable() and ord(letter) in known else "?" for letter in line
    )
    return safe if len(safe) <= _LONGEST_NAME else f"{safe[: _LONGEST_NAME - 1]}…"


@functools.cache
def _glyphs() -> frozenset[int]:
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def finite(values: Sequence[float] | Floats | pd.Series) -> Floats:
    """The finite ones among some numbers."""
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]
