"""Pictures of the page: errors by data set and model, and predictions of models left out beside measurements."""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from benchmarks.accuracy.evaluation import MODELS, TREATMENTS, Evaluation
from benchmarks.accuracy.serving import ServingRow
from calibrate.cli import console
from calibrate.report.style import (
    FAINT,
    INK,
    PHASES,
    QUIET,
    STAGES,
    TOLERANCE,
    drawable,
    legend_above,
    log_axis,
    log_ticks,
    new_figure,
    phase_key,
    phases_of,
    points,
    save,
)

_WIDTH = 8.6
_MARKS: dict[str, dict[str, Any]] = {  # colours of Okabe and Ito
    "guide": {"color": STAGES["before"][0], "marker": "o", "markersize": 6.5},
    "fitted": {"color": INK, "marker": "D", "markersize": 5.0},
    "model": {"color": "#0072B2", "marker": "s", "markersize": 5.5},
    "tp": {"color": "#D55E00", "marker": "^", "markersize": 6.5},
}
_BARE: dict[str, Any] = {"linestyle": "none", "markeredgewidth": 0}
# One a treatment, so that no mark hides another
_LANES = dict(zip(_MARKS, (-0.27, -0.09, 0.09, 0.27), strict=True))
_NOISE: dict[str, Any] = {"color": "#009E73", "linewidth": 2.2}
_ROW_INCHES, _LETTER_INCHES = 0.46, 0.065
_LEAST_PERCENT = 0.1
_SERVED_BY = "roofline-v3"


def draw(
    evaluations: Sequence[Evaluation],
    floor: Mapping[str, float],
    serving: Sequence[ServingRow],
    folder: Path,
) -> list[str]:
    """Write ``accuracy-errors.png``, ``-steps.png`` and ``-serving.png``; return the names of what there is data for.

    ``floor`` is the deviation of replicates by data set.
    """
    own = [one for one in evaluations if one.contender.label in MODELS and one.errors]
    if not own:
        return []
    drawn = [
        _save(
            "accuracy-errors", "Mean error of step times", lambda: (_errors(own, floor), ""), folder
        )
    ]
    compared = [one for one in own if one.contender.label in MODELS[:2] and one.data == own[0].data]
    if all("model" in one.errors for one in compared):
        title = f"Steps of {own[0].data.name}, predicted by a fit that has not seen their model"
        drawn.append(_save("accuracy-steps", title, lambda: (_steps(compared), ""), folder))
    if served := [row for row in serving if row.latency_model == _SERVED_BY]:
        title = f"Mean error of serving results, {_SERVED_BY}"
        drawn.append(_save("accuracy-serving", title, lambda: (_serving(served), ""), folder))
    return drawn


def _save(name: str, title: str, make: Callable[[], tuple[Figure, str]], folder: Path) -> str:
    with tempfile.TemporaryDirectory() as drawn:
        save(make, name, title, Path(drawn))
        shutil.copyfile(Path(drawn) / f"{name}.png", folder / f"{name}.png")
    return name


def _errors(evaluations: Sequence[Evaluation], floor: Mapping[str, float]) -> Figure:
    """A panel for each model, a line for each data set, a mark for each treatment."""
    names = list(dict.fromkeys(one.data.name for one in evaluations))
    labels = list(dict.fromkeys(one.contender.label for one in evaluations))
    height = 1.1 + _ROW_INCHES * len(names)
    left = 0.2 + _LETTER_INCHES * max(map(len, names))
    figure, panels = new_figure(
        _WIDTH, height, (1, len(labels)), left=left, bottom=0.45, top=0.65, gap=(0.14, 0.0)
    )
    percents = [
        percent
        for one in evaluations
        for how in _MARKS
        if (percent := _percent(one, how)) is not None
    ]
    for axes, label in zip(panels, labels, strict=True):
        _frame(axes, label, names if axes is panels[0] else [], len(names), percents)
        for one in evaluations:
            if one.contender.label == label:
                _line(axes, one, names.index(one.data.name), floor.get(one.data.name))
    _key(figure, bool(floor))
    return figure


def _serving(rows: Sequence[ServingRow]) -> Figure:
    """A panel for each metric, a line for each data set, a mark for each treatment."""
    names = list(dict.fromkeys(row.dataset for row in rows))
    height = 1.1 + _ROW_INCHES * len(names)
    left = 0.2 + _LETTER_INCHES * max(map(len, names))
    figure, panels = new_figure(
        _WIDTH, height, (1, 3), left=left, bottom=0.45, top=0.65, gap=(0.14, 0.0)
    )
    metrics = {"TTFT": "ttft", "ITL": "itl", "end to end": "e2e"}
    percents = [
        100 * error for row in rows for error in (row.ttft, row.itl, row.e2e) if error is not None
    ]
    for axes, (title, metric) in zip(panels, metrics.items(), strict=True):
        _frame(axes, title, names if axes is panels[0] else [], len(names), percents)
        for row in rows:
            how, error = _treated(row.treatment), getattr(row, metric)
            if error is not None:
                lane = {"guide": -0.2, "fitted": 0.0, "model": 0.2}[how]
                axes.plot(
                    [max(_LEAST_PERCENT, 100 * error)],
                    [names.index(row.dataset) + lane],
                    **_BARE,
                    **_MARKS[how],
                )
    for how, label in (
        ("guide", "not tuned to these runs"),
        ("fitted", "tuned"),
        ("model", "held out"),
    ):
        panels[0].plot([], [], label=label, **_BARE, **_MARKS[how])
    place, (handles, _) = (0.995, 1 - 0.04 / height), panels[0].get_legend_handles_labels()
    figure.legend(
        handles=handles,
        loc="upper right",
        bbox_to_anchor=place,
        ncols=len(handles),
        columnspacing=1.2,
    )
    return figure


def _treated(treatment: str) -> str:
    """The mark of a treatment: tuned and held out, or not tuned to these runs."""
    return "model" if " out" in treatment else "fitted" if treatment == "tuned" else "guide"


def _frame(
    axes: Axes, title: str, names: Sequence[str], rows: int, percents: Sequence[float]
) -> None:
    low, high = log_axis(axes, "x", min(1.0, *percents), max(percents))
    ticks = [tick for tick in log_ticks(low, high) if tick in (1, 2, 5, 10, 20, 50, 100)]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
    axes.set_ylim(rows - 0.5, -0.5)
    axes.yaxis.set_major_locator(FixedLocator(range(rows)))
    axes.yaxis.set_major_formatter(FixedFormatter([*map(drawable, names)] or [""] * rows))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.axvspan(low, 100 * TOLERANCE, color="#f3f3f3", zorder=0, linewidth=0)
    for row in range(1, rows):
        axes.axhline(row - 0.5, color=FAINT, linewidth=0.7, zorder=0.5)
    _title(axes, title)
    axes.set_xlabel("%", labelpad=1)


def _line(axes: Axes, one: Evaluation, row: int, floor: float | None) -> None:
    for how, mark in _MARKS.items():
        if (percent := _percent(one, how)) is not None:
            axes.plot([percent], [row + _LANES[how]], **_BARE, **mark)
    if floor is not None:
        axes.plot([100 * floor] * 2, [row - 0.4, row + 0.4], **_NOISE)


def _percent(one: Evaluation, how: str) -> float | None:
    """What is drawn of an error: a logarithmic axis has no zero."""
    error = one.error(how)
    return None if error is None else max(_LEAST_PERCENT, 100 * error)


def _key(figure: Figure, with_floor: bool) -> None:
    axes = figure.axes[0]
    for how, mark in _MARKS.items():
        axes.plot([], [], label=TREATMENTS[how], **_BARE, **mark)
    if with_floor:
        axes.plot([], [], label="replicates differ by", **_NOISE)
    place, (handles, _) = (
        (0.995, 1 - 0.04 / figure.get_figheight()),
        axes.get_legend_handles_labels(),
    )
    figure.legend(
        handles=handles,
        loc="upper right",
        bbox_to_anchor=place,
        ncols=len(handles),
        columnspacing=1.2,
    )


def _steps(evaluations: Sequence[Evaluation]) -> Figure:
    """Predicted over measured time of every step: a panel for each model, on the same scale."""
    figure, panels = new_figure(
        _WIDTH, 3.3, (1, len(evaluations)), left=0.85, bottom=0.5, top=0.72, gap=(0.25, 0.0)
    )
    rows = [one.result.predictions for one in evaluations if one.result is not None]
    ratios = [(frame["held_out_model_us"] / frame["measured_us"]).to_numpy() for frame in rows]
    furthest = max(np.log(1.5), *(float(np.abs(np.log(ratio)).max()) for ratio in ratios))
    for axes, one, frame, ratio in zip(panels, evaluations, rows, ratios, strict=True):
        measured_ms = frame["measured_us"].to_numpy() / 1e3
        log_axis(axes, "x", measured_ms.min(), measured_ms.max())
        axes.axhspan(1 - TOLERANCE, 1 + TOLERANCE, color="#f0f0f0", zorder=0, linewidth=0)
        axes.axhline(1.0, color=QUIET, linewidth=0.9)
        for phase in phases_of(frame):
            of = (frame["phase"] == phase).to_numpy()
            points(axes, measured_ms[of], ratio[of], *PHASES[phase])
            phase_key(axes, phase, phase)
        _ratio_axis(axes, furthest, labelled=axes is panels[0])
        _title(axes, f"{one.contender.label}: {console.percent(one.error('model'))}")
        axes.set_xlabel("measured (ms)", labelpad=1)
    panels[0].set_ylabel("predicted / measured")
    legend_above(panels[-1], 3)
    return figure


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=9.5, weight="bold", loc="left", pad=4)


def _ratio_axis(axes: Axes, furthest: float, *, labelled: bool) -> None:
    """A logarithmic axis that reaches as far above one as below."""
    ticks = [
        tick
        for tick in (0.2, 0.3, 0.5, 0.7, 0.9, 1.1, 1.4, 2.0, 3.0, 5.0)
        if abs(np.log(tick)) <= furthest
    ]
    axes.set_yscale("log")
    axes.set_ylim(np.exp(-1.05 * furthest), np.exp(1.05 * furthest))
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(
        FixedFormatter([f"{tick:g}" if labelled else "" for tick in ticks])
    )
    axes.yaxis.set_minor_locator(NullLocator())
