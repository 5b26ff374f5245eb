"""What a watch found as plain values, as ``calibrate watch --json`` prints them; changes and errors are fractions."""

import dataclasses
from typing import Any

import numpy as np

from calibrate.outcome.result_json import to_plain
from calibrate.records.interval import Z90
from calibrate.watch.episodes import Shift
from calibrate.watch.slices import Alarm, Slice
from calibrate.watch.thresholds import STEPS_A_DAY
from calibrate.watch.verdicts import kind_of
from calibrate.watch.watched import Change, Watched
from calibrate.watch.windows import Window


def as_plain(found: Watched) -> dict[str, Any]:
    """All that was found."""
    content = {
        "gpu": found.gpu,
        "latency_model": found.latency_model,
        "against": found.against,
        "by": list(found.dimensions),
        "window": found.window,
        "false_alarms_a_day": found.false_alarms,
        "steps_a_day": STEPS_A_DAY,
        "steps": found.steps,
        "begins": found.begins,
        "ends": found.ends,
        "drift": found.has_drifted,
        "verdicts": [dataclasses.asdict(one) for one in found.verdicts],
        "changes": [change_dict(one) for one in found.changes],
        "slices": [_slice(one, found.dimensions) for one in found.slices],
        "points": found.points.to_dict("records"),
        "notes": list(found.notes),
    }
    plain: dict[str, Any] = to_plain(content)
    return plain


def change_dict(change: Change) -> dict[str, Any]:
    """A change as plain values."""
    episode, found = change.episode, change.refit
    return {
        "kind": kind_of(episode),
        "since": episode.since,
        "change": float(np.expm1(episode.log_change)),
        "sentence": change.verdict.sentence,
        "alarms": [_alarm(one, episode.dimensions) for one in episode.alarms],
        "moved_slices": [_shift(one, episode.dimensions) for one in episode.moved],
        "unmoved_slices": [_shift(one, episode.dimensions) for one in episode.unmoved],
        "refit": None if found is None else dataclasses.asdict(found),
    }


def _alarm(alarm: Alarm, dimensions: tuple[str, ...]) -> dict[str, Any]:
    """An alarm as plain values."""
    return {
        "slice": dict(zip(dimensions, alarm.slice, strict=True)),
        "since": alarm.since,
        "at": alarm.at,
        "step": alarm.step,
        "change": alarm.shift,
        "ci90": _ends(alarm.log_change - alarm.before, alarm.error),
        "settled": alarm.settled,
    }


def _slice(one: Slice, dimensions: tuple[str, ...]) -> dict[str, Any]:
    """A slice as plain values, with its windows."""
    last = one.windows[-1] if one.windows else None
    return {
        "slice": dict(zip(dimensions, one.key, strict=True)),
        "steps": one.steps,
        "judged": one.stage != "learning",
        "outside": one.outside / one.steps if one.steps else 0.0,
        "factor": last.factor if last else None,
        "ci90": list(last.ci90) if last else None,
        "change": last.change if last else None,
        "alarms": len(one.alarms),
        "windows": [_window(window) for window in one.windows],
    }


def _window(window: Window) -> dict[str, Any]:
    return {
        "begins": window.begins,
        "ends": window.ends,
        "steps": window.steps,
        "factor": window.factor,
        "ci90": list(window.ci90),
        "change": window.change,
        "outside": window.outside,
    }


def _shift(one: Shift, dimensions: tuple[str, ...]) -> dict[str, Any]:
    return {
        "slice": dict(zip(dimensions, one.slice, strict=True)),
        "change": float(np.expm1(one.log_change)),
        "ci90": _ends(one.log_change, one.error),
    }


def _ends(log_change: float, error: float) -> list[float]:
    ends: list[float] = np.expm1(log_change + np.array([-Z90, Z90]) * error).tolist()
    return ends
