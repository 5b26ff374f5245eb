"""A fit's data in partitions: their units and weights, and sums over all of them at once."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.campaign.campaign import Campaign
from calibrate.campaign.step_rows import NO_STEPS
from calibrate.fitting.labels import SLICE
from calibrate.fitting.objective import left_out_note
from calibrate.fitting.pieces import UNIT, Contents, Partition, contents_of, point_spreads
from calibrate.fitting.sums import Noise, Question, Sums, Terms, nothing, sums_at, sums_by_group
from calibrate.fitting.thresholds import FULL_SLICE, MOST_CLUSTERS, MOST_POINTS
from calibrate.records.errors import CalibrateError
from calibrate.records.workers import in_parts
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.steps.batch import Floats

Codes = NDArray[np.intp]


@dataclasses.dataclass(frozen=True, eq=False)
class Partitioned:
    """Steps in partitions, some beyond memory.

    ``units`` has a row a unit (:data:`UNIT`) with its number of rows ``n``; ``codes`` says of each partition and piece
    which units it has, ``noise`` what is known of its noise. ``notes`` say what was left out, and how replicates were
    compared. Where ``are_grouped`` a unit's run stands for many.
    """

    partitions: tuple[Partition, ...]
    units: pd.DataFrame
    codes: tuple[tuple[Codes, ...], ...]
    noise: tuple[tuple[Noise, ...], ...]
    are_grouped: bool
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return int(self.units["n"].sum())

    def balanced(self, counting: NDArray[np.bool_] | None = None) -> Floats:
        """The weight of a row of each unit, mean 1 over the rows that count, which balances slices; 0 if not counting.

        The same as of rows in memory: slices of five rows or more count alike, smaller ones by row.
        """
        n = self.units["n"].to_numpy(dtype=np.float64)
        rows = n if counting is None else n * counting
        sizes = np.bincount(self._slices, rows)[self._slices]
        raw = (rows > 0) / np.maximum(sizes, FULL_SLICE)
        scaled: Floats = raw * (rows.sum() / max(float(raw @ rows), np.finfo(float).tiny))
        return scaled

    def unit_of(self, frame: pd.DataFrame) -> Codes:
        """Which unit each row is of, shape (n,); ``frame`` has labels of rows that are among these."""
        node = frame["node"].fillna("") if "node" in frame else ""
        labels = frame.assign(node=node)[UNIT]
        if self.are_grouped:
            labels = labels.assign(run=_grouped(labels["run"]))
        numbered = self.units[UNIT].assign(unit=np.arange(len(self.units)))
        found = labels.merge(numbered, on=UNIT, how="left", validate="many_to_one")
        return found["unit"].to_numpy().astype(np.intp)

    def sums(self, terms: Terms, asked: Sequence[tuple[Mapping[str, float], Floats]]) -> list[Sums]:
        """The sums over all partitions, one for each pair of values and weights by unit."""
        tasks = (
            (partition, terms, noise, [Question(v, self._of_pieces(w, codes)) for v, w in asked])
            for partition, codes, noise in self._parts
        )
        found = [*in_parts(sums_at, tasks)]
        return [functools.reduce(Sums.__add__, of_one) for of_one in zip(*found, strict=True)]

    def sums_by_group(
        self, terms: Terms, values: Mapping[str, float], weight: Floats, groups: Codes
    ) -> Sums:
        """The sums of each group of units; ``groups`` (units,) are numbers from 0 on."""
        tasks = (
            (
                partition,
                terms,
                noise,
                Question(values, self._of_pieces(weight, codes)),
                [groups[code] for code in codes],
            )
            for partition, codes, noise in self._parts
        )
        total = nothing(len(values), int(groups.max()) + 1)
        for of_pieces in in_parts(sums_by_group, tasks):
            for present, sums in of_pieces:
                total.put(present, sums)
        return total

    @property
    def _parts(self) -> Iterator[tuple[Partition, tuple[Codes, ...], tuple[Noise, ...]]]:
        return zip(self.partitions, self.codes, self.noise, strict=True)

    def _of_pieces(self, values: Floats, codes: Sequence[Codes]) -> list[Floats]:
        return [values[code] for code in codes]

    @functools.cached_property
    def _slices(self) -> Codes:
        slices: Codes = self.units.groupby(SLICE, sort=False).ngroup().to_numpy().astype(np.intp)
        return slices


def partitioned(
    campaigns: Sequence[Campaign], model: LatencyModel, hardware: Hardware
) -> Partitioned:
    """The steps of some campaigns of a GPU in partitions, each reduced to what no parameter touches.

    Raises CalibrateError if the model can compute none of them.
    """
    partitions = tuple(_partitions(campaigns))
    several = in_parts(contents_of, ((one, model, hardware) for one in partitions))
    contents, together = _gathered(several)
    pieces = [piece for of_one in contents for piece in of_one]
    reasons: dict[str, int] = {}
    for piece in pieces:
        for reason, rows in piece.left_out.items():
            reasons[reason] = reasons.get(reason, 0) + rows
    notes = [left_out_note(*reason) for reason in reasons.items()]
    if not sum(len(piece.units) for piece in pieces):
        raise CalibrateError("no step row to fit: " + " ".join(notes))
    units, codes, of_units = _units(contents)
    noise, of_noise = _noise(contents, together)
    are_grouped = bool(of_units)
    said = (*notes, *of_units, *of_noise)
    return Partitioned(partitions, units, codes, noise, are_grouped, said)


def _partitions(campaigns: Sequence[Campaign]) -> Iterator[Partition]:
    number = 0
    for campaign in campaigns:
        if campaign.dataset is None:
            if len(campaign.steps):
                yield Partition(number, _bare(campaign, campaign), None, None)
                number += 1
            continue
        for block in campaign.dataset.blocks:
            yield Partition(number, _bare(campaign), campaign.dataset.source, block)
            number += 1


def _bare(campaign: Campaign, steps: Campaign | None = None) -> Campaign:
    """A campaign's name and kind, and its steps where they are given: what a worker is sent of it."""
    frame, table = (pd.DataFrame(), NO_STEPS) if steps is None else (steps.steps, steps.table)
    return Campaign(
        campaign.name, campaign.gpu, campaign.folder, campaign.info, frame, table, (), ()
    )


def _units(
    contents: Sequence[Sequence[Contents]],
) -> tuple[pd.DataFrame, tuple[tuple[Codes, ...], ...], list[str]]:
    """The units of all pieces, which of them each piece has, and what is said of them."""
    frames = [piece.units for of_one in contents for piece in of_one]
    everything = pd.concat(frames, ignore_index=True)
    runs = everything["run"].nunique()
    notes = []
    if runs > MOST_CLUSTERS:
        everything["run"] = _grouped(everything["run"])
        notes.append(
            f"The {runs:,} runs were put together in {MOST_CLUSTERS:,} groups, which intervals and folds take as runs."
        )
    code = everything.groupby(UNIT, sort=False).ngroup().to_numpy(dtype=np.intp)
    units = everything.drop_duplicates(UNIT).reset_index(drop=True)
    units = units.assign(n=np.bincount(code, everything["n"]).astype(np.int64))
    parted: list[Codes] = np.split(code, np.cumsum([len(frame) for frame in frames])[:-1])
    ends = iter(parted)
    return units, tuple(tuple(next(ends) for _ in of_one) for of_one in contents), notes


def _spread_of(points: pd.DataFrame | None, spread: "pd.Series[float]") -> Noise:
    if points is None:
        return Noise(None)
    return Noise(np.asarray(spread.loc[points["hash"]].to_numpy(), dtype=np.float64))


def _grouped(runs: pd.Series) -> list[str]:
    """The group that each run is put in, by its name alone."""
    number = pd.util.hash_array(runs.to_numpy(dtype=object)) % MOST_CLUSTERS
    return [f"group {one}" for one in number]


def _gathered(
    several: Iterable[list[Contents]],
) -> tuple[list[list[Contents]], pd.DataFrame | None]:
    """The contents of all partitions, and the points of all pieces put together; None of too many, or of none.

    Points are let go as soon as there are too many, for each row may have one of its own.
    """
    contents: list[list[Contents]] = []
    together: pd.DataFrame | None = None
    is_few = True
    for of_one in several:
        if not is_few:
            contents.append([one.without_points() for one in of_one])
            continue
        contents.append(of_one)
        points = [piece.points for piece in of_one]
        known = [one for one in points if one is not None]
        if known:
            before = [] if together is None else [together.reset_index()]
            together = point_spreads(pd.concat([*before, *known], ignore_index=True))
        if len(known) < len(points) or (together is not None and len(together) > MOST_POINTS):
            is_few, together = False, None
            contents = [[one.without_points() for one in each] for each in contents]
    return contents, together


def _noise(
    contents: Sequence[Sequence[Contents]], together: pd.DataFrame | None
) -> tuple[tuple[tuple[Noise, ...], ...], list[str]]:
    """What all pieces together know of the spread of points, if they are few enough to be put together."""
    if together is None:
        note = (
            f"There are more than {MOST_POINTS:,} distinct points: replicates were compared within pieces of the "
            "partitions, not over all."
        )
        alone = Noise(None)
        return tuple(tuple(alone for _ in of_one) for of_one in contents), [note]
    spread = together["spread"]
    noise = tuple(
        tuple(_spread_of(piece.points, spread) for piece in of_one) for of_one in contents
    )
    return noise, []
