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
from calibrate.report.style import INK, QUIET, WIDE, drawable, finite, legend_above, new_figure

_COLUMNS = 4
_HIGHEST_RISE = 2.5
_BINS = 24
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_OPEN_PERCENT = 20.0


def profiles(result: FitResult, _: pd.DataFrame) -> tuple[Figure, str]:
    """Rise of the cost along every parameter, all others fitted again."""
    drawn = _known_parameters(result, result.profiles)
    figure, panels = _panels(drawn)
    for axes, parameter in zip(panels, drawn, strict=True):
        _profile(axes, parameter, result.profiles[parameter.name])
    return figure, (
        "Cost when one parameter is held beside its best value and all others are fitted again, over the threshold of "
        "the 90% interval: the interval ends where the line crosses 1. A line that stays below 1 on a side: the data "
        "does not bound the parameter there. Bar: the 90% interval of the table above."
    )


def distributions(result: FitResult, _: pd.DataFrame) -> tuple[Figure, str]:
    """Estimates of every parameter on resampled data, and draws of its posterior."""
    draws = {"bootstrap by run": result.bootstrap, "mcmc": result.mcmc}
    sources = {label: summary.values for label, summary in draws.items() if summary is not None}
    drawn = _known_parameters(result, {name for values in sources.values() for name in values})
    figure, panels = _panels(drawn)
    for axes, parameter in zip(panels, drawn, strict=True):
        _distribution(axes, parameter, {label: values.get(parameter.name) for label, values in sources.items()})
    figure.legend(*panels[0].get_legend_handles_labels(), loc="upper right", ncols=2)
    return figure, (
        "How the estimates spread when runs are drawn anew. Line: the estimate; bar: its 90% interval. Two humps or a "
        "long tail: the interval alone says too little."
    )


def intervals(result: FitResult, _: pd.DataFrame) -> tuple[Figure, str]:
    """The 90% intervals of every method beside one another, relative to the estimate."""
    drawn = [p for p in result.parameters if p.intervals and p.value]
    methods = interval_methods(result.parameters)
    figure, (axes,) = new_figure(WIDE, 1.2 + 0.42 * len(drawn), left=2.3, top=0.7)
    for order, method in enumerate(methods):
        colour = _COLOURS[order % len(_COLOURS)]
        for place, parameter in enumerate(drawn):
            if method in parameter.intervals:
                offset = place + (order - (len(methods) - 1) / 2) * 0.2
                _bar(axes, offset, parameter.intervals[method], parameter.value, colour)
        axes.plot([], [], color=colour, linewidth=3, label=drawable(method))
    axes.axvline(0.0, color=INK, linewidth=0.9)
    axes.set_yticks(range(len(drawn)), [drawable(p.name) for p in drawn])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    axes.set_xlabel("90% interval beside the estimate (% of it)")
    legend_above(axes, 4)
    return figure, "An arrow: the data does not bound the parameter on that side."


def _known_parameters(result: FitResult, names: Collection[str]) -> list[ParameterResult]:
    return [parameter for parameter in result.parameters if parameter.name in names]


def _panels(drawn: Sequence[ParameterResult]) -> tuple[Figure, list[Axes]]:
    """A panel for every parameter, named above it."""
    rows = -(-len(drawn) // _COLUMNS)
    figure, panels = new_figure(
        WIDE, 0.75 + 1.95 * rows, (rows, _COLUMNS), left=0.5, bottom=0.4, top=0.75, gap=(0.45, 0.72)
    )
    for axes in panels[len(drawn) :]:
        axes.set_visible(False)
    for axes, parameter in zip(panels, drawn, strict=False):
        unit = "" if parameter.unit == "–" else f" ({parameter.unit})"
        axes.set_title(drawable(parameter.name) + unit, loc="left", size=8, color=QUIET, pad=5)
        axes.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=2))
    return figure, panels[: len(drawn)]


def _profile(axes: Axes, parameter: ParameterResult, profile: ProfileCurve) -> None:
    points = np.array([profile.values, profile.rise], dtype=np.float64)
    values, rise = points[:, np.isfinite(points).all(axis=0)]
    order = np.argsort(values)
    axes.axhline(1.0, color="#D55E00", linewidth=1.1, linestyle=(0, (4, 2.5)))
    axes.plot(values[order], rise[order], color="#0072B2", linewidth=1.6, marker="o", markersize=2.6)
    axes.set_ylim(-0.25, _HIGHEST_RISE)
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    _mark_estimate(axes, parameter)


def _distribution(axes: Axes, parameter: ParameterResult, sources: Mapping[str, Sequence[float | None] | None]) -> None:
    draws = {label: finite([v for v in values or [] if v is not None]) for label, values in sources.items()}
    everything = np.concatenate(list(draws.values()))
    if not len(everything):
        return
    low, high = np.quantile(everything, [0.002, 0.998])
    edges = np.linspace(low, high, _BINS + 1) if high > low else np.linspace(low - 0.5, low + 0.5, _BINS + 1)
    for (label, values), colour in zip(draws.items(), _COLOURS, strict=False):
        share = np.histogram(values, edges)[0] / max(len(values), 1)
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.2)
        axes.stairs(share, edges, color=colour, linewidth=1.2, label=label)
    axes.set_yticks([])
    axes.set_ylim(bottom=-0.06 * axes.get_ylim()[1])
    _mark_estimate(axes, parameter)


def _mark_estimate(axes: Axes, parameter: ParameterResult) -> None:
    """The estimate as a line and its interval as a bar along the lower edge, open where the data leaves it open."""
    axes.axvline(parameter.value, color=INK, linewidth=0.9)
    if not parameter.ci90:
        return
    left, right = axes.get_xlim()
    low, high = parameter.ci90
    ends = [left if low is None else low, right if high is None else high]
    height = axes.get_ylim()[0] / 2
    axes.plot(ends, [height, height], color=INK, linewidth=3, alpha=0.6, solid_capstyle="butt")


def _bar(axes: Axes, place: float, ends: Interval, value: float, colour: str) -> None:
    """An interval in percent of the estimate, an open side as long as the closed one and with an arrow."""
    low, high = (None if end is None else (end - value) / abs(value) * 100 for end in ends)
    reach = max((abs(end) for end in (low, high) if end is not None), default=_OPEN_PERCENT)
    left, right = (-reach if low is None else low), (reach if high is None else high)
    axes.plot([left, right], [place, place], color=colour, linewidth=3, solid_capstyle="butt")
    for end, x, marker in ((low, left, "<"), (high, right, ">")):
        if end is None:
            axes.plot([x], [place], marker=marker, color=colour)
