"""Steps beyond memory: a data set that is checked, and read, a piece at a time; a part of it stands for all."""

import dataclasses
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.campaign.findings import Finding, joined
from calibrate.campaign.step_checks import checked_steps
from calibrate.campaign.step_rows import NO_STEPS
from calibrate.campaign.thresholds import IN_MEMORY_ROWS, LEAST_OF_SLICE, SAMPLE_ROWS
from calibrate.records import caches
from calibrate.records.errors import Problem, UnreadableError
from calibrate.records.partitions import Block, blocks_of, digest_of, find_parts, pieces_of
from calibrate.records.schema import TABLES, Column
from calibrate.records.tables import check_rows, without_categories
from calibrate.records.workers import in_parts
from sim.hardware import Hardware
from sim.steps.batch import StepTable

_KEYS = tuple(Column(name, "text") for name in ("date", "node", "engine"))

_OF_A_FIT = ("line", "model", "run_id", "node", "latency_us", "latency_std_us")

Rows = tuple[pd.DataFrame, StepTable]
"""Some good steps, and the same as a step table."""


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """What every row of a data set is checked against, and of how many ``rows``; the same on every worker.

    ``folder`` is the campaign's, ``serving`` are its serving runs, ``cache`` names what a worker keeps of the work.
    """

    folder: Path
    rows: int
    hardware: Hardware | None
    serving: pd.DataFrame
    cache: str


@dataclasses.dataclass(frozen=True, eq=False)
class StepsDataset:
    """The steps of a campaign where they are more than memory should hold, as blocks of its files."""

    place: str
    source: Source
    blocks: tuple[Block, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Loaded:
    """A data set as a campaign holds it: ``steps`` and ``table`` have all good rows, or some that stand for them.

    ``dataset`` is None where all are there. ``used`` of the rows are good.
    """

    steps: pd.DataFrame
    table: StepTable
    dataset: StepsDataset | None
    rows: int
    used: int
    digest: str
    problems: tuple[Problem, ...]


def load_dataset(
    place: str, folder: Path, serving: pd.DataFrame, hardware: Hardware | None
) -> Loaded:
    """Check every row of a data set, and load it, or a part where it is larger than memory should hold."""
    try:
        parts, problems = find_parts(place)
    except UnreadableError as error:
        return Loaded(pd.DataFrame(), NO_STEPS, None, 0, 0, "", (error.problem,))
    blocks = blocks_of(parts)
    cache = caches.new_cache()
    rows = sum(block.rows for block in blocks)
    source = Source(folder, rows, hardware, serving, cache)
    weakref.finalize(source, caches.forget, cache)
    checked = [*in_parts(_checked, [(source, block) for block in blocks])]
    found = [finding for one in checked for finding in one.findings]
    steps, table = _together([sample for one in checked for sample in one.samples])
    is_whole = rows <= IN_MEMORY_ROWS
    if not is_whole:
        problems.append(_part_note(place, rows, len(steps)))
    return Loaded(
        steps,
        table,
        None if is_whole else StepsDataset(place, source, tuple(blocks)),
        rows,
        sum(one.used for one in checked),
        digest_of(parts, place),
        (*problems, *joined(found)),
    )


def _part_note(place: str, rows: int, shown: int) -> Problem:
    message = f"has {rows:,} rows: fit and validate read all, other commands {shown:,} of them"
    return Problem("warning", place, message, "Nothing: these stand for all")


def good_pieces(source: Source, block: Block) -> Iterator[Rows]:
    """The good rows of a block, a piece at a time; their ``line`` counts over all files as if they were one.

    They have the columns that a fit reads beside the step table, at the least.

    Raises UnreadableError for a file that is damaged, or gone since the data set was loaded.
    """
    pieces = caches.kept(source.cache, _name(block))
    return _pieces(source, block, []) if pieces is None else pieces


@dataclasses.dataclass(frozen=True, eq=False)
class _Checked:
    """What a block holds: good rows ``used``, findings, and ``samples`` of the rows of each piece."""

    used: int
    findings: list[Finding]
    samples: list[Rows]


def _checked(source: Source, block: Block) -> _Checked:
    findings: list[Finding] = []
    samples: list[Rows] = []
    sizes: list[int] = []

    def good() -> Iterator[Rows]:
        for steps, table in _pieces(source, block, findings):
            sizes.append(len(steps))
            samples.append(_sampled(steps, table, source.rows))
            yield steps[[name for name in _OF_A_FIT if name in steps]], table

    try:
        for _ in caches.keep(source.cache, _name(block), good()):
            pass
    except UnreadableError as error:
        findings.append(Finding(error.problem, 0))
    return _Checked(sum(sizes), findings, samples)


def _pieces(source: Source, block: Block, findings: list[Finding]) -> Iterator[Rows]:
    columns = [*TABLES["steps"], *_KEYS]
    known = {column.name for column in columns}
    columns += [Column(key, "text") for key, _ in block.keys if key not in known]
    for raw, first in pieces_of(block):
        lines = np.arange(first + 2, first + 2 + len(raw))
        read = check_rows(block.place, _with_run(raw, block), lines, columns)
        steps, table, problems = checked_steps(
            read, None, source.serving, source.hardware, source.folder
        )
        findings += map(Finding.of, [*read.problems, *problems])
        if len(steps):
            steps = steps.assign(line=steps["line"] + (block.number - block.first))
        yield _kept(steps), table


def _with_run(raw: pd.DataFrame, block: Block) -> pd.DataFrame:
    """The rows, those without a ``run_id`` as one run of their partition: its keys, or else its file."""
    words = [f"{key}={value}" for key, value in block.keys] or [block.place.rpartition("/")[2]]
    run = pd.Series("/".join(words), index=raw.index, dtype="category")
    if "run_id" not in raw:
        return raw.assign(run_id=run)
    given = raw["run_id"]
    empty = given.isna() | (given == "")
    if not empty.any():
        return raw
    return raw.assign(run_id=given.astype(object).where(~empty, run.iloc[0]).astype("category"))


def _kept(steps: pd.DataFrame) -> pd.DataFrame:
    """The rows of a large data set with what their step table does not say; a text that repeats once."""
    texts = [name for name in steps if steps[name].dtype == object]
    return steps.astype(dict.fromkeys(texts, "category"))


def _sampled(steps: pd.DataFrame, table: StepTable, rows: int) -> Rows:
    """Some of the rows, as many as their share of all ``rows`` and a few of every slice; all of few."""
    if rows <= IN_MEMORY_ROWS or not len(steps):
        return steps, table
    chosen = _chosen(steps, table, SAMPLE_ROWS / rows)
    return steps.iloc[chosen].reset_index(drop=True), table.take(chosen)


def _chosen(steps: pd.DataFrame, table: StepTable, share: float) -> NDArray[np.intp]:
    key = np.random.default_rng(int(steps["line"].iloc[0])).random(len(steps))
    chosen = key < share
    has_prefill, has_decode = table.moments[[0, 6]] > 0
    labels = ((table.arch_index * 4096 + table.tp) * 2 + has_prefill) * 2 + has_decode
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        chosen[rows[np.argsort(key[rows])[:LEAST_OF_SLICE]]] = True
    return np.flatnonzero(chosen)


def _together(several: Sequence[Rows]) -> Rows:
    with_rows = [(steps, table) for steps, table in several if len(steps)]
    if not with_rows:
        return pd.DataFrame(), NO_STEPS
    frames = [without_categories(steps) for steps, _ in with_rows]
    tables = [table for _, table in with_rows]
    return pd.concat(frames, ignore_index=True), StepTable.concatenate(tables)


def _name(block: Block) -> str:
    return f"checked-{block.number}"
