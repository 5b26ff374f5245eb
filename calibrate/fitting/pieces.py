"""Steps of a data set as a fit sees them, a piece at a time: all that no parameter touches, made once a row."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.campaign.campaign import Campaign
from calibrate.campaign.dataset import Source, good_pieces
from calibrate.campaign.rows import first_rows, labels_of, row_hashes
from calibrate.campaign.step_rows import kept
from calibrate.fitting.labels import POINT, SLICE, coded_labels
from calibrate.fitting.objective import computable, without_unused
from calibrate.fitting.thresholds import MOST_POINTS
from calibrate.records import caches
from calibrate.records.partitions import Block
from calibrate.records.tables import without_categories
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.steps.batch import Floats, StepTable

_CACHED_ROWS = 1 << 14

UNIT = ["run", *SLICE, "campaign", "node"]
"""Columns that are the same for rows of a unit: whatever a fit weighs, leaves out or draws is made of units."""


@dataclasses.dataclass(frozen=True, eq=False)
class Partition:
    """A part of a fit's data: a ``block`` of a data set, or a campaign that is in memory.

    ``campaign`` has no steps where there is a block: it says what they are called.
    """

    number: int
    campaign: Campaign
    source: Source | None
    block: Block | None

    @property
    def cache(self) -> str:
        """The name of what a worker keeps of it; empty where it is in memory."""
        return "" if self.source is None else self.source.cache


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """Some steps of a piece of a partition, which has this ``number``; every array has one entry a row.

    ``spread`` is the relative noise of its own standard deviation or of replicates in the piece; ``unit`` and ``point``
    say which of that piece's units and points a row is of, −1 where its spread is its own.
    """

    number: int
    table: StepTable
    log_measured: Floats
    spread: Floats
    unit: NDArray[np.int32]
    point: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.log_measured)

    def slices(self) -> "Iterator[Piece]":
        """The same steps, so few at a time that what is made of them stays in the processor's cache."""
        for first in range(0, len(self), _CACHED_ROWS):
            rows = np.arange(first, min(first + _CACHED_ROWS, len(self)))
            yield Piece(
                self.number,
                self.table.take(rows),
                self.log_measured[rows],
                self.spread[rows],
                self.unit[rows],
                self.point[rows],
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Contents:
    """What a piece holds: its ``units`` with their rows ``n``, and the latencies of its points, None of too many.

    ``left_out`` says how many rows the model cannot compute, by reason.
    """

    units: pd.DataFrame
    points: pd.DataFrame | None
    left_out: dict[str, int]

    def without_points(self) -> "Contents":
        """The same, as if its points were too many."""
        return self if self.points is None else dataclasses.replace(self, points=None)


def contents_of(partition: Partition, model: LatencyModel, hardware: Hardware) -> list[Contents]:
    """What the pieces of a partition hold, which are kept on this worker from now on, as reduced for a GPU."""
    found: list[Contents] = []
    made = _reduced(_made(partition, model, found), model, hardware)
    if partition.cache:
        made = caches.keep(partition.cache, _name(partition, model), made)
    for _ in made:
        pass
    return found


def pieces(partition: Partition, model: LatencyModel) -> Iterator[Piece]:
    """The pieces of a partition, as this worker kept them or made anew."""
    known = None
    if partition.cache:
        known = caches.kept(partition.cache, _name(partition, model))
    return _made(partition, model, []) if known is None else known


def _reduced(made: Iterator[Piece], model: LatencyModel, hardware: Hardware) -> Iterator[Piece]:
    """The pieces with what the model makes of their rows for a GPU, once and for all."""
    for piece in made:
        model.predict_us(piece.table, hardware)
        yield piece


def _made(partition: Partition, model: LatencyModel, found: list[Contents]) -> Iterator[Piece]:
    campaign = partition.campaign
    if partition.source is None or partition.block is None:
        several = iter([(campaign.steps, campaign.table)])
    else:
        several = good_pieces(partition.source, partition.block)
    for steps, table in several:
        if len(steps):
            of_campaign = dataclasses.replace(campaign, steps=steps, table=table)
            piece, contents = _piece(len(found), of_campaign, model)
            found.append(contents)
            yield from piece.slices()


def _piece(number: int, campaign: Campaign, model: LatencyModel) -> tuple[Piece, Contents]:
    usable, left_out = computable(model, campaign.table)
    frame, table = kept(coded_labels(campaign), campaign.table, usable)
    if "node" not in frame:
        frame["node"] = ""
    unit, units = _distinct(frame)
    latency = frame["latency_us"].to_numpy(dtype=np.float64)
    spread, point, points = _replicates(frame, latency)
    piece = Piece(number, without_unused(table), np.log(latency), spread, unit, point)
    return piece, Contents(units, points, left_out)


def _distinct(frame: pd.DataFrame) -> tuple[NDArray[np.int32], pd.DataFrame]:
    """Which unit each row is of, and the units with their numbers of rows."""
    codes, _ = labels_of(*(frame[name] for name in UNIT))
    units = without_categories(frame[UNIT].iloc[first_rows(codes)]).reset_index(drop=True)
    return codes.astype(np.int32), units.assign(n=np.bincount(codes, minlength=len(units)))


def _replicates(
    frame: pd.DataFrame, latency: Floats
) -> tuple[Floats, NDArray[np.int32], pd.DataFrame | None]:
    """The spread of each row as its piece knows it, which point it is of, and what the piece knows of its points."""
    hashes = row_hashes(frame[name] for name in POINT)
    code, points = _points(pd.DataFrame({"hash": hashes, "n": 1, "mean": latency, "m2": 0.0}))
    spread: Floats = points["spread"].to_numpy()[code]
    point: NDArray[np.int32] = code.astype(np.int32)
    if "latency_std_us" in frame:
        own = frame["latency_std_us"].to_numpy(dtype=np.float64) / latency
        stated = ~np.isnan(own)
        spread = np.where(stated, own, spread)
        point = np.where(stated, np.int32(-1), point)
    if len(points) > MOST_POINTS:
        return spread, np.full(len(code), -1, np.int32), None
    return spread, point, points.reset_index()


def point_spreads(points: pd.DataFrame) -> pd.DataFrame:
    """Rows of one ``hash`` put together (Chan): ``n``, ``mean`` and ``m2`` of their latencies, relative ``spread``."""
    return _points(points)[1]


def _points(rows: pd.DataFrame) -> tuple[NDArray[np.intp], pd.DataFrame]:
    """Which point each row is of, and the points."""
    code, distinct = pd.factorize(rows["hash"].to_numpy())
    n_of_row, mean_of_row, m2_of_row = (rows[name].to_numpy() for name in ("n", "mean", "m2"))
    n = _sums(code, n_of_row)
    mean = _sums(code, n_of_row * mean_of_row) / n
    m2 = _sums(code, m2_of_row + n_of_row * (mean_of_row - mean[code]) ** 2)
    spread = np.sqrt(m2 / np.maximum(n - 1, 1)) / mean
    index = pd.Index(distinct, name="hash")
    return code, pd.DataFrame({"n": n, "mean": mean, "m2": m2, "spread": spread}, index=index)


def _sums(code: NDArray[np.intp], values: Floats) -> Floats:
    return np.bincount(code, values).astype(np.float64)


def _name(partition: Partition, model: LatencyModel) -> str:
    return f"{model.name}-{partition.number}"
