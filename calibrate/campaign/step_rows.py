"""The good rows of a ``steps`` table, and what is wrong with the others."""

import dataclasses
import functools
import os
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.campaign.physics import check_steps_physics
from calibrate.campaign.quality import check_degrees
from calibrate.campaign.rows import Mask, labels_of
from calibrate.campaign.validation import check_requests, check_steps
from calibrate.records.errors import Problem
from calibrate.records.tables import Table
from sim.architecture import Architecture
from sim.architecture_files import load_architecture
from sim.errors import ArchitectureError
from sim.hardware import Hardware
from sim.steps.batch import SERVED_AS, ArchitectureLoader, Batch, StepTable, served_as

NO_STEPS = StepTable((), np.empty(0, np.intp), np.empty(0, np.int64), np.empty((8, 0)))

_BLOCK_ROWS = 1 << 18


def read_steps(
    source: Table,
    requests: Table | None = None,
    hardware: Hardware | None = None,
    folder: Path | None = None,
) -> tuple[pd.DataFrame, StepTable, list[Problem]]:
    """The good rows of a ``steps`` table (with their ``line``), the same as a step table, and every problem.

    Models are looked for relative to ``folder``, the file's own unless given.
    """
    file, folder = str(source.file), folder or Path(source.file).parent
    steps = source.frame.assign(line=source.lines)
    if not len(steps) or not {"model", "tp"} <= set(steps):
        return steps.iloc[:0], NO_STEPS, []
    problems: list[Problem] = []
    batches: dict[str, Batch] = {}
    if requests is not None:
        good, found = check_requests(requests, steps)
        problems += found
        batches = _batches(good) if len(good) else {}
    load = functools.partial(load_model, folder)
    steps, found = check_steps(file, steps, load, set(batches))
    problems += found
    if not len(steps):
        return steps, NO_STEPS, problems
    problems += check_degrees(file, steps, load)
    table = _with_batches(_table_of(steps, load), steps, batches)
    if hardware is not None and "latency_us" in steps:
        possible, found = check_steps_physics(file, steps, table, hardware)
        problems += found
        steps, table = kept(steps, table, possible)
    return steps, table, problems


def kept(steps: pd.DataFrame, table: StepTable, rows: Mask) -> tuple[pd.DataFrame, StepTable]:
    """The steps of some ``rows`` (n,), and the same as a step table."""
    if rows.all():
        return steps, table
    return steps[rows].reset_index(drop=True), table.take(rows)


def load_model(folder: Path, model: str, dtype: str | None = None) -> Architecture:
    """A registry model, else a model folder named relative to the campaign's (and inside the ground truth).

    With ``dtype`` its weights are of that type. Raises ArchitectureError for any other name.
    """
    try:
        return load_architecture(model, dtype)
    except ArchitectureError:
        if "\0" in model:
            raise
        candidate = (folder / model).resolve()
        is_there = os.path.exists(candidate)  # noqa: PTH110 - a name too long is none
        if is_there and candidate.is_relative_to(folder.resolve().parent.parent):
            return dataclasses.replace(load_architecture(candidate, dtype), name=model)
        raise


def _table_of(steps: pd.DataFrame, load: ArchitectureLoader) -> StepTable:
    """The steps as a table, made a block at a time: the columns of all take more memory than the table."""
    architectures, index = _models_of(steps, load)
    size = len(steps)
    tp, moments = np.empty(size, np.int64), np.empty((8, size))
    for start in range(0, size, _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        part = StepTable.from_counts(architectures, index[rows], steps.iloc[rows])
        tp[rows] = part.tp
        moments[:, rows] = part.moments
    return StepTable(architectures, index, tp, moments)


def _models_of(
    steps: pd.DataFrame, load: ArchitectureLoader
) -> tuple[tuple[Architecture, ...], NDArray[np.intp]]:
    """The distinct models as they are served, and which of them each step has."""
    served = [name for name in SERVED_AS if name in steps]
    label, labels = labels_of(*(steps[name] for name in ("model", *served)))
    loaded = [
        served_as(load, model, dict(zip(served, cells, strict=True))) for model, *cells in labels
    ]
    distinct = tuple(dict.fromkeys(loaded))
    place = np.array([distinct.index(one) for one in loaded], dtype=np.intp)
    return distinct, place[label]


def _batches(requests: pd.DataFrame) -> dict[str, Batch]:
    """Each step's requests, by its ``step_id``; plain arrays, since a log has a hundred thousand steps."""
    step, names = pd.factorize(requests["step_id"])
    order = np.argsort(step, kind="stable")
    lengths = requests[["context_tokens", "new_tokens", "count"]].to_numpy()[order]
    prefill = (requests["phase"] == "prefill").to_numpy(dtype=bool)[order]
    ends = np.searchsorted(step[order], np.arange(len(names)), side="right")
    parts = zip(names, np.split(lengths, ends), np.split(prefill, ends), strict=False)
    return {
        str(name): Batch.from_requests(part[is_prefill], part[~is_prefill][:, [0, 2]])
        for name, part, is_prefill in parts
    }


def _with_batches(table: StepTable, steps: pd.DataFrame, batches: dict[str, Batch]) -> StepTable:
    if not batches or "step_id" not in steps:
        return table
    listed_steps = [
        (row, batches[step_id])
        for row, step_id in enumerate(steps["step_id"])
        if step_id in batches
    ]
    rows = np.array([row for row, _ in listed_steps], dtype=np.intp)
    listed = StepTable.from_batches(
        [batch for _, batch in listed_steps],
        [table.architectures[i] for i in table.arch_index[rows]],
        table.tp[rows].tolist(),
    )
    source = np.arange(len(table))
    source[rows] = len(table) + np.arange(len(rows))
    return StepTable.concatenate([table, listed]).take(source)
