"""Changes that came together: the alarms of one cause, the slices it reached and those it left alone."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from calibrate.watch.slices import Alarm, Slice
from calibrate.watch.thresholds import CHANGED, TOLERANCE
from calibrate.watch.watch import Watch


@dataclasses.dataclass(frozen=True)
class Shift:
    """One slice since a change: ``log_change`` against the time before, and its standard error."""

    slice: tuple[str, ...]
    log_change: float
    error: float


@dataclasses.dataclass(frozen=True)
class Episode:
    """Alarms that began together. ``moved`` are the slices that changed, ``unmoved`` the judged ones that did not."""

    since: float
    alarms: tuple[Alarm, ...]
    moved: tuple[Shift, ...]
    unmoved: tuple[Shift, ...]
    dimensions: tuple[str, ...]

    @property
    def log_change(self) -> float:
        """The mean change of what moved."""
        return float(np.mean([one.log_change for one in self.moved]))

    @property
    def is_over(self) -> bool:
        """Whether the alarms say that all is again as the reference has it."""
        return all(abs(alarm.log_change) <= TOLERANCE for alarm in self.alarms)

    def reached(self, dimension: str) -> tuple[str, ...]:
        """The values of a dimension, such as nodes, at which something moved."""
        return _values(self.moved, self.dimensions.index(dimension))

    def spared(self, dimension: str) -> tuple[str, ...]:
        """The values at which nothing moved."""
        everywhere = _values(self.unmoved, self.dimensions.index(dimension))
        return tuple(value for value in everywhere if value not in self.reached(dimension))


def episodes(watch: Watch) -> list[Episode]:
    """The alarms of a watch as episodes, oldest first."""
    found: list[list[Alarm]] = []
    for alarm in sorted(watch.alarms, key=lambda one: (one.since, one.slice)):
        near = found and alarm.since - found[-1][-1].since <= _gap(watch, alarm)
        if near and alarm.slice not in {other.slice for other in found[-1]}:
            found[-1].append(alarm)
        else:
            found.append([alarm])
    return [_episode(watch, alarms) for alarms in found]


def _gap(watch: Watch, alarm: Alarm) -> float:
    """How far apart, in the rows' ``at``, changes of one cause may seem to begin: two windows of the alarm's slice."""
    windows = watch.slices[alarm.slice].windows[-3:]
    return 2.0 * max((one.ends - one.begins for one in windows), default=0.0)


def _episode(watch: Watch, alarms: Sequence[Alarm]) -> Episode:
    since = min(alarm.since for alarm in alarms)
    alarmed = {alarm.slice: alarm for alarm in alarms}
    sign = np.sign(np.sum([alarm.log_change - alarm.before for alarm in alarms]))
    shifts = [
        _of_alarm(alarmed[key]) if key in alarmed else _since(one, since)
        for key, one in watch.slices.items()
        if one.stage != "learning"
    ]
    known = [shift for shift in shifts if shift is not None]
    moved = [one for one in known if one.slice in alarmed or _is_changed(one, float(sign))]
    unmoved = [one for one in known if one not in moved]
    return Episode(since, tuple(alarms), tuple(moved), tuple(unmoved), watch.dimensions)


def _of_alarm(alarm: Alarm) -> Shift:
    return Shift(alarm.slice, alarm.log_change - alarm.before, alarm.error)


def _since(one: Slice, at: float) -> Shift | None:
    """What a slice without an alarm has done since; None where it has had no steps."""
    steps = one.since(at)
    if not len(steps) or one.noise is None:
        return None
    change = one.noise.mean(steps.deviation, one.level) - one.level
    return Shift(one.key, change, one.noise.standard_error(len(steps)))


def _is_changed(shift: Shift, sign: float) -> bool:
    return sign * shift.log_change - TOLERANCE > CHANGED * shift.error


def _values(shifts: Iterable[Shift], place: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(shift.slice[place] for shift in shifts))
