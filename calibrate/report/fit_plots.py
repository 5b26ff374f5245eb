"""Plots with one panel, or one line, a parameter: profiles, distributions of estimates, intervals by method."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from calibrate.outcome.result import FitResult, ParameterResult
from calibrate.records.interval import Interval, ProfileCurve
from calibrate.report.parameter_tables import interval_methods
from calibrate.report.style import (
    INK,
    QUIET,
    WIDE,
    Floats,
    drawable,
    finite,
    legend_above,
    new_figure,
)

_COLUMNS = 4
_HIGHEST_RISE = 2.5
_BINS = 24
_COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
)
_OPEN_PERCENT = 20.0
_OFFSET = 0.2

_PROFILES_CAPTION = (
    "Cost when one parameter is held beside its best value and all others are fitted again, over the threshold of "
    "the 90% interval: the interval ends where the line crosses 1. A line that stays below 1 on a side: the data "
    "does not bound the parameter there. Bar: the 90% interval of the table above."
)
_DISTRIBUTIONS_CAPTION = (
    "How the estimates spread when runs are drawn anew. Line: the estimate; bar: its 90% interval. Two humps or a "
    "long tail: the interval alone says too little."
)
_FAR_PERCENT = 100.0
_INTERVALS_CAPTION = (
    "An arrow: the data does not bound the parameter on that side, or only beyond "
    f"{_FAR_PERCENT:.0f}% of it."
)


def profiles(result: FitResult, _: pd.DataFrame) -> tuple[Figure, str]:
    """Rise of the cost along every parameter, all others fitted again."""
    drawn = _known_parameters(result, result.profiles)
    figure, panels = _panels(drawn)

    for axes, parameter in zip(panels, drawn, strict=True):
        profile = result.profiles[parameter.name]
        _profile(axes, parameter, profile)

    return figure, _PROFILES_CAPTION


def distributions(result: FitResult, _: pd.DataFrame) -> tuple[Figure, str]:
    """Estimates of every parameter on resampled data, and draws of its posterior."""
    summaries = {
        "bootstrap by run": result.bootstrap,
        "mcmc": result.mcmc,
    }
    sources = {label: summary.values for label, summary in summaries.items() if summary is not None}

    names = set[str]().union(*sources.values())
    drawn = _known_parameters(result, names)
    figure, panels = _panels(drawn)

    for axes, parameter in zip(panels, drawn, strict=True):
        draws = {label: _draws(values.get(parameter.name)) for label, values in sources.items()}
        _distribution(axes, parameter, draws)

    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper right", ncols=2)
    return figure, _DISTRIBUTIONS_CAPTION


def intervals(result: FitResult, _: pd.DataFrame) -> tuple[Figure, str]:
    """The 90% intervals of every method beside one another, relative to the estimate."""
    drawn = [p for p in result.parameters if p.intervals and p.value]
    methods = interval_methods(result.parameters)

    height = 1.2 + 0.42 * len(drawn)
    figure, panels = new_figure(WIDE, height, left=2.3, top=0.7)
    axes = panels[0]

    middle = (len(methods) - 1) / 2
    for order, method in enumerate(methods):
        offset = (order - middle) * _OFFSET
        colour = _COLOURS[order % len(_COLOURS)]
        _method_bars(axes, drawn, method, offset, colour)

    axes.axvline(0.0, color=INK, linewidth=0.9)
    axes.set_xlabel("90% interval beside the estimate (% of it)")

    names = [drawable(p.name) for p in drawn]
    axes.set_yticks(range(len(drawn)), names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(drawn) - 0.4, -0.6)

    legend_above(axes, 4)
    return figure, _INTERVALS_CAPTION


def _method_bars(
    axes: Axes, drawn: Sequence[ParameterResult], method: str, offset: float, colour: str
) -> None:
    """A bar on the line of every parameter that has an interval by the method."""
    for place, parameter in enumerate(drawn):
        if method in parameter.intervals:
            interval = parameter.intervals[method]
            _bar(axes, place + offset, interval, parameter.value, colour)

    label = drawable(method)
    axes.plot([], [], color=colour, linewidth=3, label=label)


def _known_parameters(result: FitResult, names: Collection[str]) -> list[ParameterResult]:
    return [parameter for parameter in result.parameters if parameter.name in names]


def _panels(drawn: Sequence[ParameterResult]) -> tuple[Figure, list[Axes]]:
    """A panel for every parameter, named above it."""
    rows = -(-len(drawn) // _COLUMNS)
    height = 0.75 + 1.95 * rows
    figure, panels = new_figure(
        WIDE,
        height,
        (rows, _COLUMNS),
        left=0.5,
        bottom=0.4,
        top=0.75,
        gap=(0.45, 0.72),
    )

    used = panels[: len(drawn)]
    spare = panels[len(drawn) :]
    for axes in spare:
        axes.set_visible(False)

    for axes, parameter in zip(used, drawn, strict=True):
        title = _panel_title(parameter)
        axes.set_title(title, loc="left", size=8, color=QUIET, pad=5)
        axes.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=2))

    return figure, used


def _panel_title(parameter: ParameterResult) -> str:
    name = drawable(parameter.name)
    if parameter.unit == "–":
        return name
    return f"{name} ({parameter.unit})"


def _profile(axes: Axes, parameter: ParameterResult, profile: ProfileCurve) -> None:
    points = np.array([profile.values, profile.rise], dtype=np.float64)
    complete = np.isfinite(points).all(axis=0)
    values, rise = points[:, complete]
    order = np.argsort(values)

    axes.axhline(1.0, color="#D55E00", linewidth=1.1, linestyle=(0, (4, 2.5)))
    axes.plot(
        values[order],
        rise[order],
        color="#0072B2",
        linewidth=1.6,
        marker="o",
        markersize=2.6,
    )

    axes.set_ylim(-0.25, _HIGHEST_RISE)
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    _mark_estimate(axes, parameter)


def _draws(values: Sequence[float | None] | None) -> Floats:
    """The estimates that are known and finite."""
    known = [value for value in values or [] if value is not None]
    return finite(known)


def _distribution(axes: Axes, parameter: ParameterResult, draws: Mapping[str, Floats]) -> None:
    everything = np.concatenate(list(draws.values()))
    if not len(everything):
        return

    edges = _bin_edges(everything)
    for (label, values), colour in zip(draws.items(), _COLOURS, strict=False):
        counts, _ = np.histogram(values, edges)
        share = counts / max(len(values), 1)
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.2)
        axes.stairs(share, edges, color=colour, linewidth=1.2, label=label)

    axes.set_yticks([])
    highest = axes.get_ylim()[1]
    axes.set_ylim(bottom=-0.06 * highest)
    _mark_estimate(axes, parameter)


def _bin_edges(values: Floats) -> Floats:
    """Edges of equal bins over nearly all the values, which are at least one."""
    low, high = np.quantile(values, [0.002, 0.998])
    if high > low:
        return np.linspace(low, high, _BINS + 1)
    return np.linspace(low - 0.5, low + 0.5, _BINS + 1)


def _mark_estimate(axes: Axes, parameter: ParameterResult) -> None:
    """The estimate as a line and its interval as a bar along the lower edge, open where the data leaves it open."""
    axes.axvline(parameter.value, color=INK, linewidth=0.9)
    if not parameter.ci90:
        return

    left, right = axes.get_xlim()
    low, high = parameter.ci90
    start = left if low is None else low
    end = right if high is None else high

    height = axes.get_ylim()[0] / 2
    axes.plot(
        [start, end],
        [height, height],
        color=INK,
        linewidth=3,
        alpha=0.6,
        solid_capstyle="butt",
    )


def _bar(axes: Axes, place: float, ends: Interval, value: float, colour: str) -> None:
    """An interval in percent of the estimate; an open side is as long as the closed one. Arrows end it and far ones."""
    low = _beside(ends[0], value)
    high = _beside(ends[1], value)

    closed = [abs(end) for end in (low, high) if end is not None]
    reach = max(closed, default=_OPEN_PERCENT)
    left = max(-reach if low is None else low, -_FAR_PERCENT)
    right = min(reach if high is None else high, _FAR_PERCENT)

    axes.plot(
        [left, right],
        [place, place],
        color=colour,
        linewidth=3,
        solid_capstyle="butt",
    )
    if low is None or low < left:
        axes.plot([left], [place], marker="<", color=colour)
    if high is None or high > right:
        axes.plot([right], [place], marker=">", color=colour)


def _beside(end: float | None, value: float) -> float | None:
    """An end of an interval in percent of the estimate, None where it is open."""
    if end is None:
        return None
    return (end - value) / abs(value) * 100
