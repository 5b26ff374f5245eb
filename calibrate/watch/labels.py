"""What a source says of its steps beside their sizes: node, engine, model, degree, when they ran."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.watch.rows import LABELS
from sim.steps.batch import Floats

NODES = ("node", "host", "hostname")
TIMES = ("observed_at_unix_ms", "timestamp", "time")
SERVED = ("model", "tp", "dtype")
OTHERS = (*NODES, *TIMES, "engine", *SERVED)
"""Fields beside a step's sizes that are read where a record or a table has them."""

_MS_FROM = 1e11  # seconds since 1970 of the year 5138: such a number counts milliseconds
_MS_PER_S = 1e3


@dataclasses.dataclass(frozen=True)
class Said:
    """What the user says where the source does not: model, degree, weight type, engine."""

    model: str | None = None
    tp: int | None = None
    dtype: str | None = None
    engine: str | None = None

    def to_plain(self) -> dict[str, Any]:
        """What was said, by column."""
        return {
            name: value for name, value in dataclasses.asdict(self).items() if value is not None
        }


def of_path(path: Path | str) -> dict[str, str]:
    """The keys in the names of the folders above a file, as Hive writes them: ``node=n7/engine=vllm``."""
    parts = [part.partition("=") for part in PurePath(path).parent.parts]
    return {key: unquote(value) for key, mark, value in parts if mark and key in OTHERS}


def labels_of(frame: pd.DataFrame, path_labels: Mapping[str, str], said: Said) -> pd.DataFrame:
    """The labels of every row: its own, else the path's, else the user's; a node is its worker where none is named."""
    given = {**said.to_plain(), **path_labels}
    columns: dict[str, pd.Categorical[Any]] = {}
    for label in LABELS:
        name = _node_column(frame) if label == "node" else label
        columns[label] = _categories(frame.get(name), str(given.get(label, "")), len(frame))
    return pd.DataFrame(columns)


def _node_column(frame: pd.DataFrame) -> str:
    return next((name for name in NODES if name in frame), "run_id")


def _categories(cells: "pd.Series[Any] | None", otherwise: str, size: int) -> "pd.Categorical[Any]":
    """The cells as texts, and what is said ``otherwise`` where they are empty."""
    if cells is None:
        return _coded(np.zeros(size, dtype=np.int64), [otherwise])
    if not isinstance(cells.dtype, pd.CategoricalDtype):
        cells = cells.astype(object).astype("category")
    codes = cells.cat.codes.to_numpy().astype(np.int64)
    names = [*cells.cat.categories, None]  # the code of an empty cell is −1
    texts = [otherwise if name is None else _text(name) or otherwise for name in names]
    distinct = list(dict.fromkeys(texts))
    places = np.array([distinct.index(text) for text in texts], dtype=np.int64)
    return _coded(places[codes], distinct)


def _coded(codes: NDArray[np.int64], names: list[str]) -> "pd.Categorical[Any]":
    coded: pd.Categorical[Any] = pd.Categorical.from_codes(codes, pd.Index(names, dtype=object))
    return coded


def _text(cell: object) -> str:
    """A label as text: whole numbers without a point."""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def times_of(frame: pd.DataFrame) -> Floats | None:
    """When each row ran, in seconds since 1970, shape (n,); None where no column says it of every row."""
    name = next((name for name in TIMES if name in frame), None)
    if name is None:
        return None
    cells = frame[name]
    numbers = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)
    if np.isnan(numbers).all():
        moments = pd.to_datetime(cells, errors="coerce", utc=True, format="ISO8601")
        numbers = (moments - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy(np.float64)
    if not np.isfinite(numbers).all():
        return None
    return np.where(numbers > _MS_FROM, numbers / _MS_PER_S, numbers)
