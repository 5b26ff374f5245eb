"""A picture of the errors of every data set: untuned and tuned apart, TTFT and ITL beside each other."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from calibrate.report.style import (
    FAINT,
    INK,
    QUIET,
    log_axis,
    log_ticks,
    new_figure,
    save,
    short_number,
)

_WIDTH, _ROW_INCHES = 9.6, 0.2
_LEAST_PERCENT = 1.0
_MARKS: dict[str, dict[str, Any]] = {  # colours of Okabe and Ito
    "no engine": {"color": "#8c8c8c", "marker": "o"},
    "engine named": {"color": "#0072B2", "marker": "s"},
    "tuned elsewhere": {"color": "#D55E00", "marker": "^"},
    "model out": {"color": "#CC79A7", "marker": "D"},
    "run out": {"color": INK, "marker": "o"},
}


def draw(rows: Sequence[Mapping[str, Any]], treatments: Sequence[str], file: Path) -> None:
    """Write the picture of some treatments of the page's rows."""
    title = f"Mean errors of servers: {', '.join(treatments)}"
    with tempfile.TemporaryDirectory() as drawn:
        save(lambda: (_figure(rows, treatments), ""), file.stem, title, Path(drawn))
        shutil.copyfile(Path(drawn) / file.name, file)


def _figure(rows: Sequence[Mapping[str, Any]], treatments: Sequence[str]) -> Figure:
    height = 1.1 + _ROW_INCHES * len(rows)
    figure, panels = new_figure(
        _WIDTH, height, (1, 2), left=4.1, bottom=0.45, top=0.65, gap=(0.14, 0.0)
    )
    percents = [
        max(_LEAST_PERCENT, 100.0 * error)
        for row in rows
        for name in treatments
        for error in (row["errors"][name] or ())[:2]
        if error is not None
    ]
    for place, (axes, title) in enumerate(zip(panels, ("TTFT", "ITL"), strict=True)):
        low, high = log_axis(axes, "x", min(percents), max(percents))
        _frame(axes, title, rows if place == 0 else (), len(rows), log_ticks(low, high))
        for name in treatments:
            points = [
                (max(_LEAST_PERCENT, 100.0 * error), line)
                for line, row in enumerate(rows)
                if (error := (row["errors"][name] or (None, None))[place]) is not None
            ]
            across, down = zip(*points, strict=True)
            axes.plot(across, down, linestyle="none", markersize=4.5, label=name, **_MARKS[name])
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="upper right",
        ncols=len(treatments),
        frameon=False,
    )
    return figure


def _frame(
    axes: Axes, title: str, rows: Sequence[Mapping[str, Any]], lines: int, ticks: Sequence[float]
) -> None:
    axes.set_title(f"{title}, mean error", loc="left", color=QUIET)
    axes.set_ylim(lines - 0.5, -0.5)
    axes.set_xticks(ticks, [f"{short_number(tick)}%" for tick in ticks])
    axes.grid(axis="both", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    names = [
        f"{row['gpu']} {row['campaign']}, {row['engine']}{' *' * row['aside']}" for row in rows
    ]
    axes.set_yticks(range(lines), names or [""] * lines, fontsize=6.5)
