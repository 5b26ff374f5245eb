"""Errors of predictions, as fractions, for all rows and by slice."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import pandas as pd
import pydantic
from pydantic_core import PydanticCustomError

from sim.steps.batch import Floats

_SLICES = ("phase", "model", "tp", "campaign")
_KINDS = ("layers", "dtype", "ep")


@dataclasses.dataclass(frozen=True)
class Errors:
    """Absolute relative errors of n rows: mean, median, 90th percentile; ``bias`` is the mean signed one."""

    n: int
    mape: float
    median_ape: float
    p90_ape: float
    bias: float


def _whole(slices: dict[str, Errors]) -> dict[str, Errors]:
    """The slices themselves. Raises PydanticCustomError where they lack the whole of which they are parts."""
    if slices and "all" not in slices:
        raise PydanticCustomError("no_whole", "lacks the slice 'all'")
    return slices


Slices = Annotated[dict[str, Errors], pydantic.AfterValidator(_whole)]
"""Errors by ``all`` and by parts of it, as :func:`errors_by_label` gives them; empty where there are none."""
SomeSlices = Annotated[Slices, pydantic.Field(min_length=1)]
"""The same where there are some."""


def errors(predicted_us: Floats, measured_us: Floats) -> Errors:
    """Errors of predictions against measurements, both in µs and of shape (n,), n ≥ 1."""
    relative = predicted_us / measured_us - 1.0
    size = np.abs(relative)
    return Errors(
        len(size),
        float(size.mean()),
        float(np.median(size)),
        float(np.quantile(size, 0.9)),
        float(relative.mean()),
    )


def errors_by_slice(predicted_us: Floats, frame: pd.DataFrame) -> dict[str, Errors]:
    """Errors by ``all``, ``phase:…``, ``model:…``, ``tp:…`` and ``campaign:…``; NaN predictions are left out.

    Where rows differ in them, by ``layers:…`` (what sets a model's layers apart), ``dtype:…`` and ``ep:…`` too.
    ``frame`` has ``latency_us`` and those columns.
    """
    measured = frame["latency_us"].to_numpy(dtype=np.float64)
    kinds = [name for name in _KINDS if name in frame and frame[name].nunique() > 1]
    return errors_by_label(predicted_us, measured, frame, (*_SLICES, *kinds))


def errors_by_label(
    predicted: Floats, measured: Floats, frame: pd.DataFrame, columns: Sequence[str]
) -> dict[str, Errors]:
    """Errors by ``all``, then by ``column:label`` for every label in ``columns`` of ``frame``.

    ``predicted`` and ``measured`` have shape (n,) and one unit. Rows where either is NaN are left out; without any
    other there are no errors, and the dictionary is empty.
    """
    known = ~(np.isnan(predicted) | np.isnan(measured))
    if not known.any():
        return {}
    slices = {"all": errors(predicted[known], measured[known])}
    for column in columns:
        labels = frame[column].to_numpy()
        for label in sorted(set(labels[known].tolist())):
            rows = known & (labels == label)
            slices[f"{column}:{label}"] = errors(predicted[rows], measured[rows])
    return slices
