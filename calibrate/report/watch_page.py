"""Writes what a watch found as one page: verdicts, then a chart a slice with its band and alarms."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calibrate.records.files import replace_text
from calibrate.report.frame import own_script, render_page
from calibrate.watch.slices import Slice
from calibrate.watch.verdicts import moment
from calibrate.watch.watched import Watched
from calibrate.watch.windows import Window
from sim.steps.batch import Floats

_WIDTH, _HEIGHT = 560.0, 150.0
_LEAST_SPAN = 0.02  # of the factor: less is drawn as flat, which it is
_ROOM = 0.08
_MOST_CHARTS = 120
_LEVELS = {"nothing": "good", "outside": "fair", "unknown": "fair"}
_SECTIONS = {"verdicts": "Verdicts", "slices": "Slices", "charts": "Charts", "points": "Points"}


@dataclasses.dataclass(frozen=True)
class Chart:
    """One slice drawn: SVG coordinates of its line, band and alarms, with what its axes say."""

    title: str
    phase: str
    line: str
    band: str
    reference: float | None
    alarms: tuple[tuple[float, str], ...]
    low: float
    high: float
    begins: str
    ends: str
    dots: tuple[tuple[float, float, str], ...]


def write_watched(found: Watched, path: Path) -> None:
    """Write the page to ``path``, in one step."""
    slices = sorted(found.slices, key=lambda one: (-len(one.alarms), one.key))
    page = render_page(
        "watch.html.j2",
        [own_script("page.js")],
        found=found,
        verdicts=[(_LEVELS.get(one.kind, "poor"), one) for one in found.verdicts],
        rows=[_row(one) for one in slices],
        charts=[_chart(one) for one in slices[:_MOST_CHARTS] if one.windows],
        left=max(len(slices) - _MOST_CHARTS, 0),
        begins=moment(found.begins),
        ends=moment(found.ends),
        columns=list(found.points),
        points=found.points.to_dict("records"),
        sections=[
            (name, label)
            for name, label in _SECTIONS.items()
            if name != "points" or len(found.points)
        ],
        width=_WIDTH,
        height=_HEIGHT,
    )
    replace_text(path, page.decode("utf-8"))


def _row(one: Slice) -> dict[str, Any]:
    last = one.windows[-1] if one.windows else None
    return {
        "key": one.key,
        "steps": one.steps,
        "judged": one.stage != "learning",
        "last": last,
        "change": last.change if last and one.stage != "learning" else None,
        "alarms": len(one.alarms),
    }


def _chart(one: Slice) -> Chart:
    windows = one.windows
    ends = np.array([window.ci90 for window in windows]).T
    factors = np.array([window.factor for window in windows])
    at = np.array([(window.begins + window.ends) / 2 for window in windows])
    low, high = _range(ends, one)
    x = _places(at, float(windows[0].begins), float(windows[-1].ends), _WIDTH)
    y, bottom, top = (_HEIGHT - _places(values, low, high, _HEIGHT) for values in (factors, *ends))
    reference = None if np.isnan(one.start) else float(np.exp(one.start))
    return Chart(
        title=" · ".join(filter(None, one.key)),
        phase=one.key[-1],
        line=_path(x, y),
        band=_path(np.concatenate([x, x[::-1]]), np.concatenate([bottom, top[::-1]])),
        reference=None if reference is None else _height(reference, low, high),
        alarms=tuple(_alarms(one)),
        low=low,
        high=high,
        begins=moment(windows[0].begins),
        ends=moment(windows[-1].ends),
        dots=tuple(zip(x.tolist(), y.tolist(), map(_said, windows), strict=True)),
    )


def _range(ends: Floats, one: Slice) -> tuple[float, float]:
    """What the axis shows: all bands and the reference, with some room."""
    values = [*ends.ravel(), *([] if np.isnan(one.start) else [float(np.exp(one.start))])]
    low, high = float(min(values)), float(max(values))
    room = max(_ROOM * (high - low), (_LEAST_SPAN - (high - low)) / 2)
    return low - room, high + room


def _alarms(one: Slice) -> list[tuple[float, str]]:
    begins, ends = one.windows[0].begins, one.windows[-1].ends
    return [
        (
            float(_places(np.array([alarm.since]), begins, ends, _WIDTH)[0]),
            f"{alarm.shift:+.1%} since {moment(alarm.since)}",
        )
        for alarm in one.alarms
    ]


def _places(values: Floats, low: float, high: float, length: float) -> Floats:
    """Where values lie on an axis from ``low`` to ``high``, within its ends."""
    places: Floats = np.clip((values - low) / max(high - low, 1e-12), 0.0, 1.0) * length
    return places


def _height(value: float, low: float, high: float) -> float:
    return _HEIGHT - float(_places(np.array([value]), low, high, _HEIGHT)[0])


def _path(x: Sequence[float] | Floats, y: Sequence[float] | Floats) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def _said(window: Window) -> str:
    low, high = window.ci90
    outside = f", {window.outside:.0%} outside" if window.outside else ""
    return (
        f"{moment(window.begins)}: {window.factor:.3f} ({low:.3f} to {high:.3f}), "
        f"{window.steps:,} steps{outside}"
    )
