"""The watch over all slices: rows come in, each goes to its slice, and what is not judged is counted."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from calibrate.watch.outside import Outside
from calibrate.watch.reference import Reference
from calibrate.watch.ring import Steps
from calibrate.watch.rows import PHASE, Rows
from calibrate.watch.served import Served
from calibrate.watch.shapes import octaves
from calibrate.watch.slices import Alarm, Settings, Slice
from calibrate.watch.thresholds import MOST_SLICES
from sim.errors import ArchitectureError
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel, beyond_window
from sim.steps.batch import Floats, StepTable

_BLOCK_ROWS = 1 << 16
_PHASES = np.array(["empty", "decode", "prefill", "mixed"], dtype=object)
_NO_REFERENCES: Mapping[str, Reference] = {}


@dataclasses.dataclass
class Watch:
    """Steps against a calibration. ``by`` are the labels that divide them, ``given`` a run's references by phase.

    ``slices`` are by the values of the labels and the phase; ``left_out`` counts steps that cannot be judged by why.
    """

    model: LatencyModel
    hardware: Hardware
    by: tuple[str, ...]
    settings: Settings
    given: Mapping[str, Reference] = dataclasses.field(default_factory=lambda: _NO_REFERENCES)
    served: Served = dataclasses.field(default_factory=Served)
    slices: dict[tuple[str, ...], Slice] = dataclasses.field(default_factory=dict)
    outside: Outside = dataclasses.field(default_factory=Outside)
    left_out: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    steps: int = 0
    first_at: float = float("nan")
    last_at: float = float("nan")

    @property
    def dimensions(self) -> tuple[str, ...]:
        """What the parts of a slice's key are."""
        return (*self.by, PHASE)

    @property
    def alarms(self) -> list[Alarm]:
        """The alarms of all slices that are kept, by when they were sure."""
        found = [alarm for one in self.slices.values() for alarm in one.alarms]
        return sorted(found, key=lambda alarm: (alarm.at, alarm.slice))

    def take_in(self, rows: Rows) -> None:
        """Judge some rows, in the order in which they ran."""
        for begin in range(0, len(rows), _BLOCK_ROWS):
            self._take_block(rows.take(np.arange(begin, min(begin + _BLOCK_ROWS, len(rows)))))

    def _take_block(self, rows: Rows) -> None:
        self.steps += len(rows)
        self.first_at = float(np.fmin(self.first_at, rows.at.min()))
        self.last_at = float(np.fmax(self.last_at, rows.at.max()))
        rows = self._computable(rows)
        if not len(rows):
            return
        ratio = rows.measured_us / self.model.predict_us(rows.table, self.hardware)
        good = np.isfinite(ratio) & (ratio > 0)
        if not good.all():
            self.left_out["without a time above 0"] += int((~good).sum())
            rows, ratio = rows.take(good), ratio[good]
        self._divide(rows, np.log(ratio))

    def _divide(self, rows: Rows, deviation: Floats) -> None:
        """To each slice its steps."""
        sizes, served = octaves(rows.table), self.served.numbers_of(rows.table)
        for key, places in _grouped(rows, self.by):
            found = self._slice(key)
            if found is None:
                self.left_out[f"of slices beyond the first {MOST_SLICES}"] += len(places)
                continue
            steps = Steps(
                rows.table.moments[:, places], served[places], deviation[places], rows.at[places]
            )
            unknown = found.outside
            found.take_in(steps, sizes[:, places])
            if found.outside > unknown and found.reference is not None:
                beyond = np.isnan(found.reference.expected(sizes[:, places], steps.served))
                self.outside.count(steps.take(beyond), sizes[:, places][:, beyond])

    def _slice(self, key: tuple[str, ...]) -> Slice | None:
        if key not in self.slices:
            if len(self.slices) >= MOST_SLICES:
                return None
            number = len(self.slices) + 1
            self.slices[key] = Slice(key, number, self.settings, self.given_for(key))
        return self.slices[key]

    def given_for(self, key: tuple[str, ...]) -> Reference | None:
        """The run's reference for a slice, by its phase; None where slices learn their own."""
        return self.given.get(key[-1], Reference({}, {})) if self.given else None

    def _computable(self, rows: Rows) -> Rows:
        """The rows that the model can compute; the others are counted."""
        usable = _is_computable(self.model, rows.table, self.left_out)
        if usable.all() and len(np.unique(rows.table.arch_index)) == len(rows.table.architectures):
            return rows
        kept = rows.take(usable)
        return dataclasses.replace(kept, table=_of_those_used(kept.table))


def _of_those_used(table: StepTable) -> StepTable:
    """The same steps without architectures that none is of, which the model may refuse."""
    used, index = np.unique(table.arch_index, return_inverse=True)
    architectures = tuple(table.architectures[number] for number in used.tolist())
    return StepTable(architectures, index.astype(np.intp), table.tp, table.moments)


def _is_computable(
    model: LatencyModel, table: StepTable, left_out: collections.Counter[str]
) -> NDArray[np.bool_]:
    """Which steps the model can compute, shape (n,)."""
    able = np.ones(len(table.architectures), dtype=bool)
    for number, arch in enumerate(table.architectures):
        try:
            model.limits(arch)
        except ArchitectureError as error:
            able[number] = False
            left_out[str(error)] += int((table.arch_index == number).sum())
    usable: NDArray[np.bool_] = able[table.arch_index]
    beyond = usable & model.beyond(table)
    for number in np.unique(table.arch_index[beyond]).tolist():
        text = beyond_window(model.name, table.architectures[number])
        left_out[text] += int((beyond & (table.arch_index == number)).sum())
    return usable & ~beyond


def _grouped(rows: Rows, by: Sequence[str]) -> list[tuple[tuple[str, ...], NDArray[np.intp]]]:
    """The rows of each slice, in order, by its key."""
    moments = rows.table.moments
    codes = (2 * (moments[0] > 0) + (moments[6] > 0)).astype(np.int64)
    for name in by:
        column = rows.labels[name].cat
        codes = codes * (len(column.categories) + 1) + column.codes.to_numpy()
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    parts = np.split(order, starts[1:]) if len(order) else []
    return [(_key(rows, by, part[0]), part) for part in parts]


def _key(rows: Rows, by: Sequence[str], row: int) -> tuple[str, ...]:
    moments = rows.table.moments[:, row]
    phase = str(_PHASES[2 * int(moments[0] > 0) + int(moments[6] > 0)])
    return (*(str(rows.labels[name].iloc[row]) for name in by), phase)
