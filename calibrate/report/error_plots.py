"""Plots of errors as a whole: their distribution, by slice, and how the starts of the fit ended."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import ndtri

from calibrate.outcome.result import FitResult
from calibrate.report.style import (
    FAINT,
    INK,
    NARROW,
    QUIET,
    STAGES,
    TOLERANCE,
    WIDE,
    Floats,
    drawable,
    finite,
    legend_above,
    log_axis,
    new_figure,
)
from calibrate.report.texts import is_known
from calibrate.trust.metrics import Errors

_SMALLEST_PERCENT = 0.01
_DRAWN_QUANTILES = 400
_MOST_SLICES = 40
_HEADINGS = {
    "phase": "by phase",
    "model": "by model",
    "tp": "by TP",
    "campaign": "by campaign",
    "node": "by node",
    "layers": "by kinds of layers",
    "dtype": "by weight type",
    "ep": "by GPUs that share experts",
}
_SLICE_SIZES: dict[str, dict[str, Any]] = {
    "before": {"markersize": 7, "markeredgewidth": 0},
    "after": {"markersize": 5.5, "markeredgewidth": 0, "zorder": 3},
    "held out": {"markersize": 9, "markerfacecolor": "none", "markeredgewidth": 1.8, "zorder": 2.5},
}
_COLUMN = {"before": "before_us", "after": "after_us", "held out": "held_out_us"}


def residual_distribution(_: FitResult, frame: pd.DataFrame) -> tuple[Figure, str]:
    """Histogram of log residuals before and after, and a Q-Q plot of those after against the normal law."""
    figure, (left, right) = new_figure(WIDE, 4.0, (1, 2), top=0.65, gap=(0.9, 0.6))
    logs = {stage: _log_ratio(frame, stage) for stage in ("before", "after")}
    reach = max(
        0.15, *(float(np.quantile(np.abs(values), 0.99)) for values in logs.values() if len(values))
    )
    edges = np.linspace(-reach, reach, 50)
    for stage, values in logs.items():
        _histogram(left, np.clip(values, -reach, reach), edges, stage)
    left.axvline(0.0, color=INK, linewidth=0.9)
    left.set_xlim(-reach, reach)
    left.set_xlabel("ln(predicted / measured)")
    left.set_ylabel("steps")
    legend_above(left, 2)
    _qq(right, logs["after"])
    return figure, (
        "Left: narrow and centred on zero is good; the outermost bars hold all that lies beyond. "
        "Right: on the line, the errors are spread like noise; ends that bend away are outliers."
    )


def error_cdf(_: FitResult, frame: pd.DataFrame) -> tuple[Figure, str]:
    """The share of steps that are predicted to within a given error."""
    figure, (axes,) = new_figure(NARROW, 5.4, top=0.85)
    errors = {stage: _absolute_percent(frame, stage) for stage in STAGES if _COLUMN[stage] in frame}
    errors = {stage: values for stage, values in errors.items() if len(values)}
    everything = np.concatenate(list(errors.values()))
    low = max(float(np.quantile(everything, 0.01)), _SMALLEST_PERCENT)
    high = max(float(everything.max()), 20.0)
    log_axis(axes, "x", min(low, 5.0), high)
    for stage, values in errors.items():
        colour, marker = STAGES[stage]
        level = np.linspace(0, 1, min(len(values), _DRAWN_QUANTILES) + 1)
        median = float(np.median(values))
        axes.plot(np.quantile(values, level), level * 100, color=colour, linewidth=1.8, zorder=2.5)
        axes.plot(
            [median], [50], linestyle="none", marker=marker, color=colour, markersize=7, zorder=3
        )
        axes.plot(
            [], [], color=colour, marker=marker, linewidth=1.8, label=f"{stage} {_digits(median)}%"
        )
    axes.axvspan(axes.get_xlim()[0], TOLERANCE * 100, color=FAINT, alpha=0.45, linewidth=0)
    axes.axhline(50, color=QUIET, linewidth=0.8, linestyle=":")
    axes.text(0.985, 51, "medians", transform=axes.get_yaxis_transform(), ha="right", color=QUIET)
    axes.set_ylim(0, 101)
    axes.set_xlabel("absolute relative error (%)")
    axes.set_ylabel("share of steps with at most that error (%)")
    legend_above(axes, 3)
    return figure, "Further left is better. Marks: medians. Shaded: errors of up to 10%."


def error_by_slice(result: FitResult, _: pd.DataFrame) -> tuple[Figure, str]:
    """Mean error before, after and held out for every phase, model, TP and campaign."""
    metrics = result.metrics
    stages = {
        "before": metrics.before,
        "after": metrics.after,
        "held out": metrics.held_out.get("folds", {}),
    }
    names = _slices_shown(metrics.after)
    rows, headings = _slice_rows(names)
    labels = {
        name: f"{drawable(name.partition(':')[2] or 'all steps')}  ({metrics.after[name].n:,})"
        for name in names
    }
    left = 0.5 + 0.068 * max(len(label) for label in labels.values())
    count = len(rows) + len(headings)
    figure, (axes,) = new_figure(WIDE, 1.25 + 0.235 * count, left=left, top=0.7)
    for name, place in rows.items():
        _dumbbell(axes, place, {stage: _mape(errors, name) for stage, errors in stages.items()})
    for heading, place in headings.items():
        _heading(axes, place, heading)
    axes.set_yticks(list(rows.values()), [labels[name] for name in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_xlim(0, max(axes.get_xlim()[1], 12.0))
    axes.axvspan(0, TOLERANCE * 100, color=FAINT, alpha=0.45, linewidth=0)
    axes.set_xlabel("mean absolute relative error (%)")
    _stage_legend(axes, [stage for stage, errors in stages.items() if errors])
    caption = (
        "In brackets: steps. Shaded: mean errors of up to 10%. "
        "Held out: by fits that saw no step of the same run."
    )
    if len(names) < len(metrics.after):
        caption += f" The worst {len(names)} of {len(metrics.after)} slices are shown."
    return figure, caption


def _log_ratio(frame: pd.DataFrame, stage: str) -> Floats:
    ratio = (frame[_COLUMN[stage]] / frame["measured_us"]).to_numpy(dtype=np.float64)
    logs: Floats = np.log(ratio[np.isfinite(ratio) & (ratio > 0)])
    return logs


def _absolute_percent(frame: pd.DataFrame, stage: str) -> Floats:
    relative = (frame[_COLUMN[stage]] / frame["measured_us"] - 1).abs().to_numpy(dtype=np.float64)
    percent: Floats = np.maximum(finite(relative) * 100, _SMALLEST_PERCENT)
    return percent


def _histogram(axes: Axes, values: Floats, edges: Floats, stage: str) -> None:
    counts, _ = np.histogram(values, edges)
    colour = STAGES[stage][0]
    label = f"{stage}: median {_signed(values)}, σ {values.std():.3f}" if len(values) else stage
    axes.stairs(counts, edges, fill=True, color=colour, alpha=0.35 if stage == "before" else 0.2)
    axes.stairs(counts, edges, color=colour, linewidth=1.4, label=label)


def _signed(values: Floats) -> str:
    return f"{float(np.median(values)):+.3f}".replace("-", "−")


def _qq(axes: Axes, values: Floats) -> None:
    count = min(len(values), _DRAWN_QUANTILES)
    level = (np.arange(count) + 0.5) / max(count, 1)
    expected = ndtri(level)
    found = np.quantile(values, level) if count else values
    centre, scale = _robust_normal(values)
    ends = np.array([-3.2, 3.2])
    axes.plot(
        ends,
        centre + scale * ends,
        color=INK,
        linewidth=0.9,
        label=f"normal, σ = {scale:.3f} (middle half)",
    )
    axes.plot(
        expected, found, linestyle="none", marker="o", markersize=3, color="#0072B2", label="after"
    )
    axes.set_xlim(-3.2, 3.2)
    axes.set_xlabel("normal quantile (σ)")
    axes.set_ylabel("ln(predicted / measured)")
    legend_above(axes, 2)


def _robust_normal(values: Floats) -> tuple[float, float]:
    """Mean and standard deviation of the normal law through the quartiles."""
    if not len(values):
        return 0.0, 0.0
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(middle), float((high - low) / (2 * ndtri(0.75)))


def _slices_shown(errors: Mapping[str, Errors]) -> list[str]:
    """Every slice, or the worst forty where there are more."""
    worst = sorted(
        errors, key=lambda name: (name != "all", -float(np.nan_to_num(errors[name].mape)))
    )[:_MOST_SLICES]
    return [name for name in errors if name in set(worst)]


def _heading(axes: Axes, place: int, text: str) -> None:
    """A heading among the tick labels, aligned with them."""
    where: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
    axes.annotate(
        text,
        (0.0, place),
        (-3.5, 0.0),
        **where,
        ha="right",
        va="center",
        color=QUIET,
        weight="bold",
        fontsize=8.5,
    )


def _slice_rows(names: Sequence[str]) -> tuple[dict[str, int], dict[str, int]]:
    """The place of every slice, from the top down, and of the heading over each kind of slice."""
    rows: dict[str, int] = {}
    headings: dict[str, int] = {}
    for name in names:
        kind, colon, _ = name.partition(":")
        if colon and _HEADINGS[kind] not in headings:
            headings[_HEADINGS[kind]] = len(rows) + len(headings)
        rows[name] = len(rows) + len(headings)
    return rows, headings


def _mape(errors: Mapping[str, Errors], name: str) -> float | None:
    """The mean error of a slice in percent; None where it is not known."""
    value = errors[name].mape if name in errors else None
    return value * 100 if is_known(value) else None


def _dumbbell(axes: Axes, place: int, values: Mapping[str, float | None]) -> None:
    known = {stage: value for stage, value in values.items() if value is not None}
    if known:
        axes.plot(
            [min(known.values()), max(known.values())],
            [place, place],
            color="#c4c4c4",
            linewidth=2,
            zorder=1.5,
        )
    for stage, value in known.items():
        axes.plot([value], [place], **_slice_mark(stage))


def _slice_mark(stage: str) -> dict[str, Any]:
    colour, marker = STAGES[stage]
    return {"linestyle": "none", "color": colour, "marker": marker, **_SLICE_SIZES[stage]}


def _stage_legend(axes: Axes, stages: Sequence[str]) -> None:
    for stage in stages:
        axes.plot([], [], **_slice_mark(stage), label=stage)
    legend_above(axes, 3)


def _digits(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"
