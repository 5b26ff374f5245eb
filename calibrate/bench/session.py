"""One run of the benchmark: stage by stage, point by point, within the memory and the time there is."""

import collections
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from calibrate.bench.device import Device, import_torch
from calibrate.bench.monitor import State
from calibrate.bench.point import Cell, Point, Stage
from calibrate.bench.record import Record, measured_cells, open_record
from calibrate.bench.retry import Retries
from calibrate.bench.timing import NVBENCH, Sampling, Timing
from calibrate.records.errors import CalibrateError
from sim.units import BYTES_PER_GIB

_FAILURES_IN_A_ROW = 5

Tell = Callable[[str, int, int], None]
"""Is told the table, how many of its points are done, and of how many."""


@dataclasses.dataclass
class Findings:
    """What a reader must know of the rows: points left out and why, and what disturbed others, each with a count."""

    left_out: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    disturbed: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    retries: Retries = dataclasses.field(default_factory=Retries)
    measured: int = 0

    def notes(self) -> list[str]:
        """All of it in words."""
        return [
            *(f"{_points(n)} left out: {why}" for why, n in self.left_out.items()),
            *self._repeated(),
            *self.disturbances(),
        ]

    def _repeated(self) -> list[str]:
        again = self.retries.again
        words = "1 measurement was" if again == 1 else f"{again} measurements were"
        return [f"{words} repeated after a rest: the GPU had slowed itself down"] if again else []

    def disturbances(self) -> list[str]:
        """What disturbed points that were measured, in words."""
        return [f"{_points(n)} measured while {what}" for what, n in self.disturbed.items()]


@dataclasses.dataclass(frozen=True)
class Limits:
    """``capacity_bytes`` of memory, the time.monotonic() at which to stop (None: when all is done), and when a point
    has been sampled enough.
    """

    capacity_bytes: int
    deadline_s: float | None = None
    sampling: Sampling = NVBENCH


def measure_stages(
    device: Device,
    stages: Sequence[Stage],
    folder: Path,
    limits: Limits,
    findings: Findings,
    tell: Tell,
) -> None:
    """Measure what is not in the campaign yet, and add to ``findings``.

    A stage may take its share of the time that is left when it begins. Raises CalibrateError if one point after
    another fails.
    """
    with import_torch().inference_mode():
        for index, stage in enumerate(stages):
            deadline = _stage_deadline([s.share for s in stages[index:]], limits.deadline_s)
            record = open_record(folder, stage.table)
            _measure_stage(
                device,
                stage,
                record,
                dataclasses.replace(limits, deadline_s=deadline),
                findings,
                tell,
            )
            device.release()


def _stage_deadline(shares: Sequence[float], deadline_s: float | None) -> float | None:
    """When the first of the stages left must stop, the time that is left divided by their shares."""
    if deadline_s is None:
        return None
    now = time.monotonic()
    return now + (deadline_s - now) * shares[0] / sum(shares)


def _measure_stage(
    device: Device, stage: Stage, record: Record, limits: Limits, findings: Findings, tell: Tell
) -> None:
    failures = 0
    for number, point in enumerate(stage.points):
        tell(stage.table, number, len(stage.points))
        if record.holds(point.columns):
            continue
        why = _obstacle(point, limits)
        if why is None:
            timeout_s = limits.sampling.timeout_s or stage.seconds
            why = _measure_point(device, point, (limits.sampling, timeout_s), record, findings)
            failures = failures + 1 if why else 0
        if why:
            findings.left_out[f"{stage.table}: {why}"] += 1
        if failures == _FAILURES_IN_A_ROW:
            raise CalibrateError(
                f"{stage.table}: {failures} points in a row failed; the last with: {why}"
            )
    tell(stage.table, len(stage.points), len(stage.points))


def _obstacle(point: Point, limits: Limits) -> str | None:
    if limits.deadline_s is not None and time.monotonic() >= limits.deadline_s:
        return "the time was up"
    if point.bytes_needed > limits.capacity_bytes:
        return f"needs more memory than the {limits.capacity_bytes / BYTES_PER_GIB:.3g} GiB that were free"
    return None


def _measure_point(
    device: Device,
    point: Point,
    sampled: tuple[Sampling, float],
    record: Record,
    findings: Findings,
) -> str | None:
    """Measure and write one point; what went wrong, if something did."""
    torch = import_torch()
    try:
        prepared = point.prepare()
        timing, state = findings.retries.measured(device, point, prepared, *sampled)
    except torch.OutOfMemoryError:
        device.release()
        return "out of memory"
    except RuntimeError as error:
        device.release()
        return f"PyTorch said: {str(error).strip().splitlines()[0][:160]}"
    record.add({**point.columns, **prepared.columns, **_cells(timing, state)})
    findings.measured += 1
    findings.disturbed.update(state.disturbances)
    return None


def _cells(timing: Timing, state: State) -> dict[str, Cell]:
    return {
        **measured_cells(timing),
        "sm_clock_mhz": "" if state.sm_clock_mhz is None else f"{state.sm_clock_mhz:g}",
    }


def _points(count: int) -> str:
    return f"{count} point{'' if count == 1 else 's'}"
