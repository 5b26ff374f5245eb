"""A fit's objective as sums over rows, so that parts of the data are summed where they lie and only sums travel.

Cost ½Σw·ρ(r²), its gradient Σw·ρ′·r·∂r and its Gauss-Newton matrix Σw·(ρ′ + 2r²ρ″)·∂r·∂rᵀ, as
:func:`scipy.optimize.least_squares` has them for a robust loss (Triggs, McLauchlan, Hartley and Fitzgibbon 2000).
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from calibrate.fitting.objective import loss_of
from calibrate.fitting.pieces import Partition, Piece, pieces
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.steps.batch import Floats, StepTable

_LEAST = float(np.finfo(float).eps)


@dataclasses.dataclass(frozen=True, eq=False)
class Sums:
    """Cost (…), ``gradient`` (…, k) and ``curvature`` (…, k, k) of so many groups of rows, or of all.

    ``squares`` (…) is Σw·r², whatever the loss.
    """

    cost: Floats
    squares: Floats
    gradient: Floats
    curvature: Floats

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.cost + other.cost,
            self.squares + other.squares,
            self.gradient + other.gradient,
            self.curvature + other.curvature,
        )

    def put(self, groups: NDArray[np.intp], other: "Sums") -> None:
        """Add the sums of some groups of rows to theirs."""
        self.cost[groups] += other.cost
        self.squares[groups] += other.squares
        self.gradient[groups] += other.gradient
        self.curvature[groups] += other.curvature

    def weighed(self, weight: Floats) -> "Sums":
        """The sums of some groups, ``weight`` (groups,) times each, put together."""
        return Sums(
            weight @ self.cost,
            weight @ self.squares,
            weight @ self.gradient,
            np.tensordot(weight, self.curvature, axes=1),
        )


@dataclasses.dataclass(frozen=True)
class Terms:
    """What makes residuals of steps: a model, its configuration, the loss, and the relative error of the model."""

    model: LatencyModel
    hardware: Hardware
    loss: str
    floor: float


@dataclasses.dataclass(frozen=True, eq=False)
class Noise:
    """What all data says of a piece's noise: the spread of each of its points; None where the piece knows best."""

    spread: Floats | None

    def sigma(self, piece: Piece, floor: float) -> Floats:
        """The relative noise of every row, shape (n,)."""
        spread = piece.spread
        if self.spread is not None:
            spread = np.where(piece.point < 0, spread, self.spread[piece.point])
        return np.sqrt(spread * spread + floor * floor)


@dataclasses.dataclass(frozen=True, eq=False)
class Question:
    """At which ``values`` to sum, and by how much each unit of each piece counts: arrays (units,)."""

    values: Mapping[str, float]
    weights: Sequence[Floats]


def sums_at(
    partition: Partition, terms: Terms, noise: Sequence[Noise], questions: Sequence[Question]
) -> list[Sums]:
    """The sums of a partition, one for each question."""
    found = [nothing(len(question.values)) for question in questions]
    for piece in pieces(partition, terms.model):
        sigma = noise[piece.number].sigma(piece, terms.floor)
        for number, question in enumerate(questions):
            weight = question.weights[piece.number][piece.unit]
            if weight.any():
                rows = weighed_rows(
                    piece.table, piece.log_measured, sigma, weight, terms, question.values
                )
                found[number] += rows.total
    return found


def sums_by_group(
    partition: Partition,
    terms: Terms,
    noise: Sequence[Noise],
    question: Question,
    groups: Sequence[NDArray[np.intp]],
) -> list[tuple[NDArray[np.intp], Sums]]:
    """The sums of each piece by group, and which groups it has; ``groups`` are those of each piece's units."""
    found = []
    for piece in pieces(partition, terms.model):
        sigma = noise[piece.number].sigma(piece, terms.floor)
        weight = question.weights[piece.number][piece.unit]
        rows = weighed_rows(piece.table, piece.log_measured, sigma, weight, terms, question.values)
        found.append(rows.by_group(groups[piece.number][piece.unit]))
    return found


def nothing(size: int, *groups: int) -> Sums:
    """The sums of no row, of so many parameters and groups."""
    return Sums(
        np.zeros(groups),
        np.zeros(groups),
        np.zeros((*groups, size)),
        np.zeros((*groups, size, size)),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class WeighedRows:
    """Rows at some values: ``cost``, weighed square, gradient by the logarithm of the prediction (each (n,)).

    ``derivatives`` (k, n) are those of the predictions; times ``to_gradient`` and ``to_root`` (n,) they are what a row
    adds to the gradient, and the root of what it adds to the Gauss-Newton matrix.
    """

    cost: Floats
    squares: Floats
    to_gradient: Floats
    to_root: Floats
    derivatives: Floats

    @property
    def total(self) -> Sums:
        """The sums of all rows."""
        roots = self.derivatives * self.to_root
        return Sums(
            0.5 * self.cost.sum(),
            self.squares.sum(),
            self.derivatives @ self.to_gradient,
            roots @ roots.T,
        )

    def take(self, rows: NDArray[np.intp]) -> "WeighedRows":
        """Some of the rows."""
        return WeighedRows(
            self.cost[rows],
            self.squares[rows],
            self.to_gradient[rows],
            self.to_root[rows],
            self.derivatives[:, rows],
        )

    def by_group(self, group: NDArray[np.intp]) -> tuple[NDArray[np.intp], Sums]:
        """Which groups there are, and the sums of each."""
        order = np.argsort(group, kind="stable")
        groups, starts = np.unique(group[order], return_index=True)
        sums = [self.take(rows).total for rows in np.split(order, starts[1:])]
        return groups, Sums(
            np.array([one.cost for one in sums]),
            np.array([one.squares for one in sums]),
            np.array([one.gradient for one in sums]),
            np.array([one.curvature for one in sums]),
        )


def weighed_rows(
    table: StepTable,
    log_measured: Floats,
    sigma: Floats,
    weight: Floats,
    terms: Terms,
    values: Mapping[str, float],
) -> WeighedRows:
    """Rows with their noise and weight, each of shape (n,), at some values."""
    hardware = terms.hardware.with_values(values)
    predicted, derivatives = terms.model.predict_with_jacobian_us(table, hardware, list(values))
    residual = (np.log(predicted) - log_measured) / sigma
    squared = residual * residual
    cost, first, second = loss_of(terms.loss)(squared)
    bend = np.maximum(first + 2.0 * squared * second, _LEAST) * weight
    scale = 1.0 / (predicted * sigma)
    return WeighedRows(
        weight * cost,
        weight * squared,
        weight * first * residual * scale,
        np.sqrt(bend) * scale,
        derivatives.T,
    )
