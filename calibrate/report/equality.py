"""The axes of a plot of predicted against measured times."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D

from calibrate.report.style import FAINT, INK, TOLERANCE, Floats, log_axis


def equality_axes(axes: Axes, times: Floats) -> tuple[PolyCollection, Line2D]:
    """Equal logarithmic axes around all positive times; the band of tolerance and the line of equality on them."""
    positive = times[np.isfinite(times) & (times > 0)]
    shortest = positive.min()
    longest = positive.max()

    low, high = log_axis(axes, "x", shortest, longest)
    log_axis(axes, "y", shortest, longest)

    ends = np.array([low, high])
    lower = ends * (1 - TOLERANCE)
    upper = ends * (1 + TOLERANCE)
    band = axes.fill_between(ends, lower, upper, color=FAINT, linewidth=0)
    (line,) = axes.plot(ends, ends, color=INK, linewidth=0.9)
    return band, line
