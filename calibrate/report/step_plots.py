"""Plots with one point a measured step: predicted against measured, residuals, and the roofline."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from calibrate.outcome.result import FitResult
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
from sim.units import MEGA, US_PER_MS

_COUNTS = {
    "new_tokens": "new tokens per step",
    "batch": "requests per step",
    "context_tokens": "context tokens per request",
}
_WIDE_RATIOS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
_CALM_RATIOS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.7)
_LARGEST_LOG = np.log(50.0)
_MOST_VALUES = 12


def predicted_measured(result: FitResult, frame: pd.DataFrame) -> tuple[Figure, str]:
    """Measured against predicted time of every step, before and after the fit."""
    figure, panels = new_figure(NARROW, 5.4, top=0.85)
    axes = panels[0]
    shown = thinned(frame)

    _equality_axes(axes, frame)
    measured = _milliseconds(shown, "measured_us")
    before = _milliseconds(shown, "before_us")
    points(axes, measured, before, "#b8b8b8", "o", alpha=0.45, markersize=3)
    axes.plot(
        [], [], linestyle="none", marker="o", color="#b8b8b8", markersize=5, label="before the fit"
    )

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
    times = frame[columns].to_numpy(dtype=np.float64) / US_PER_MS
    positive = times[np.isfinite(times) & (times > 0)]
    shortest = positive.min()
    longest = positive.max()

    low, high = log_axis(axes, "x", shortest, longest)
    log_axis(axes, "y", shortest, longest)

    ends = np.array([low, high])
    lower = ends * (1 - TOLERANCE)
    upper = ends * (1 + TOLERANCE)
    axes.fill_between(ends, lower, upper, color=FAINT, linewidth=0, label="±10%")
    axes.plot(ends, ends, color=INK, linewidth=0.9, label="predicted = measured")


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
    for axes in panels:
        _ratio_axis(axes, _ratio(rows))
    for phase in phases_of(rows):
        phase_key(panels[1], phase, phase)
    panels[1].plot([], [], color=QUIET, linewidth=1.8, label="median")
    legend_above(panels[1], 4)
    caption = (
        "A structure that runs with an axis is a term the model lacks; scatter without structure is noise. Above zero "
        "the prediction is too slow. The axis is logarithmic in predicted/measured; the grey band is ±10%."
    )
    return figure, caption + thinning_note(rows)


def roofline(result: FitResult, frame: pd.DataFrame) -> tuple[Figure, str]:
    """Achieved FLOP/s of every step under the GPU's roofs and under the fitted ones."""
    figure, (axes,) = new_figure(NARROW, 4.8, top=0.85)
    shown = thinned(frame)
    intensity = (shown["flops"] / shown["bytes"]).to_numpy(dtype=np.float64)
    achieved = (shown["flops"] / shown["measured_us"] / MEGA / shown["tp"]).to_numpy(
        dtype=np.float64
    )
    good = np.isfinite(intensity) & np.isfinite(achieved) & (intensity > 0) & (achieved > 0)
    peak = result.peaks["TFlopsPeak"]
    bandwidth = result.peaks["BwPeakTBs"]
    ridge = peak / bandwidth
    low, high = log_axis(
        axes, "x", min([ridge / 10, *intensity[good]]), max([ridge * 10, *intensity[good]])
    )
    log_axis(axes, "y", min([peak / 100, *achieved[good]]), max([peak * 2, *achieved[good]]))
    x = np.geomspace(low, high, 200)
    axes.plot(x, np.minimum(peak, bandwidth * x), color=INK, linewidth=1.4)
    axes.plot(
        [], [], color=INK, linewidth=1.4, label=f"peak: {peak:,.4g} TFLOP/s, {bandwidth:.3g} TB/s"
    )
    _fitted_roof(axes, result, x)
    axes.plot([ridge, ridge], [axes.get_ylim()[0], peak], color=QUIET, linewidth=0.8, linestyle=":")
    axes.text(
        ridge * 1.08, axes.get_ylim()[0] * 1.3, f"ridge {ridge:,.0f} FLOP/byte", color=QUIET, size=8
    )
    for phase in phases_of(shown):
        rows = good & (shown["phase"] == phase).to_numpy()
        points(axes, intensity[rows], achieved[rows], *PHASES[phase])
        phase_key(axes, phase, phase)
    axes.set_xlabel("arithmetic intensity (FLOP/byte)")
    axes.set_ylabel("achieved TFLOP/s per GPU")
    legend_above(axes, 2)
    caption = (
        "Work counted at the least that any engine must do. Points on a roof are limited by it; points well below "
        "carry overhead; points above the peak cannot be right. Dashed: the roofs the fit found."
    )
    return figure, caption + thinning_note(frame)


def _fitted_roof(axes: Axes, result: FitResult, x: Floats) -> None:
    values = result.values
    if not {"BwEffConstant", "mfuPrefill"} <= set(values):
        return
    compute = result.peaks["TFlopsPeak"] * values["mfuPrefill"]
    memory = result.peaks["BwPeakTBs"] * values["BwEffConstant"]
    axes.plot(x, np.minimum(compute, memory * x), color=INK, linewidth=1.1, linestyle=(0, (4, 2.5)))
    label = f"fitted: {compute:,.4g} TFLOP/s, {memory:.3g} TB/s"
    axes.plot([], [], color=INK, linewidth=1.1, linestyle=(0, (4, 2.5)), label=label)


def _against(axes: Axes, rows: pd.DataFrame, column: str) -> None:
    """Errors by phase along a count that may be zero; zeros stand at the left of a logarithmic axis."""
    at_zero = _count_axis(axes, rows[column].to_numpy(dtype=np.float64))
    shown = thinned(rows)
    spread = np.exp(_jitter(len(shown)) * 0.05) * shown[column].where(shown[column] > 0, at_zero)
    for phase in phases_of(rows):
        drawn = (shown["phase"] == phase).to_numpy()
        points(axes, spread.to_numpy()[drawn], _ratio(shown)[drawn], *PHASES[phase], alpha=0.4)
    for phase in phases_of(rows):
        counted = rows[rows["phase"] == phase]
        place = counted[column].where(counted[column] > 0, at_zero).to_numpy(dtype=np.float64)
        _medians(axes, place, _ratio(counted), PHASES[phase][0])


def _count_axis(axes: Axes, counts: Floats) -> float:
    """A logarithmic axis for counts; returns the place of zero on it."""
    positive = counts[counts > 0]
    smallest, largest = (positive.min(), positive.max()) if len(positive) else (1.0, 1.0)
    at_zero = float(smallest / 4)
    has_zero = len(positive) < len(counts)
    log_axis(axes, "x", at_zero if has_zero else smallest, largest)
    if has_zero:
        _tick_zero(axes, at_zero, smallest)
    return at_zero


def _tick_zero(axes: Axes, at_zero: float, smallest: float) -> None:
    ticks = [tick for tick in axes.get_xticks() if tick >= smallest / 1.2] or [smallest]
    axes.xaxis.set_major_locator(FixedLocator([at_zero, *ticks]))
    axes.xaxis.set_major_formatter(FixedFormatter(["0", *(short_number(tick) for tick in ticks)]))


def _by_tp(axes: Axes, rows: pd.DataFrame) -> None:
    """Errors by tensor parallelism, phases side by side, with the median of each."""
    shown = thinned(rows)
    tps = np.unique(rows["tp"].to_numpy())
    phases = phases_of(rows)
    for order, phase in enumerate(phases):
        offset = (order - (len(phases) - 1) / 2) * 0.26
        drawn = shown[shown["phase"] == phase]
        x = np.searchsorted(tps, drawn["tp"].to_numpy()) + offset + _jitter(len(drawn)) * 0.09
        points(axes, x, _ratio(drawn), *PHASES[phase], alpha=0.4)
        counted = rows[rows["phase"] == phase]
        medians = pd.Series(_ratio(counted), index=counted["tp"]).groupby(level=0).median()
        for place, median in zip(
            np.searchsorted(tps, medians.index.to_numpy()), medians, strict=True
        ):
            _median_bar(axes, float(place) + offset, float(median), PHASES[phase][0])
    axes.set_xlim(-0.6, len(tps) - 0.4)
    axes.set_xticks(range(len(tps)), [f"{tp:g}" for tp in tps])
    axes.set_xlabel("tensor parallelism (GPUs)")


def _median_bar(axes: Axes, middle: float, median: float, colour: str) -> None:
    ends = [middle - 0.12, middle + 0.12]
    axes.plot(ends, [median, median], color="white", linewidth=4, solid_capstyle="butt")
    axes.plot(ends, [median, median], color=colour, linewidth=2.2, solid_capstyle="butt")


def _medians(axes: Axes, x: Floats, ratio: Floats, colour: str) -> None:
    """A line through the medians of the errors along x."""
    values = np.unique(x)
    few = (
        values
        if len(values) <= _MOST_VALUES
        else np.unique(np.quantile(x, np.linspace(0, 1, _MOST_VALUES)))
    )
    bins = np.searchsorted(few, x, side="right")
    used = np.unique(bins)
    middle = [float(np.median(x[bins == which])) for which in used]
    median = [float(np.median(ratio[bins == which])) for which in used]
    axes.plot(middle, median, color="white", linewidth=3.6, marker="o", markersize=4.5)
    axes.plot(middle, median, color=colour, linewidth=1.8, marker="o", markersize=3)


def _ratio_axis(axes: Axes, ratio: Floats) -> None:
    reach = max(float(np.abs(np.log(finite(ratio))).max(initial=0.0)) * 1.08, np.log(1.25))
    axes.set_yscale("log")
    axes.set_ylim(float(np.exp(-reach)), float(np.exp(reach)))
    chosen = _CALM_RATIOS if reach < np.log(2) else _WIDE_RATIOS
    axes.yaxis.set_major_locator(FixedLocator(chosen))
    axes.yaxis.set_major_formatter(
        FixedFormatter([signed_percent(r - 1).replace(".0%", "%") for r in chosen])
    )
    axes.yaxis.set_minor_locator(NullLocator())
    axes.axhspan(1 - TOLERANCE, 1 + TOLERANCE, color=FAINT, alpha=0.6, linewidth=0, zorder=0.5)
    axes.axhline(1.0, color=INK, linewidth=0.9, zorder=0.6)
    axes.set_ylabel("predicted / measured − 1")


def _ratio(rows: pd.DataFrame) -> Floats:
    """Predicted over measured, within what an axis can show."""
    ratio: Floats = np.exp(
        np.clip(rows["residual"].to_numpy(dtype=np.float64), -_LARGEST_LOG, _LARGEST_LOG)
    )
    return ratio


def _jitter(count: int) -> Floats:
    return np.random.default_rng(0).uniform(-1, 1, count)
