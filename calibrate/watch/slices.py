"""One slice of the steps: it learns its reference, then each batch of steps is tested and each window kept."""

import dataclasses
from typing import Literal

import numpy as np

from calibrate.watch.detector import Detector, log_threshold
from calibrate.watch.noise import Noise, learn_noise
from calibrate.watch.reference import Reference, clipped, learn, spread
from calibrate.watch.ring import Steps
from calibrate.watch.shapes import NAMES
from calibrate.watch.thresholds import (
    BASELINE_WINDOWS,
    BATCHES,
    FEWEST_IN_BATCH,
    MOST_ALARMS,
    SURE_LEVEL,
    TOLERANCE,
)
from calibrate.watch.windows import Window, kept
from sim.steps.batch import Floats

Stage = Literal["learning", "watching", "settling"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Steps of a ``window`` and the chance of a false alarm in a day, over all slices."""

    window: int
    false_alarms: float

    @property
    def batch(self) -> int:
        """Steps of a batch, each a look of the test."""
        return max(self.window // BATCHES, FEWEST_IN_BATCH)

    @property
    def baseline(self) -> int:
        """Steps that a slice's reference is learned from."""
        return BASELINE_WINDOWS * self.window


@dataclasses.dataclass
class Alarm:
    """A change that was found: ``since`` is where it began and ``at`` where that was sure, by the rows' ``at``.

    ``log_change`` is against the reference, ``before`` what it was before the change, ``error`` its standard error;
    they are filled when enough steps have come since (``settled``).
    """

    slice: tuple[str, ...]
    since: float
    at: float
    step: int
    before: float
    log_change: float = float("nan")
    error: float = float("nan")
    settled: bool = False

    @property
    def shift(self) -> float:
        """How many times longer steps take than before, − 1."""
        return float(np.expm1(self.log_change - self.before))


@dataclasses.dataclass
class Slice:
    """What is known of one slice. ``number`` counts slices in order of appearance, from 1.

    ``given`` is the reference of a run; without it the slice learns its own. ``level`` is the change against the
    reference that is taken as usual: 0, then what the last alarm found.
    """

    key: tuple[str, ...]
    number: int
    settings: Settings
    given: Reference | None = None
    stage: Stage = "learning"
    steps: int = 0
    outside: int = 0
    reference: Reference | None = None
    noise: Noise | None = None
    level: float = 0.0
    start: float = float("nan")
    detector: Detector = dataclasses.field(default_factory=Detector)
    ring: Steps = dataclasses.field(default_factory=Steps.none)
    first: Steps = dataclasses.field(default_factory=lambda: Steps.none().without_moments())
    batch: Steps = dataclasses.field(default_factory=lambda: Steps.none().without_moments())
    settling: Floats = dataclasses.field(default_factory=lambda: np.empty(0))
    open: "Rest" = dataclasses.field(default_factory=lambda: Rest.none())
    windows: list[Window] = dataclasses.field(default_factory=list)
    alarms: list[Alarm] = dataclasses.field(default_factory=list)

    @property
    def threshold(self) -> float:
        """From where on the test's statistic, a logarithm, is an alarm."""
        return log_threshold(self.number, self.settings.batch, self.settings.false_alarms)

    def take_in(self, steps: Steps, sizes: Floats) -> None:
        """Some steps in the order in which they ran, with ln(measured/predicted) as deviation and octaves (3, n)."""
        self.steps += len(steps)
        if self.reference is None:
            steps, sizes = self._learn(steps, sizes)
        if self.reference is not None and len(steps):
            inside = self._judge(steps, sizes)
            self.ring = Steps.join([self.ring, inside]).last(self.settings.window)
            self._test(inside)

    def _learn(self, steps: Steps, sizes: Floats) -> tuple[Steps, Floats]:
        """Gather the first steps; once there are enough, learn from them. What is left to be judged."""
        wanted = self.settings.baseline - len(self.first)
        part = steps.take(slice(0, wanted))
        self.ring = Steps.join([self.ring, part]).last(self.settings.window)
        self.first = Steps.join([self.first, part.without_moments()])
        self.open.sizes = np.concatenate([self.open.sizes, sizes[:, :wanted]], axis=1)
        if len(self.first) < self.settings.baseline:
            return Steps.none(), np.empty((len(NAMES), 0))
        self.learn_now()
        return steps.take(slice(wanted, None)), sizes[:, wanted:]

    def learn_now(self) -> None:
        """Learn from the steps there are, and test them in turn where a run gave the reference."""
        first, sizes = self.first, self.open.sizes
        own = learn(first.deviation, sizes, first.served)
        self.reference = self.given or own
        residual = first.deviation - own.expected(sizes, first.served)
        self.noise = learn_noise(residual, self.settings.batch)
        self.start = float(clipped(first.deviation).mean())
        self.stage = "watching"
        self.first, self.open = Steps.none().without_moments(), Rest.none()
        self.ring, _ = self._change(self.ring, sizes[:, sizes.shape[1] - len(self.ring) :])
        inside = self._judge(first, sizes)
        if self.given is not None:
            self._test(inside)

    def _judge(self, steps: Steps, sizes: Floats) -> Steps:
        """Windows of all steps; those that the reference knows, with their change against it."""
        inside, change = self._change(steps, sizes)
        self._window(steps.deviation, change, steps.at)
        self.outside += len(steps) - len(inside)
        return inside

    def _change(self, steps: Steps, sizes: Floats) -> tuple[Steps, Floats]:
        """The steps that the reference knows, and the change of all against it, NaN of those outside."""
        assert self.reference is not None
        change = steps.deviation - self.reference.expected(sizes, steps.served)
        known = ~np.isnan(change)
        return dataclasses.replace(steps.take(known), deviation=change[known]), change

    def _window(self, factor: Floats, change: Floats, at: Floats) -> None:
        """Close as many windows as the steps fill."""
        rest = self.open.joined(factor, change, at)
        size = self.settings.window
        for begin in range(0, len(rest.at) - size + 1, size):
            self.windows.append(self.window_of(rest.part(slice(begin, begin + size))))
        self.windows = kept(self.windows)
        self.open = rest.part(slice(len(rest.at) // size * size, None))

    def window_of(self, rest: "Rest") -> Window:
        """Steps that belong together as one window."""
        assert self.noise is not None
        inside = rest.change[~np.isnan(rest.change)]
        middle = float(np.median(inside)) if len(inside) else np.nan
        return Window(
            begins=float(rest.at[0]),
            ends=float(rest.at[-1]),
            steps=len(rest.at),
            outside=1.0 - len(inside) / len(rest.at),
            log_factor=float(clipped(rest.factor).mean()),
            log_change=self.noise.mean(inside, middle) if len(inside) else np.nan,
            error=self.noise.standard_error(len(rest.at)),
        )

    def _test(self, steps: Steps) -> None:
        """One batch after the other; after an alarm a window tells the new level."""
        assert self.noise is not None
        size = self.settings.batch
        gathered = Steps.join([self.batch, steps.without_moments()])
        count = len(gathered) // size
        batches = gathered.deviation[: count * size].reshape(count, size)
        begins, ends = (gathered.at[place : count * size : size] for place in (0, size - 1))
        means, level = self.noise.means(batches, self.level), self.level
        for number in range(count):
            if self.stage == "settling":
                self._settle(batches[number])
                continue
            if self.level != level:
                means, level = self.noise.means(batches, self.level), self.level
            self._look(float(means[number]), float(begins[number]), float(ends[number]))
        self.batch = gathered.last(len(gathered) - count * size)

    @property
    def _tolerance(self) -> float:
        """A change that is none: no smaller than the level that it is against is sure."""
        assert self.noise is not None
        learned = self.settings.window if self.alarms else self.settings.baseline
        return max(TOLERANCE, SURE_LEVEL * self.noise.standard_error(learned))

    def _look(self, mean: float, begins: float, ends: float) -> None:
        """One batch, by the mean of its deviations."""
        assert self.noise is not None
        shift, tolerated = mean - self.level, self._tolerance
        self.detector.update(
            (shift - tolerated) / self.noise.batch, (shift + tolerated) / self.noise.batch, begins
        )
        if self.detector.level >= self.threshold:
            alarm = Alarm(self.key, self.detector.began, ends, self.steps, self.level)
            self.alarms = [*self.alarms[1 - MOST_ALARMS :], alarm]
            self.stage, self.settling = "settling", np.empty(0)

    def _settle(self, deviation: Floats) -> None:
        """Gather a window's steps after an alarm: their level is the usual one from then on."""
        self.settling = np.concatenate([self.settling, deviation])
        if len(self.settling) >= self.settings.window:
            self._estimate(self.settling)
            self.alarms[-1].settled = True
            self.level = self.alarms[-1].log_change
            self.stage, self.detector = "watching", Detector()
            self.settling = np.empty(0)

    def _estimate(self, deviation: Floats) -> None:
        assert self.noise is not None
        middle = float(np.median(deviation))
        width = max(self.noise.step, spread(deviation))
        wide = dataclasses.replace(self.noise, step=width)
        self.alarms[-1].log_change = wide.mean(deviation, middle)
        self.alarms[-1].error = wide.standard_error(len(deviation))

    def estimate_open_alarm(self) -> None:
        """What is known of an alarm after which not enough steps have come yet."""
        if self.stage == "settling":
            self._estimate(self.since(self.alarms[-1].since).deviation)

    def since(self, at: float) -> Steps:
        """The steps kept that ran then or later."""
        return self.ring.take(np.asarray(self.ring.at >= at, dtype=np.bool_))


@dataclasses.dataclass
class Rest:
    """Steps that fill no window yet: ln(measured/predicted), change against the reference, when they ran.

    ``sizes`` are the octaves of the steps that the reference is learned from.
    """

    factor: Floats
    change: Floats
    at: Floats
    sizes: Floats

    @classmethod
    def none(cls) -> "Rest":
        """No step."""
        return cls(np.empty(0), np.empty(0), np.empty(0), np.empty((len(NAMES), 0)))

    def joined(self, factor: Floats, change: Floats, at: Floats) -> "Rest":
        """These steps and others after them."""
        return Rest(
            np.concatenate([self.factor, factor]),
            np.concatenate([self.change, change]),
            np.concatenate([self.at, at]),
            self.sizes,
        )

    def part(self, rows: slice) -> "Rest":
        """Some of them."""
        return Rest(self.factor[rows], self.change[rows], self.at[rows], self.sizes)
