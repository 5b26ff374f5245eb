"""Whether the models of a table can be loaded as its rows say that they are served."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.campaign.rows import Mask, labels_of
from calibrate.campaign.thresholds import MOST_MODELS_NAMED
from calibrate.records.errors import Problem
from sim.errors import ArchitectureError
from sim.steps.batch import SERVED_AS, ArchitectureLoader, served_as
from sim.units import DTYPE_BYTES

_UNKNOWN_MODEL = "Correct the name or give a folder"
_OF_EXPERTS = {
    "ep": "Give how many GPUs share the experts whole, a divisor of their number; 1 without experts",
    "moe_dtype": "Leave it empty: the weight type of the whole model is that of dtype",
}
"""What only some models can be served with, and the fix."""


def check_models(
    file: str, steps: pd.DataFrame, load: ArchitectureLoader
) -> tuple[list[Problem], Mask]:
    """Problems of models that cannot be loaded as the type that their rows state, and which rows have them."""
    served = [name for name in SERVED_AS if name in steps]
    label, labels = labels_of(steps["model"], *(_where_known(steps, name) for name in served))
    faults = [_fault(load, one, served) for one in labels]
    unknown = [at for at, fault in enumerate(faults) if fault]
    lines = steps["line"].to_numpy()
    problems = [
        Problem("error", file, str(faults[at]), cure, _numbers(lines[label == at]), *cell)
        for at in unknown[:MOST_MODELS_NAMED]
        for cure, *cell in [_cure(load, labels[at], served)]
    ]
    if several := unknown[MOST_MODELS_NAMED:]:
        what = f"{len(several):,} models more are unknown, or cannot be read"
        rows = _numbers(lines[np.isin(label, several)])
        problems.append(
            Problem("error", file, what, _UNKNOWN_MODEL, rows, *_model(labels, several[0]))
        )
    return problems, np.isin(label, unknown)


def _cure(
    load: ArchitectureLoader, label: tuple[Any, ...], columns: Sequence[str]
) -> tuple[str, str, str]:
    """The fix of a label that cannot be loaded, and the column and value that it is about."""
    model, cells = label[0], dict(zip(columns, label[1:], strict=True))
    for column in cells.keys() & _OF_EXPERTS.keys():
        others = {name: cell for name, cell in cells.items() if name != column}
        if not _fault(load, (model, *others.values()), others):
            return _OF_EXPERTS[column], column, _shown(cells[column])
    return _UNKNOWN_MODEL, *_model([label], 0)


def _shown(cell: str | float) -> str:
    return cell if isinstance(cell, str) else f"{float(cell):g}"


def _model(labels: Sequence[tuple[str, ...]], at: int) -> tuple[str, str]:
    """Column and value of a problem with the model of a label."""
    return "model", labels[at][0][:60]


def _numbers(lines: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(lines.tolist())


def _where_known(steps: pd.DataFrame, column: str) -> pd.Series:
    """A column of :data:`SERVED_AS`, empty where its own check refuses the cell."""
    if column == "ep":
        return steps["ep"].where(steps["ep"] >= 1, 1.0)
    unknown = unknown_type(steps, column)
    return steps[column].astype(object).where(~unknown, "") if unknown.any() else steps[column]


def _fault(
    load: ArchitectureLoader, label: tuple[Any, ...], columns: Iterable[str]
) -> ArchitectureError | None:
    model, *cells = label
    try:
        served_as(load, model, dict(zip(columns, cells, strict=True)))
    except ArchitectureError as error:
        return error
    return None


def unknown_type(steps: pd.DataFrame, column: str) -> Mask:
    """Rows whose cell is neither empty nor a weight type."""
    if column not in steps:
        return np.zeros(len(steps), dtype=bool)
    return ~steps[column].isin(["", *DTYPE_BYTES]).to_numpy()
