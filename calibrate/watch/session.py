"""One watch from source to state: reads what is new, judges it, keeps what is known, publishes what holds."""

import time
from collections.abc import Iterator
from pathlib import Path

from calibrate.records.errors import CalibrateError
from calibrate.watch.calibrated import Calibrated
from calibrate.watch.publishing import Sources, publish
from calibrate.watch.remote import RemoteStream
from calibrate.watch.state import load, save
from calibrate.watch.stream import Stream
from calibrate.watch.watch import Watch
from calibrate.watch.watched import Change, Watched, watched

_POLL_S = 0.5
_SAVE_S = 30.0


class Session:
    """A watch over a stream against a calibration. ``state`` is the file it goes on from, where there is one."""

    def __init__(
        self,
        watch: Watch,
        stream: Stream | RemoteStream,
        calibrated: Calibrated,
        state: Path | None,
        profiles: Path | None,
    ) -> None:
        self._watch = watch
        self._stream = stream
        self._calibrated = calibrated
        self._state = state
        self._profiles = profiles
        self._notes: list[str] = []
        self._told: set[tuple[tuple[str, ...], float]] = set()
        self._found: Watched | None = None
        self._is_whole = True
        self.published: list[str] = []

    @property
    def found(self) -> Watched:
        """What was found by now."""
        if self._found is None:
            notes = [f"{count:,} steps or lines {why}: left out." for why, count in self._out()]
            self._found = watched(
                self._watch, self._calibrated.name, self._calibrated.biases, [*self._notes, *notes]
            )
        return self._found

    def resume(self) -> None:
        """Go on from the state file, if it is there. Raises CalibrateError for one of another watch."""
        if self._state is None or not self._state.exists():
            return
        positions = load(self._state, self._watch, str(self._stream.source))
        self._stream.resume(positions)
        self._told = {(one.slice, one.at) for one in self._watch.alarms if one.settled}

    def take_all(self) -> None:
        """Judge all that there is. Raises ImportFormatError for a source without a step."""
        self._take_new()
        if not self._watch.steps:
            raise CalibrateError(f"{self._stream.source}: has no step with a time{self._reasons()}")
        self._publish()

    def follow(self, idle: float | None) -> Iterator[Change]:
        """Changes as they are sure, until nothing has come for ``idle`` seconds."""
        saved = came = time.monotonic()
        while True:
            is_new = self._take_new()
            now = time.monotonic()
            changes = self._news()
            if changes or (is_new and now - saved > _SAVE_S):
                self._save()
                saved = now
            if changes:
                self._publish()
            yield from changes
            came = now if is_new else came
            if idle is not None and now - came >= idle:
                return
            if not is_new:
                time.sleep(_POLL_S)

    def close(self) -> None:
        """Keep what is known, and let go of the files."""
        self._save()
        self._stream.close()

    def _take_new(self) -> bool:
        before = self._watch.steps
        self._is_whole = False  # what is read and not judged yet would be lost
        for rows in self._stream.poll():
            self._watch.take_in(rows)
        self._is_whole = True
        self._notes += self._stream.notes()
        is_new = self._watch.steps > before
        if is_new:
            self._found = None
        return is_new

    def _news(self) -> list[Change]:
        """The changes with an alarm that is settled and was not told yet."""
        settled = {(one.slice, one.at) for one in self._watch.alarms if one.settled}
        new = settled - self._told
        if not new:
            return []
        self._told |= settled
        return [
            change
            for change in self.found.changes
            if any((alarm.slice, alarm.at) in new for alarm in change.episode.alarms)
        ]

    def _save(self) -> None:
        if self._state is not None and self._watch.steps and self._is_whole:
            save(self._state, self._watch, str(self._stream.source), self._stream.to_plain())

    def _publish(self) -> None:
        if self._profiles is not None:
            sources = Sources(
                str(self._stream.source), self._calibrated.hardware, self._calibrated.run
            )
            self.published += publish(self.found, sources, self._profiles)

    def _out(self) -> list[tuple[str, int]]:
        return [(why, count) for why, count in self._stream.left_out.items() if count]

    def _reasons(self) -> str:
        reasons = "; ".join(f"{count:,} {why}" for why, count in self._out())
        return f" ({reasons} left out)" if reasons else ""
