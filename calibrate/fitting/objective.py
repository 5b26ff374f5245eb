"""What a fit minimises: log residuals over a noise floor, balanced by slice, under a robust loss."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.campaign.campaign import Campaign
from calibrate.campaign.rows import may_repeat
from calibrate.fitting.labels import POINT, SLICE, labels_of_steps
from calibrate.fitting.thresholds import FULL_SLICE
from calibrate.records.errors import CalibrateError
from sim.errors import ArchitectureError, nearest
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel, beyond_window
from sim.steps.batch import Floats, StepTable

MODEL_FLOOR = 0.05
"""The relative error that is expected of the model even on perfect data."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Measured steps, ready to be compared with predictions; every array has one entry a row.

    ``sigma`` is the relative noise, ``weight`` balances slices (mean 1 over the rows that count), ``frame`` keeps the
    rows' labels (campaign, phase, model, tp, run) for slicing, and everything the reports show of a row.
    """

    table: StepTable
    measured_us: Floats
    sigma: Floats
    weight: Floats
    frame: pd.DataFrame

    def __len__(self) -> int:
        return len(self.measured_us)

    @property
    def set_aside(self) -> NDArray[np.bool_]:
        """Rows that do not count, shape (n,)."""
        return self.frame["set_aside"].to_numpy(dtype=bool)

    def setting_aside(self, rows: NDArray[np.bool_]) -> "Dataset":
        """The same data with exactly those rows, shape (n,), not counting; the other weights are balanced again."""
        frame = self.frame.assign(set_aside=rows)
        return dataclasses.replace(self, frame=frame, weight=_balance(frame))

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> "Dataset":
        """The data of some rows, weights balanced again."""
        frame = self.frame.iloc[rows] if rows.dtype != bool else self.frame[rows]
        return Dataset(
            self.table.take(rows),
            self.measured_us[rows],
            self.sigma[rows],
            _balance(frame),
            frame.reset_index(drop=True),
        )


def build_dataset(campaigns: Sequence[Campaign], floor: float = MODEL_FLOOR) -> Dataset:
    """Put the steps of some campaigns together. Raises CalibrateError if there is none."""
    usable = [campaign for campaign in campaigns if len(campaign.steps)]
    if not usable:
        raise CalibrateError("no step row to fit: the campaigns hold no good row of a steps table")
    labels = [labels_of_steps(campaign) for campaign in usable]
    tables = [campaign.table for campaign in usable]
    several = len(usable) > 1  # one alone may have millions of rows: it is not copied
    frame = pd.concat(labels, ignore_index=True) if several else labels[0]
    table = StepTable.concatenate(tables) if several else tables[0]
    measured = frame["latency_us"].to_numpy(dtype=np.float64)
    sigma = np.hypot(_spread(frame), floor)
    return Dataset(table, measured, sigma, _balance(frame), frame)


def leave_out_incomputable(model: LatencyModel, data: Dataset) -> tuple[Dataset, list[str]]:
    """The rows whose architecture the model can compute, and what was left out.

    Raises CalibrateError if no row is left.
    """
    computable, notes = computable_rows(model, data)
    if not len(computable):
        raise CalibrateError("no step row to fit: " + " ".join(notes))
    return computable, notes


def computable_rows(model: LatencyModel, data: Dataset) -> tuple[Dataset, list[str]]:
    """The rows whose architecture the model can compute, which may be none, and what was left out."""
    usable, reasons = computable(model, data.table)
    if usable.all() and not _unused(data.table).any():
        return data, []
    kept = data.take(usable)
    return _without_unused(kept), [left_out_note(*reason) for reason in reasons.items()]


def computable(model: LatencyModel, table: StepTable) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Which steps a model can compute, shape (n,), and of how many others why not."""
    able = np.ones(len(table.architectures), dtype=bool)
    reasons: dict[str, int] = {}
    for i, arch in enumerate(table.architectures):
        try:
            model.limits(arch)
        except ArchitectureError as error:
            able[i] = False
            if rows := int((table.arch_index == i).sum()):
                reasons[str(error)] = rows
    beyond = able[table.arch_index] & model.beyond(table)
    count = np.bincount(table.arch_index[beyond], minlength=len(table.architectures))
    for arch, rows in zip(table.architectures, count.tolist(), strict=True):
        if rows:
            reasons[beyond_window(model.name, arch)] = rows
    return able[table.arch_index] & ~beyond, reasons


def left_out_note(reason: str, rows: int) -> str:
    """What is said of rows that a model cannot compute."""
    return f"{reason}: {rows} rows left out."


def _unused(table: StepTable) -> NDArray[np.bool_]:
    """Architectures that no row has."""
    return ~np.isin(np.arange(len(table.architectures)), table.arch_index)


def _without_unused(data: Dataset) -> Dataset:
    return dataclasses.replace(data, table=without_unused(data.table))


def without_unused(table: StepTable) -> StepTable:
    """The same steps, without the architectures that none of them has."""
    used = ~_unused(table)
    position = np.cumsum(used) - 1
    architectures = tuple(
        arch for arch, keep in zip(table.architectures, used, strict=True) if keep
    )
    return dataclasses.replace(
        table,
        architectures=architectures,
        arch_index=position[table.arch_index].astype(np.intp),
        _memo={},
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """Residuals of a dataset under a latency model, as functions of the free parameters' values."""

    model: LatencyModel
    hardware: Hardware
    data: Dataset

    def residuals(self, values: Mapping[str, float]) -> Floats:
        """ln(predicted/measured)/σ, shape (n,)."""
        predicted = self.model.predict_us(self.data.table, self.hardware.with_values(values))
        residual: Floats = np.log(predicted / self.data.measured_us) / self.data.sigma
        return residual

    def jacobian(self, values: Mapping[str, float]) -> Floats:
        """∂residual/∂value, shape (n, len(values)), closed form."""
        names = list(values)
        predicted, jacobian = self.model.predict_with_jacobian_us(
            self.data.table, self.hardware.with_values(values), names
        )
        scaled: Floats = jacobian / (predicted * self.data.sigma)[:, None]
        return scaled


Loss = Callable[[Floats], Floats]


def _linear(z: Floats) -> Floats:
    return np.stack([z, np.ones_like(z), np.zeros_like(z)])


def _soft_l1(z: Floats) -> Floats:
    t = 1 + z
    root = np.sqrt(t)
    return np.stack([2 * (root - 1), 1 / root, -0.5 / (t * root)])


def _huber(z: Floats) -> Floats:
    inside, root = z <= 1, np.sqrt(np.maximum(z, 1.0))
    return np.stack(
        [
            np.where(inside, z, 2 * root - 1),
            np.where(inside, 1.0, 1 / root),
            np.where(inside, 0.0, -0.5 * root**-3),
        ]
    )


def _cauchy(z: Floats) -> Floats:
    return np.stack([np.log1p(z), 1 / (1 + z), -1 / (1 + z) ** 2])


_LOSSES: dict[str, Loss] = {
    "soft_l1": _soft_l1,
    "linear": _linear,
    "huber": _huber,
    "cauchy": _cauchy,
}


def check_loss(name: str) -> str:
    """Return ``name`` if it is a loss. Raises CalibrateError otherwise."""
    if name not in _LOSSES:
        raise CalibrateError(
            f"loss {name!r} is not known (known: {', '.join(_LOSSES)}){nearest(name, _LOSSES)}"
        )
    return name


def loss_of(name: str) -> Loss:
    """ρ and its first two derivatives by z = r², shape (3, n), of the loss of that name."""
    return _LOSSES[check_loss(name)]


def weighted_loss(name: str, weight: Floats, linear: int = 0) -> Loss:
    """A loss for :func:`scipy.optimize.least_squares` that weights rows outside the robust function.

    Given z = r², shape (n + linear,), it returns w·ρ(r²) and its first two derivatives by z, shape (3, n + linear);
    the last ``linear`` residuals count as their squares. A weight inside ρ would be taken for an outlier and undone.
    """
    loss = loss_of(name)
    column = np.array([1.0, 1.0, 1.0])[:, None] * weight
    rows = len(weight)
    return lambda z: (
        np.concatenate([column * loss(z[:rows]), _linear(z[rows:])], axis=1)
        if linear
        else column * loss(z)
    )


def row_influence(name: str, residual: Floats) -> Floats:
    """ρ′ at each residual, in (0, 1]: how far the robust loss trusts a row."""
    influence: Floats = _LOSSES[name](residual**2)[1]
    return influence


def loss_curvature(name: str, residual: Floats) -> Floats:
    """d²(½ρ(r²))/dr² = ρ′ + 2r²ρ″ at each residual; negative where a loss forgets its outliers."""
    _, first, second = _LOSSES[name](residual**2)
    curvature: Floats = first + 2 * residual**2 * second
    return curvature


def _spread(frame: pd.DataFrame) -> Floats:
    """Relative spread of a row: its own standard deviation, else that of its replicates, else 0."""
    alike = may_repeat(frame[name] for name in POINT)
    groups = frame[alike].groupby(POINT, sort=False)["latency_us"]
    replicates = pd.Series(0.0, index=frame.index)
    replicates[alike] = (groups.transform("std") / groups.transform("mean")).fillna(0.0)
    spread = replicates
    if "latency_std_us" in frame:
        spread = (frame["latency_std_us"] / frame["latency_us"]).fillna(replicates)
    return np.asarray(spread, dtype=np.float64)


def _balance(frame: pd.DataFrame) -> Floats:
    """Weights (n,), mean 1 over the rows that count: slices of five rows or more count alike, smaller ones by row."""
    counting = (~frame["set_aside"]).astype(np.float64)
    sizes = counting.groupby([frame[name] for name in SLICE], sort=False).transform("sum")
    raw: Floats = (counting / np.maximum(sizes, FULL_SLICE)).to_numpy()
    weight: Floats = raw * (counting.sum() / max(raw.sum(), np.finfo(float).tiny))
    return weight
