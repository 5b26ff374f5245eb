"""What a watch has found so far: slices, episodes with what moved, verdicts, points to measure."""

import copy
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from calibrate.watch.episodes import Episode, episodes
from calibrate.watch.refit import Refit, refit
from calibrate.watch.ring import Steps
from calibrate.watch.slices import Slice
from calibrate.watch.start import start_notes
from calibrate.watch.thresholds import OUTSIDE, STEPS_A_DAY, TOLERANCE
from calibrate.watch.verdicts import Verdict, verdict
from calibrate.watch.watch import Watch
from sim.steps.batch import Floats

_ENOUGH = 2  # batches from which a slice that is still learning is shown
_PART = 4  # of a window, from which one that is not full is shown


@dataclasses.dataclass(frozen=True)
class Change:
    """An episode, what explains it, and what is said of it."""

    episode: Episode
    refit: Refit | None
    verdict: Verdict


@dataclasses.dataclass(frozen=True, eq=False)
class Watched:
    """The state of a watch in words and figures. ``points`` are shapes to measure, rows of a steps table."""

    gpu: str
    latency_model: str
    against: str
    dimensions: tuple[str, ...]
    window: int
    false_alarms: float
    steps: int
    begins: float
    ends: float
    slices: tuple[Slice, ...]
    changes: tuple[Change, ...]
    verdicts: tuple[Verdict, ...]
    points: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def has_drifted(self) -> bool:
        """Whether any slice raised an alarm."""
        return bool(self.changes)

    @property
    def definition(self) -> str:
        """What the false-alarm rate means."""
        return (
            f"The chance of any false alarm is at most {self.false_alarms:.2g} a day over all slices, a day being "
            f"{STEPS_A_DAY:,} steps of each; a change within {TOLERANCE:.0%} of the reference is none."
        )


def watched(
    watch: Watch,
    against: str,
    errors: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
) -> Watched:
    """What a watch has found; ``errors`` are the run's own biases by phase, where there is a run. ``watch`` stays.

    ``notes`` on the source come first.
    """
    watch = copy.deepcopy(watch)
    for one in watch.slices.values():
        if one.stage == "learning" and len(one.first) >= _ENOUGH * one.settings.batch:
            one.learn_now()
            one.stage = "learning"
        one.estimate_open_alarm()
        if len(one.open.at) >= (one.settings.window // _PART if one.windows else 1):
            one.windows += [one.window_of(one.open)] if one.noise is not None else []
    changes = tuple(_change(watch, episode) for episode in episodes(watch))
    points = _points(watch)
    return Watched(
        gpu=watch.hardware.gpu,
        latency_model=watch.model.name,
        against=against,
        dimensions=watch.dimensions,
        window=watch.settings.window,
        false_alarms=watch.settings.false_alarms,
        steps=watch.steps,
        begins=watch.first_at,
        ends=watch.last_at,
        slices=tuple(sorted(watch.slices.values(), key=lambda one: one.key)),
        changes=changes,
        verdicts=_verdicts(watch, changes, len(points)),
        points=points,
        notes=(*notes, *_notes(watch), *start_notes(watch, errors or {})),
    )


def _change(watch: Watch, episode: Episode) -> Change:
    found = None if episode.is_over else _refit(watch, episode)
    return Change(episode, found, verdict(episode, found))


def _refit(watch: Watch, episode: Episode) -> Refit | None:
    """What moved, by the steps since of all slices where the nodes, engines and models are those that were reached."""
    began = {alarm.slice: alarm.since for alarm in episode.alarms}
    parts: list[Steps] = []
    noise: list[Floats] = []
    inflation: list[float] = []
    for key, one in watch.slices.items():
        if one.stage == "learning" or one.noise is None or not _is_reached(episode, key):
            continue
        steps = one.since(began.get(key, episode.since))
        steps = steps.take(np.array([watch.served.is_there(n) for n in steps.served], dtype=bool))
        parts.append(steps)
        noise.append(np.full(len(steps), one.noise.step))
        inflation += [one.noise.inflation] * len(steps)
    if not sum(map(len, parts)):
        return None
    steps = Steps.join(parts)
    table = watch.served.table(steps.served, steps.moments)
    return refit(
        watch.model,
        watch.hardware,
        table,
        steps.deviation,
        np.concatenate(noise),
        float(np.mean(inflation)),
    )


def _is_reached(episode: Episode, key: tuple[str, ...]) -> bool:
    """Whether a slice lies where something moved, whatever its phase."""
    return all(
        value in episode.reached(dimension)
        for dimension, value in zip(episode.dimensions[:-1], key[:-1], strict=True)
    )


def _points(watch: Watch) -> pd.DataFrame:
    """Shapes to measure, where enough steps lie outside of the reference."""
    if not _outside(watch):
        return pd.DataFrame()
    return watch.outside.points(watch.served, watch.model, watch.hardware)


def _outside(watch: Watch) -> list[Slice]:
    """Slices of whose last window a share lies outside."""
    return [
        one
        for one in watch.slices.values()
        if one.stage != "learning" and one.windows and one.windows[-1].outside >= OUTSIDE
    ]


def _verdicts(watch: Watch, changes: tuple[Change, ...], points: int) -> tuple[Verdict, ...]:
    found = [change.verdict for change in changes]
    beyond = _outside(watch)
    if beyond:
        names = "; ".join(" ".join(filter(None, one.key)) for one in beyond[:3])
        share = max(one.windows[-1].outside for one in beyond)
        sentence = (
            f"Traffic outside of what was calibrated: up to {share:.0%} of the last window's steps ({names}). "
            "They are not judged."
        )
        advice = f"Measure the {points} points below." if points else ""
        found.append(Verdict("outside", sentence, advice))
    judged = [one for one in watch.slices.values() if one.stage != "learning"]
    if not judged:
        need = watch.settings.baseline
        sentence = f"Too few steps to judge: a slice needs {need:,} to learn its reference from."
        return (*found, Verdict("unknown", sentence, "Give more steps, or a smaller --window."))
    if not found:
        sentence = f"Nothing has drifted: {len(judged)} slices, {watch.steps:,} steps."
        found.append(Verdict("nothing", sentence))
    return tuple(found)


def _notes(watch: Watch) -> list[str]:
    short = [one for one in watch.slices.values() if one.stage == "learning"]
    notes = [f"{count:,} steps {why}: not judged." for why, count in watch.left_out.items()]
    if short:
        need = watch.settings.baseline
        notes.append(
            f"{len(short)} of {len(watch.slices)} slices have fewer than the {need:,} steps that a reference is "
            "learned from: shown, not judged."
        )
    return notes
