"""Errors of predictions over partitions: sums and histograms of each group of rows, of which those of all are made."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.fitting.partitioned import Codes, Partitioned
from calibrate.fitting.pieces import Partition, pieces
from calibrate.records.workers import in_parts
from calibrate.trust.metrics import Errors
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.steps.batch import Floats, StepTable

_LEAST, _MOST, _BINS = 1e-4, 1e2, 1200
_EDGES = np.geomspace(_LEAST, _MOST, _BINS + 1)
RESOLUTION = float(_EDGES[1] / _EDGES[0]) - 1.0
"""How far a median or a percentile may be off, as a share of itself, for coming from a histogram."""

_SLICES = ("phase", "model", "tp", "campaign")


@dataclasses.dataclass(frozen=True, eq=False)
class Tally:
    """Of so many groups of rows their number ``n``, Σ|e|, Σe and a histogram (groups, bins) of |e|, e the error."""

    n: Floats
    size: Floats
    bias: Floats
    histogram: Floats

    @classmethod
    def of_none(cls, groups: int) -> "Tally":
        """No row."""
        return cls(
            np.zeros(groups), np.zeros(groups), np.zeros(groups), np.zeros((groups, _BINS + 2))
        )

    @classmethod
    def of(cls, relative: Floats, group: NDArray[np.intp], groups: int) -> "Tally":
        """Of relative errors (n,), each in a group."""
        size = np.abs(relative)
        place = _bin(size)
        histogram = np.bincount(group * (_BINS + 2) + place, minlength=groups * (_BINS + 2))
        return cls(
            np.bincount(group, minlength=groups).astype(np.float64),
            np.bincount(group, size, groups).astype(np.float64),
            np.bincount(group, relative, groups).astype(np.float64),
            histogram.reshape(groups, -1).astype(np.float64),
        )

    def put(self, groups: Codes, other: "Tally") -> None:
        """Add what another says of some groups."""
        self.n[groups] += other.n
        self.size[groups] += other.size
        self.bias[groups] += other.bias
        self.histogram[groups] += other.histogram

    def errors(self, groups: NDArray[np.bool_]) -> Errors:
        """The errors of all rows of some groups (which have one at least)."""
        n = float(self.n[groups].sum())
        histogram = self.histogram[groups].sum(axis=0)
        return Errors(
            int(n),
            float(self.size[groups].sum() / n),
            _quantile(histogram, 0.5),
            _quantile(histogram, 0.9),
            float(self.bias[groups].sum() / n),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Predicted:
    """Which configuration predicts the rows of each unit: ``hardware[part[unit]]``, none where that is −1."""

    hardware: Sequence[Hardware]
    part: NDArray[np.intp]


def errors_by_slice(
    data: Partitioned, model: LatencyModel, kinds: Mapping[str, Predicted]
) -> dict[str, dict[str, Errors]]:
    """Errors of each kind of prediction by ``all``, ``phase:…``, ``model:…``, ``tp:…``, ``campaign:…``, ``node:…``.

    Medians and percentiles are good to :data:`RESOLUTION` of themselves.
    """
    columns = [*_SLICES, *(["node"] if data.units["node"].nunique() > 1 else [])]
    labels = data.units.groupby(columns, sort=False)
    group = labels.ngroup().to_numpy(dtype=np.intp)
    names = data.units.drop_duplicates(columns)[columns].reset_index(drop=True)
    tallies = {name: Tally.of_none(len(names)) for name in kinds}
    tasks = (
        (
            partition,
            model,
            [group[code] for code in codes],
            [(one.hardware, [one.part[code] for code in codes]) for one in kinds.values()],
        )
        for partition, codes in zip(data.partitions, data.codes, strict=True)
    )
    for of_pieces in in_parts(_tallied, tasks):
        for present, of_kinds in of_pieces:
            for name, tally in zip(kinds, of_kinds, strict=True):
                tallies[name].put(present, tally)
    return {name: _by_slice(tally, names) for name, tally in tallies.items()}


def _tallied(
    partition: Partition,
    model: LatencyModel,
    groups: Sequence[Codes],
    kinds: Sequence[tuple[Sequence[Hardware], Sequence[Codes]]],
) -> list[tuple[Codes, list[Tally]]]:
    found = []
    for piece in pieces(partition, model):
        present, local = np.unique(groups[piece.number], return_inverse=True)
        group = local[piece.unit]
        measured_us = np.exp(piece.log_measured)
        tallies = []
        for hardware, parts in kinds:
            predicted = _predicted(piece.table, model, hardware, parts[piece.number][piece.unit])
            relative = predicted / measured_us - 1.0
            known = ~np.isnan(relative)
            tallies.append(Tally.of(relative[known], group[known], len(present)))
        found.append((present, tallies))
    return found


def _predicted(
    table: StepTable, model: LatencyModel, hardware: Sequence[Hardware], part: Codes
) -> Floats:
    """Predictions in µs, shape (n,), each by the configuration of its row's part; NaN where that is −1."""
    predicted = np.full(len(table), np.nan)
    for number in np.flatnonzero(np.bincount(part[part >= 0])).tolist():
        # Of all rows: what a model makes of a table is kept, what it makes of some of its rows is not
        np.copyto(predicted, model.predict_us(table, hardware[number]), where=part == number)
    return predicted


def _by_slice(tally: Tally, names: pd.DataFrame) -> dict[str, Errors]:
    known = tally.n > 0
    if not known.any():
        return {}
    return {name: tally.errors(groups & known) for name, groups in _slices(names, known)}


def _slices(
    names: pd.DataFrame, known: NDArray[np.bool_]
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    yield "all", known
    for column in names:
        cells = names[column].to_numpy()
        for label in sorted(set(cells[known].tolist())):
            yield f"{column}:{label}", cells == label


def _bin(size: Floats) -> NDArray[np.intp]:
    """The bin of each size: 0 below the first, the last one above all; those of even width in the logarithm."""
    with np.errstate(divide="ignore"):
        place = np.log(size / _LEAST) * (_BINS / np.log(_MOST / _LEAST)) + 1.0
    bins: NDArray[np.intp] = np.clip(place, 0.0, _BINS + 1).astype(np.intp)
    return bins


def _quantile(histogram: Floats, level: float) -> float:
    """A quantile, evenly spread within its bin; what is below the least bin counts as 0, above the last as that."""
    below = np.cumsum(histogram)
    target = level * below[-1]
    place = int(np.searchsorted(below, target))
    if place == 0 or place > _BINS:
        return 0.0 if place == 0 else _MOST
    inside = (target - below[place - 1]) / histogram[place]
    low, high = _EDGES[place - 1], _EDGES[place]
    return float(low + inside * (high - low))
