"""Plots of a fit to serving results: one point a load point, by metric."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from calibrate.report.equality import equality_axes
from calibrate.report.served_marks import dots, legend, mark
from calibrate.report.serving_tables import METRICS
from calibrate.report.style import (
    FAINT,
    INK,
    QUIET,
    STAGES,
    TOLERANCE,
    WIDE,
    Floats,
    corner_note,
    drawable,
    finite,
    new_figure,
)

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8a6d00")
_MARKERS = ("o", "^", "s", "D", "v", "P", "X")
_OTHERS = ("others", QUIET, "o")
_MOST_POINTS = 40
_TOP = 0.98  # inches above the panels: title, a line of the legend, and what a panel is of
_LEAST_REACH = 15.0
_MOST_REACH = 100.0
_COLUMNS = {"before": "before_ms", "held out": "held_out_ms", "after": "after_ms"}
_NAMES = {"before": "nothing tuned", "held out": "held out", "after": "tuned"}
_UNSEEN = {
    "held_out_model_ms": " Held out: by a fit that saw none of that model.",
    "held_out_tp_ms": " Held out: by a fit that saw none of that TP.",
    "held_out_campaign_ms": " Held out: by a fit that saw none of that campaign.",
    "held_out_run_ms": " Held out: by a fit that did not see that run.",
    "held_out_folds_ms": " Held out: by a fit that did not see that run.",
}
_HOLLOW = {"before": True, "held out": True, "after": False}
_POINT = ["campaign", "line", "model", "tp", "engine", "dtype", "stage", "load", "run"]

_Kinds = dict[str, tuple[str, str]]


def mean_figures(served: pd.DataFrame) -> pd.DataFrame:
    """The means among the figures of ``serving.csv``, each with what it is ``kind`` of: its model, or its engine.

    ``held_out_ms`` is by the first kind of split that was made, which ``split`` names; NaN where there was none.
    """
    means = served[served["statistic"] == "mean"].reset_index(drop=True)
    by = "model" if means["model"].nunique() > 1 else "engine"
    splits = [str(name) for name in means if str(name).startswith("held_out_")]
    split = splits[0] if splits else ""
    held_out = means[split] if split else np.nan
    return means.assign(kind=means[by], held_out_ms=held_out, split=split)


def serving_predicted_measured(means: pd.DataFrame) -> tuple[Figure, str]:
    """Measured against predicted TTFT, ITL and end-to-end time of every load point, before and after tuning."""
    kinds = _kinds(means["kind"])
    columns, lines = _legend_shape(["nothing tuned", *kinds])
    top = _TOP + 0.2 * (lines - 1)
    shape = (1, len(METRICS))
    figure, panels = new_figure(
        WIDE, 3.5 + top, shape, left=0.62, bottom=0.55, top=top, gap=(0.62, 0.6)
    )

    shown = [metric for metric in METRICS if (means["metric"] == metric).any()]
    for axes, metric in zip(panels, shown, strict=False):
        _equality_panel(axes, means[means["metric"] == metric], kinds)
        axes.set_title(f"{METRICS[metric]} (ms)", loc="left", size=9, color=INK, pad=5)
        axes.set_xlabel("measured")
    panels[0].set_ylabel("predicted")
    for axes in panels[len(shown) :]:
        axes.set_visible(False)

    mark(panels[0], "#777777", "o", "nothing tuned", hollow=True)
    for name, (colour, marker) in kinds.items():
        mark(panels[0], colour, marker, name or "tuned", hollow=False)
    legend(figure, panels[0], columns)

    points = len(means[_POINT].drop_duplicates())
    corner_note(figure, f"{points:,} load point{'s' if points != 1 else ''}")
    one_unnamed = list(kinds) == [""]
    tuned = "tuned" if one_unnamed else "tuned, filled and coloured"
    caption = (
        f"Means over the requests of a load point. Hollow: with nothing tuned to serving; {tuned}."
    )
    return figure, caption


def serving_errors(means: pd.DataFrame) -> tuple[Figure, str]:
    """The signed error of every load point in each metric: with nothing tuned, tuned, and held out."""
    points, left_out = _worst(means)
    labels = _labels(points)
    errors = {stage: _errors(means, column) for stage, column in _COLUMNS.items()}

    longest = max(len(label) for label in labels)
    left = 0.35 + 0.066 * longest
    height = 0.55 + _TOP + 0.235 * max(len(points), 3)
    shape = (1, len(METRICS))
    figure, panels = new_figure(
        WIDE, height, shape, left=left, bottom=0.55, top=_TOP, gap=(0.32, 0.6)
    )

    for axes, (metric, name) in zip(panels, METRICS.items(), strict=True):
        rows = means[means["metric"] == metric]
        _error_panel(axes, rows, points, errors)
        axes.set_title(name, loc="left", size=9, color=INK, pad=5)
        shown = labels if axes is panels[0] else [""] * len(points)
        axes.set_yticks(range(len(points)), shown)

    for stage, values in errors.items():
        if np.isfinite(values).any():
            colour, marker = STAGES[stage]
            mark(panels[0], colour, marker, _NAMES[stage], hollow=_HOLLOW[stage])

    legend(figure, panels[0], len(errors))
    split = means["split"].iloc[0]
    return figure, _errors_caption(split, errors, len(points), left_out)


def _error_panel(
    axes: Axes, rows: pd.DataFrame, points: pd.DataFrame, errors: dict[str, Floats]
) -> None:
    """The errors of one metric, a line for every load point."""
    tolerance = TOLERANCE * 100
    axes.axvspan(-tolerance, tolerance, color=FAINT, alpha=0.45, linewidth=0)
    axes.axvline(0.0, color=INK, linewidth=0.9)

    chosen = {stage: values[rows.index] for stage, values in errors.items()}
    known = [finite(values) for values in chosen.values()]
    reach = _reach(np.concatenate(known))

    places = points.assign(place=range(len(points)))
    place = rows[_POINT].merge(places, how="left")["place"]
    _error_dots(axes, place.to_numpy(), chosen, reach)

    axes.set_xlabel("error (%)")
    axes.set_xlim(-reach, reach)
    axes.set_ylim(len(points) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _errors_caption(split: str, errors: dict[str, Floats], shown: int, left_out: int) -> str:
    caption = "Left of zero: predicted too fast. Shaded: errors of up to 10%."
    caption += _UNSEEN.get(split, "")

    beyond = [(finite(values) > _MOST_REACH).any() for values in errors.values()]
    if any(beyond):
        caption += f" What lies beyond {_MOST_REACH:.0f}% is drawn at the edge."

    if left_out:
        caption += f" The worst {shown} of {shown + left_out} load points are shown."

    return caption


def _equality_panel(axes: Axes, rows: pd.DataFrame, kinds: _Kinds) -> None:
    """Measured against predicted times of one metric, with the line of equality and its band."""
    columns = ["measured_ms", "before_ms", "after_ms"]
    equality_axes(axes, rows[columns].to_numpy(dtype=np.float64))
    kind_of = rows["kind"].map(lambda name: _kind(name, kinds))
    for kind, part in rows.groupby(kind_of, sort=False):
        colour, marker = kinds[str(kind)]
        measured = part["measured_ms"]
        dots(axes, measured, part["before_ms"], colour, marker, hollow=True)
        dots(axes, measured, part["after_ms"], colour, marker, hollow=False)


def _kinds(names: "pd.Series[str]") -> _Kinds:
    """Colour and marker by model or engine, the frequent ones first; what is beyond the colours is ``others``."""
    common = names.value_counts().index.tolist()
    looks = zip(_COLOURS, _MARKERS, strict=True)
    kinds = dict(zip(common, looks, strict=False))
    if len(common) > len(_COLOURS):
        name, colour, marker = _OTHERS
        kinds[name] = (colour, marker)
    return kinds


def _kind(name: str, kinds: _Kinds) -> str:
    return name if name in kinds else _OTHERS[0]


def _worst(means: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The load points in the table's order, at most the forty worst after tuning, and how many that leaves out."""
    size = np.abs(_errors(means, "after_ms"))
    by_point = means[_POINT].assign(size=size).groupby(_POINT, sort=False)
    worst_error = by_point["size"].max()
    every_point = worst_error.index
    kept = every_point
    if len(every_point) > _MOST_POINTS:
        kept = worst_error.nlargest(_MOST_POINTS).index

    chosen = every_point[every_point.isin(kept)]
    points = chosen.to_frame(index=False)
    return points, len(every_point) - len(points)


def _labels(points: pd.DataFrame) -> list[str]:
    """Model and degree; of several load points of one run also the stage, or else the line."""
    several = points.groupby("run")["line"].transform("size") > 1
    labels = []
    for row, one_of_several in zip(points.to_dict("records"), several, strict=True):
        label = f"{drawable(row['model'])} TP{row['tp']:g}"
        if one_of_several:
            place = f"stage {row['stage']}" if row["stage"] else f"line {row['line']}"
            label += f"  {drawable(place)}"
        labels.append(label)

    repeated = pd.Series(labels).duplicated(keep=False)
    unique = []
    for label, line, again in zip(labels, points["line"].tolist(), repeated, strict=True):
        unique.append(f"{label}  line {line}" if again else label)
    return unique


def _errors(means: pd.DataFrame, column: str) -> Floats:
    """In percent, shape (n,)."""
    errors = means[column] / means["measured_ms"] - 1
    percent: Floats = errors.to_numpy(dtype=np.float64) * 100
    return percent


def _reach(errors: Floats) -> float:
    largest = float(np.abs(errors).max(initial=0.0)) * 1.08
    return min(max(largest, _LEAST_REACH), _MOST_REACH)


def _error_dots(axes: Axes, place: Floats, errors: dict[str, Floats], reach: float) -> None:
    """A line from nothing tuned to tuned, and a mark of each; errors beyond the axis stand at its edge."""
    edge = 0.985 * reach
    inside = {stage: np.clip(values, -edge, edge) for stage, values in errors.items()}
    before = inside["before"]
    after = inside["after"]
    axes.hlines(place, before, after, color="#c4c4c4", linewidth=1.6, zorder=1.5)
    for stage, values in inside.items():
        colour, marker = STAGES[stage]
        dots(axes, values, place, colour, marker, hollow=_HOLLOW[stage])


def _legend_shape(labels: Sequence[str]) -> tuple[int, int]:
    """How many columns of the longest label fit under the title, and how many lines they make."""
    longest = max(len(drawable(label)) for label in labels)
    width = 0.55 + 0.07 * longest
    fitting = max(int(WIDE / width), 1)
    columns = min(fitting, len(labels))
    lines = math.ceil(len(labels) / columns)
    return columns, lines
