"""Plots with one point a measured step: predicted against measured, and residuals."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from calibrate.outcome.result import FitResult
from calibrate.report.equality import equality_axes
from calibrate.report.style import (
    FAINT,
    INK,
    NARROW,
    PHASES,
    QUIET,
    TOLERANCE,
    WIDE,
    Floats,
    corner_note,
    finite,
    legend_above,
    log_axis,
    new_figure,
    phase_key,
    phases_of,
    points,
    short_number,
    thinned,
    thinning_note,
)
from calibrate.report.texts import percent, signed_percent
from sim.units import US_PER_MS

_COUNTS = {
    "new_tokens": "new tokens per step",
    "batch": "requests per step",
    "context_tokens": "context tokens per request",
}
_WIDE_RATIOS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
_CALM_RATIOS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.7)
_LARGEST_LOG = np.log(50.0)
_MOST_VALUES = 12
_BEFORE = "#b8b8b8"


def predicted_measured(result: FitResult, frame: pd.DataFrame) -> tuple[Figure, str]:
    """Measured against predicted time of every step, before and after the fit."""
    figure, panels = new_figure(NARROW, 5.4, top=0.85)
    axes = panels[0]
    shown = thinned(frame)

    _equality_axes(axes, frame)
    measured = _milliseconds(shown, "measured_us")
    before = _milliseconds(shown, "before_us")
    points(axes, measured, before, _BEFORE, "o", alpha=0.45, markersize=3)
    key: dict[str, Any] = {"linestyle": "none", "marker": "o", "color": _BEFORE, "markersize": 5}
    axes.plot([], [], **key, label="before the fit")

    for phase in phases_of(shown):
        _phase_predictions(axes, shown[shown["phase"] == phase], phase)

    axes.set_xlabel("measured step time (ms)")
    axes.set_ylabel("predicted step time (ms)")
    legend_above(axes, 3)

    error_before = percent(result.metrics.before["all"].mape)
    error_after = percent(result.metrics.after["all"].mape)
    corner_note(figure, f"mean error {error_before} → {error_after}")

    caption = (
        "On the line, prediction equals measurement; the grey band is ±10%. Upright bars: 90% bands of the "
        "predictions. Grey points: the configuration before."
    )
    return figure, caption + thinning_note(frame)


def _equality_axes(axes: Axes, frame: pd.DataFrame) -> None:
    """Equal logarithmic axes around all times, with the line of equality and its band."""
    columns = ["measured_us", "before_us", "after_us"]
    times_ms = frame[columns].to_numpy(dtype=np.float64) / US_PER_MS
    band, line = equality_axes(axes, times_ms)
    band.set_label("±10%")
    line.set_label("predicted = measured")


def _phase_predictions(axes: Axes, rows: pd.DataFrame, phase: str) -> None:
    """The steps of one phase after the fit, each with the band of its prediction."""
    colour, marker = PHASES[phase]
    measured = _milliseconds(rows, "measured_us")
    below = _milliseconds(rows, "low_us")
    above = _milliseconds(rows, "high_us")

    axes.vlines(measured, below, above, colors=colour, linewidth=0.7, alpha=0.13, rasterized=True)
    points(axes, measured, _milliseconds(rows, "after_us"), colour, marker)
    phase_key(axes, phase, f"{phase}, after")


def _milliseconds(rows: pd.DataFrame, column: str) -> Floats:
    times_us: Floats = rows[column].to_numpy(dtype=np.float64)
    return times_us / US_PER_MS


def residuals(_: FitResult, frame: pd.DataFrame) -> tuple[Figure, str]:
    """The error of every step against four things it may depend on."""
    figure, panels = new_figure(WIDE, 7.4, (2, 2), top=0.6, left=0.85, gap=(0.9, 0.65))
    rows = frame[np.isfinite(frame["residual"])]

    for axes, (column, label) in zip(panels, _COUNTS.items(), strict=False):
        _against(axes, rows, column)
        axes.set_xlabel(label)
    _by_tp(panels[-1], rows)

    ratio = _ratio(rows)
    for axes in panels:
        _ratio_axis(axes, ratio)

    key_panel = panels[1]
    for phase in phases_of(rows):
        phase_key(key_panel, phase, phase)
    key_panel.plot([], [], color=QUIET, linewidth=1.8, label="median")
    legend_above(key_panel, 4)

    caption = (
        "A structure that runs with an axis is a term the model lacks; scatter without structure is noise. Above zero "
        "the prediction is too slow. The axis is logarithmic in predicted/measured; the grey band is ±10%."
    )
    return figure, caption + thinning_note(rows)


def _against(axes: Axes, rows: pd.DataFrame, column: str) -> None:
    """Errors by phase along a count that may be zero; zeros stand at the left of a logarithmic axis."""
    at_zero = _count_axis(axes, rows[column].to_numpy(dtype=np.float64))
    shown = thinned(rows)
    x = _places(shown[column], at_zero) * np.exp(_jitter(len(shown)) * 0.05)
    ratio = _ratio(shown)

    phases = phases_of(rows)
    for phase in phases:
        colour, marker = PHASES[phase]
        drawn = (shown["phase"] == phase).to_numpy()
        points(axes, x[drawn], ratio[drawn], colour, marker, alpha=0.4)

    for phase in phases:
        colour, _ = PHASES[phase]
        counted = rows[rows["phase"] == phase]
        _medians(axes, _places(counted[column], at_zero), _ratio(counted), colour)


def _places(counts: "pd.Series[float]", at_zero: float) -> Floats:
    """Where counts stand on a logarithmic axis, those of 0 at the place of zero."""
    places = counts.where(counts > 0, at_zero)
    return np.asarray(places, dtype=np.float64)


def _count_axis(axes: Axes, counts: Floats) -> float:
    """A logarithmic axis for counts; returns the place of zero on it."""
    positive = counts[counts > 0]
    smallest = float(positive.min()) if len(positive) else 1.0
    largest = float(positive.max()) if len(positive) else 1.0
    at_zero = smallest / 4

    if len(positive) == len(counts):
        log_axis(axes, "x", smallest, largest)
    else:
        log_axis(axes, "x", at_zero, largest)
        _tick_zero(axes, at_zero, smallest)
    return at_zero


def _tick_zero(axes: Axes, at_zero: float, smallest: float) -> None:
    above = [tick for tick in axes.get_xticks() if tick >= smallest / 1.2]
    ticks = above or [smallest]
    labels = [short_number(tick) for tick in ticks]
    axes.xaxis.set_major_locator(FixedLocator([at_zero, *ticks]))
    axes.xaxis.set_major_formatter(FixedFormatter(["0", *labels]))


def _by_tp(axes: Axes, rows: pd.DataFrame) -> None:
    """Errors by tensor parallelism, phases side by side, with the median of each."""
    shown = thinned(rows)
    tps = np.unique(rows["tp"].to_numpy(dtype=np.float64))
    phases = phases_of(rows)
    middle = (len(phases) - 1) / 2

    for order, phase in enumerate(phases):
        offset = (order - middle) * 0.26
        drawn = shown[shown["phase"] == phase]
        counted = rows[rows["phase"] == phase]
        _phase_by_tp(axes, phase, drawn, tps, offset)
        _phase_medians(axes, phase, counted, tps, offset)

    axes.set_xlim(-0.6, len(tps) - 0.4)
    axes.set_xticks(range(len(tps)), [f"{tp:g}" for tp in tps])
    axes.set_xlabel("tensor parallelism (GPUs)")


def _phase_by_tp(axes: Axes, phase: str, rows: pd.DataFrame, tps: Floats, offset: float) -> None:
    """The errors of one phase, ``offset`` from the middle of each degree's column."""
    colour, marker = PHASES[phase]
    place = np.searchsorted(tps, rows["tp"].to_numpy())
    x = place + offset + _jitter(len(rows)) * 0.09
    points(axes, x, _ratio(rows), colour, marker, alpha=0.4)


def _phase_medians(axes: Axes, phase: str, rows: pd.DataFrame, tps: Floats, offset: float) -> None:
    """A bar at the median of each degree."""
    colour, _ = PHASES[phase]
    ratios = pd.Series(_ratio(rows), index=rows["tp"])
    medians = ratios.groupby(level=0).median()
    places = np.searchsorted(tps, medians.index.to_numpy())
    for place, median in zip(places, medians, strict=True):
        _median_bar(axes, float(place) + offset, float(median), colour)


def _median_bar(axes: Axes, middle: float, median: float, colour: str) -> None:
    ends = [middle - 0.12, middle + 0.12]
    axes.plot(ends, [median, median], color="white", linewidth=4, solid_capstyle="butt")
    axes.plot(ends, [median, median], color=colour, linewidth=2.2, solid_capstyle="butt")


def _medians(axes: Axes, x: Floats, ratio: Floats, colour: str) -> None:
    """A line through the medians of the errors along x."""
    edges = np.unique(x)
    if len(edges) > _MOST_VALUES:
        shares = np.linspace(0, 1, _MOST_VALUES)
        edges = np.unique(np.quantile(x, shares))
    bins = np.searchsorted(edges, x, side="right")

    middles = []
    medians = []
    for number in np.unique(bins):
        inside = bins == number
        middles.append(float(np.median(x[inside])))
        medians.append(float(np.median(ratio[inside])))

    axes.plot(middles, medians, color="white", linewidth=3.6, marker="o", markersize=4.5)
    axes.plot(middles, medians, color=colour, linewidth=1.8, marker="o", markersize=3)


def _ratio_axis(axes: Axes, ratio: Floats) -> None:
    """A logarithmic axis around 1, as wide as the errors, marked in percent."""
    logs = np.abs(np.log(finite(ratio)))
    largest = float(logs.max(initial=0.0))
    reach = max(largest * 1.08, np.log(1.25))
    axes.set_yscale("log")
    axes.set_ylim(float(np.exp(-reach)), float(np.exp(reach)))

    ticks = _CALM_RATIOS if reach < np.log(2) else _WIDE_RATIOS
    labels = [signed_percent(tick - 1).replace(".0%", "%") for tick in ticks]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FixedFormatter(labels))
    axes.yaxis.set_minor_locator(NullLocator())

    axes.axhspan(1 - TOLERANCE, 1 + TOLERANCE, color=FAINT, alpha=0.6, linewidth=0, zorder=0.5)
    axes.axhline(1.0, color=INK, linewidth=0.9, zorder=0.6)
    axes.set_ylabel("predicted / measured − 1")


def _ratio(rows: pd.DataFrame) -> Floats:
    """Predicted over measured, within what an axis can show."""
    logs = rows["residual"].to_numpy(dtype=np.float64)
    shown = np.clip(logs, -_LARGEST_LOG, _LARGEST_LOG)
    ratio: Floats = np.exp(shown)
    return ratio


def _jitter(count: int) -> Floats:
    return np.random.default_rng(0).uniform(-1, 1, count)
