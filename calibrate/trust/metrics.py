"""Errors of predictions, as fractions, for all rows and by slice."""

import dataclasses

import numpy as np
import pandas as pd

from sim.steps.batch import Floats


@dataclasses.dataclass(frozen=True)
class Errors:
    """Absolute relative errors of n rows: mean, median, 90th percentile; ``bias`` is the mean signed one."""

    n: int
    mape: float
    median_ape: float
    p90_ape: float
    bias: float


def errors(predicted_us: Floats, measured_us: Floats) -> Errors:
    """Errors of predictions against measurements, both in µs and of shape (n,), n ≥ 1."""
    relative = predicted_us / measured_us - 1.0
    size = np.abs(relative)
    return Errors(
        len(size), float(size.mean()), float(np.median(size)), float(np.quantile(size, 0.9)), float(relative.mean())
    )


def errors_by_slice(predicted_us: Floats, frame: pd.DataFrame) -> dict[str, Errors]:
    """Errors by ``all``, ``phase:…``, ``model:…``, ``tp:…`` and ``campaign:…``; NaN predictions are left out.

    ``frame`` has ``latency_us`` and those columns.
    """
    known = ~np.isnan(predicted_us)
    predicted, rows = predicted_us[known], frame[known]
    if not len(rows):
        return {}
    measured = rows["latency_us"].to_numpy(dtype=np.float64)
    slices = {"all": errors(predicted, measured)}
    for column in ("phase", "model", "tp", "campaign"):
        labels = rows[column].to_numpy()
        for value in sorted(set(labels.tolist())):
            mask = labels == value
            slices[f"{column}:{value}"] = errors(predicted[mask], measured[mask])
    return slices
