"""Plots of a fit to serving results: one point a load point, by metric."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    log_axis,
    new_figure,
)

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8a6d00")
_MARKERS = ("o", "^", "s", "D", "v", "P", "X")
_OTHERS = ("others", QUIET, "o")
_MOST_POINTS = 40
_TOP = 0.98  # inches above the panels: title, a line of the legend, and what a panel is of
_LEAST_REACH, _MOST_REACH = 15.0, 100.0
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
    held_out = means[splits[0]] if splits else np.nan
    return means.assign(kind=means[by], held_out_ms=held_out, split=splits[0] if splits else "")


def serving_predicted_measured(means: pd.DataFrame) -> tuple[Figure, str]:
    """Measured against predicted TTFT, ITL and end-to-end time of every load point, before and after tuning."""
    kinds = _kinds(means["kind"])
    shown = [metric for metric in METRICS if (means["metric"] == metric).any()]
    columns, lines = _legend_shape(["nothing tuned", *kinds])
    top = _TOP + 0.2 * (lines - 1)
    figure, panels = new_figure(
        WIDE, 3.5 + top, (1, len(METRICS)), left=0.62, bottom=0.55, top=top, gap=(0.62, 0.6)
    )
    for axes, metric in zip(panels, shown, strict=False):
        _against(axes, means[means["metric"] == metric], kinds)
        axes.set_title(f"{METRICS[metric]} (ms)", loc="left", size=9, color=INK, pad=5)
        axes.set_xlabel("measured")
    panels[0].set_ylabel("predicted")
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    _mark(panels[0], "#777777", "o", "nothing tuned", hollow=True)
    for name, (colour, marker) in kinds.items():
        _mark(panels[0], colour, marker, name or "tuned", hollow=False)
    _legend(figure, panels[0], columns)
    points = len(means[_POINT].drop_duplicates())
    corner_note(figure, f"{points:,} load point{'s' if points != 1 else ''}")
    named = "" if list(kinds) == [""] else ", filled and coloured"
    return (
        figure,
        f"Means over the requests of a load point. Hollow: with nothing tuned to serving; tuned{named}.",
    )


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
            _mark(panels[0], colour, marker, _NAMES[stage], hollow=_HOLLOW[stage])

    _legend(figure, panels[0], len(errors))
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
    _dots(axes, place.to_numpy(), chosen, reach)

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


def _against(axes: Axes, rows: pd.DataFrame, kinds: _Kinds) -> None:
    times = rows[["measured_ms", "before_ms", "after_ms"]].to_numpy(dtype=np.float64)
    positive = times[np.isfinite(times) & (times > 0)]
    low, high = log_axis(axes, "x", positive.min(), positive.max())
    log_axis(axes, "y", positive.min(), positive.max())
    ends = np.array([low, high])
    axes.fill_between(
        ends, ends * (1 - TOLERANCE), ends * (1 + TOLERANCE), color=FAINT, linewidth=0
    )
    axes.plot(ends, ends, color=INK, linewidth=0.9)
    for kind, part in rows.groupby(rows["kind"].map(lambda name: _kind(name, kinds)), sort=False):
        colour, marker = kinds[str(kind)]
        style: dict[str, Any] = {"linestyle": "none", "marker": marker, "markersize": 5.5}
        axes.plot(part["measured_ms"], part["before_ms"], **style, **_face(colour, hollow=True))
        axes.plot(part["measured_ms"], part["after_ms"], **style, **_face(colour, hollow=False))


def _kinds(names: "pd.Series[str]") -> _Kinds:
    """Colour and marker by model or engine, the frequent ones first; what is beyond the colours is ``others``."""
    common = names.value_counts().index.tolist()
    looks = zip(_COLOURS, _MARKERS, strict=True)
    found = dict(zip(common, looks, strict=False))
    return found if len(common) <= len(_COLOURS) else {**found, _OTHERS[0]: _OTHERS[1:]}


def _kind(name: str, kinds: _Kinds) -> str:
    return name if name in kinds else _OTHERS[0]


def _worst(means: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The load points in the table's order, at most the forty worst after tuning, and how many that leaves out."""
    size = np.abs(_errors(means, "after_ms"))
    by_point = means[_POINT].assign(size=size).groupby(_POINT, sort=False)["size"].max()
    kept = by_point.nlargest(_MOST_POINTS).index if len(by_point) > _MOST_POINTS else by_point.index
    points = by_point[by_point.index.isin(kept)].index.to_frame(index=False)
    return points, len(by_point) - len(points)


def _labels(points: pd.DataFrame) -> list[str]:
    """Model and degree; of several load points of one run also the stage, or else the line."""
    several = points.groupby("run")["line"].transform("size") > 1
    labels = []
    for row, more in zip(points.to_dict("records"), several, strict=True):
        which = f"stage {row['stage']}" if row["stage"] else f"line {row['line']}"
        labels.append(
            f"{drawable(row['model'])} TP{row['tp']:g}" + (f"  {drawable(which)}" if more else "")
        )
    repeated = pd.Series(labels).duplicated(keep=False)
    lines = points["line"].tolist()
    return [
        f"{label}  line {line}" if again else label
        for label, line, again in zip(labels, lines, repeated, strict=True)
    ]


def _errors(means: pd.DataFrame, column: str) -> Floats:
    percent: Floats = (means[column] / means["measured_ms"] - 1).to_numpy(dtype=np.float64) * 100
    return percent


def _reach(errors: Floats) -> float:
    largest = float(np.abs(errors).max(initial=0.0)) * 1.08
    return min(max(largest, _LEAST_REACH), _MOST_REACH)


def _dots(axes: Axes, place: Floats, errors: dict[str, Floats], reach: float) -> None:
    """A line from nothing tuned to tuned, and a mark of each; errors beyond the axis stand at its edge."""
    inside = {
        stage: np.clip(values, -0.985 * reach, 0.985 * reach) for stage, values in errors.items()
    }
    axes.hlines(
        place, inside["before"], inside["after"], color="#c4c4c4", linewidth=1.6, zorder=1.5
    )
    for stage, values in inside.items():
        colour, marker = STAGES[stage]
        face = _face(colour, hollow=_HOLLOW[stage])
        axes.plot(values, place, linestyle="none", marker=marker, markersize=5.5, **face)


def _face(colour: str, *, hollow: bool) -> dict[str, Any]:
    if hollow:
        return {
            "markerfacecolor": "none",
            "markeredgecolor": colour,
            "markeredgewidth": 1.2,
            "zorder": 2.5,
        }
    return {"markerfacecolor": colour, "markeredgewidth": 0, "zorder": 3, "alpha": 0.9}


def _mark(axes: Axes, colour: str, marker: str, label: str, *, hollow: bool) -> None:
    face = _face(colour, hollow=hollow)
    axes.plot(
        [], [], linestyle="none", marker=marker, markersize=5.5, label=drawable(label), **face
    )


def _legend_shape(labels: Sequence[str]) -> tuple[int, int]:
    """How many columns of the longest label fit under the title, and how many lines they make."""
    longest = max(len(drawable(label)) for label in labels)
    columns = min(max(int(WIDE / (0.55 + 0.07 * longest)), 1), len(labels))
    return columns, -(-len(labels) // columns)


def _legend(figure: Figure, axes: Axes, columns: int) -> None:
    """One legend for all panels, below the title."""
    handles, labels = axes.get_legend_handles_labels()
    top = 1 - 0.36 / figure.get_figheight()
    across = 0.1 / figure.get_figwidth()
    figure.legend(
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=(across, top),
        ncols=columns,
        columnspacing=1.3,
    )
