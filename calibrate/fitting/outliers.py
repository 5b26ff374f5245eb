"""Rows that stand apart from what the fit says of all others: which, how far, and the likely cause."""

import dataclasses

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.fitting.labels import POINT, SLICE
from calibrate.fitting.objective import Dataset, row_influence
from calibrate.fitting.thresholds import (
    DISTURBED,
    EXPLAINED,
    FAR_OFF,
    FEWEST_ALIKE,
    ISOLATED,
    LISTED,
    LISTED_FACTOR,
    MOST_LISTED,
    NEAR,
    NEIGHBOURS,
    STRUCTURE,
    WRONG_UNIT,
)
from sim.steps.batch import Floats
from sim.units import US_PER_MS

MEDIAN_TO_SD = 1.4826
"""Standard deviations of a normal distribution in its median absolute deviation."""
_BLOCK_ROWS = 1000


@dataclasses.dataclass(frozen=True)
class Outlier:
    """A row that the fit plays down: ``influence`` is the share of its weight that is left, 0 if it was set aside."""

    campaign: str
    line: int
    model: str
    tp: int
    phase: str
    measured_us: float
    predicted_us: float
    influence: float
    cause: str


def isolated(data: Dataset, residual: Floats) -> NDArray[np.bool_]:
    """Which rows, shape (n,), to set aside: off by five robust standard deviations and a factor of 1.5.

    ``residual`` is ln(predicted/measured). Where more than three rows in ten of a slice (phase × model × TP) are so far
    off, or the rows most alike are off the same way, the model is at fault and they stay. One row of a slice too small
    for that share goes, unless other slices of its phase, model or TP are so far off.
    """
    far = np.abs(residual) > max(ISOLATED * _scale(residual), np.log(FAR_OFF))
    within = pd.Series(far).groupby([data.frame[name] for name in SLICE])
    few = (within.transform("mean") <= STRUCTURE).to_numpy()
    single = (within.transform("sum") == 1).to_numpy() & ~_elsewhere(data.frame, far)
    far &= few | single
    alone: NDArray[np.bool_] = far & ~_explains(_neighbours(data.frame, residual, far), residual)
    return alone


def _elsewhere(frame: pd.DataFrame, far: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether more than three in ten of the rows outside a row's slice, of its phase, model or TP, are far off."""
    found = np.zeros(len(frame), dtype=bool)
    counts = pd.DataFrame({"far": far, "rows": 1})
    inside = counts.groupby([frame[name] for name in SLICE]).transform("sum")
    for column in SLICE:
        outside = counts.groupby(frame[column].to_numpy()).transform("sum") - inside
        found |= (outside["far"] > STRUCTURE * outside["rows"]).to_numpy()
    return found


def list_outliers(
    data: Dataset, after_us: Floats, loss: str
) -> tuple[list[Outlier], NDArray[np.str_]]:
    """The rows that a fit plays down, the worst first and at most 50, and the likely cause by row, shape (n,)."""
    residual = np.log(after_us / data.measured_us)
    apart = np.abs(residual) > max(LISTED * _scale(residual), np.log(LISTED_FACTOR))
    apart |= data.set_aside
    causes = np.full(len(data), "", dtype=object)
    if apart.any():
        causes[apart] = _causes(data, residual, apart)[apart]
    influence = np.where(data.set_aside, 0.0, row_influence(loss, residual / data.sigma))
    order = [row for row in np.argsort(-np.abs(residual), kind="stable") if apart[row]][
        :MOST_LISTED
    ]
    labels = data.frame.iloc[order][["campaign", "line", "model", "tp", "phase"]].to_dict("records")
    listed = [
        Outlier(
            **{str(name): value for name, value in label.items()},
            measured_us=float(data.measured_us[row]),
            predicted_us=round(float(after_us[row]), 3),
            influence=round(float(influence[row]), 4),
            cause=str(causes[row]),
        )
        for row, label in zip(order, labels, strict=True)
    ]
    return listed, causes.astype(str)


def _scale(residual: Floats) -> float:
    return float(MEDIAN_TO_SD * np.median(np.abs(residual - np.median(residual))))


def _causes(data: Dataset, residual: Floats, wanted: NDArray[np.bool_]) -> NDArray[np.object_]:
    """The likeliest reason why each wanted row is off, the surest first."""
    frame, measured = data.frame, pd.Series(data.measured_us)
    ratio = np.exp(-residual)  # measured over predicted
    point = measured.groupby([frame[name] for name in POINT], sort=False, dropna=False)
    replicates = point.transform("size").to_numpy()
    typical = point.transform("median").to_numpy()
    against = np.maximum(measured / typical, typical / measured).to_numpy()
    run = pd.Series(residual).groupby(frame["run"], sort=False)
    run_bias = run.transform("median").to_numpy()
    run_size = run.transform("size").to_numpy()
    near = _neighbours(frame, residual, wanted)
    tp = data.table.tp.astype(np.float64)
    timed = ~frame["composed"].to_numpy(dtype=bool)
    first = (run.cumcount() == 0).to_numpy() & (run_size >= FEWEST_ALIKE) & (ratio > 1) & timed
    factor = np.maximum(ratio, 1 / ratio)
    conditions = [
        _close(factor, WRONG_UNIT),
        (replicates >= FEWEST_ALIKE) & (against > DISTURBED),
        _explains(near, residual),
        (run_size >= FEWEST_ALIKE) & _explains(run_bias, residual),
        (tp > 1) & _close(factor, tp),
        first,
    ]
    off = [f"{value - 1:+.0%}" if value < 10 else f"× {value:,.0f}" for value in ratio]
    texts = [
        [
            f"a thousand times {'slower' if value > 1 else 'faster'} than predicted: a wrong unit"
            for value in ratio
        ],
        [
            f"its replicates took {value / US_PER_MS:,.4g} ms: a disturbed measurement"
            for value in typical
        ],
        [f"as are the rows most like it ({np.exp(-value) - 1:+.0%}): the model" for value in near],
        [
            f"its whole run is off ({np.exp(-value) - 1:+.0%}): other settings or a disturbed run"
            for value in run_bias
        ],
        [f"off by its tp ({value:.0f}): is tp right, and the time of one step?" for value in tp],
        ["the first of its run: warm-up or compilation"] * len(data),
    ]
    alone = [f"alone among its like ({text}): measure again" for text in off]
    chosen: NDArray[np.object_] = np.select(
        conditions, [np.array(text, dtype=object) for text in texts], np.array(alone, dtype=object)
    )
    return chosen


def _close(value: Floats, target: Floats | float) -> NDArray[np.bool_]:
    return np.asarray((value < target * NEAR) & (value > target / NEAR))


def _explains(bias: Floats, residual: Floats) -> NDArray[np.bool_]:
    """Whether what others are off by is of the row's sign and half its size at the least."""
    return np.asarray(
        (np.abs(bias) > np.log(DISTURBED))
        & (bias * np.sign(residual) > EXPLAINED * np.abs(residual))
    )


def _neighbours(frame: pd.DataFrame, residual: Floats, wanted: NDArray[np.bool_]) -> Floats:
    """Median residual of the six rows of other runs nearest in size in a slice; NaN where there are fewer."""
    median = np.full(len(frame), np.nan)
    size = np.log2(
        np.maximum(frame[["new_tokens", "batch", "context_tokens"]].to_numpy(dtype=np.float64), 1.0)
    )
    run = frame["run"].to_numpy()
    for indices in frame.groupby(["phase", "model", "tp"], sort=False).indices.values():
        rows = np.asarray(indices)
        asked = rows[wanted[rows]]
        if len(rows) <= NEIGHBOURS or not len(asked):
            continue
        for block in np.array_split(asked, len(asked) // _BLOCK_ROWS + 1):
            distance = ((size[block, None, :] - size[None, rows, :]) ** 2).sum(axis=2)
            distance[run[block][:, None] == run[rows][None, :]] = np.inf
            nearest = np.argpartition(distance, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
            enough = np.isfinite(np.take_along_axis(distance, nearest, axis=1)).all(axis=1)
            median[block] = np.where(enough, np.median(residual[rows[nearest]], axis=1), np.nan)
    return median
