"""A fit's objective as sums over rows, so that parts of the data are summed where they lie and only sums travel.

Cost ½Σw·ρ(r²), its gradient Σw·ρ′·r·∂r and its Gauss-Newton matrix Σw·(ρ′ + 2r²ρ″)·∂r·∂rᵀ, as
:func:`scipy.optimize.least_squares` has them for a robust loss (Triggs, McLauchlan, Hartley and Fitzgibbon 2000).
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from calibrate.fitting.objective import Loss, weighted_loss
from calibrate.fitting.pieces import Partition, Piece, pieces
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.steps.batch import Floats

_LEAST = float(np.finfo(float).eps)
_BLOCK_ROWS = 4096


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
        return np.hypot(spread, floor)


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
    for at, piece in enumerate(pieces(partition, terms.model)):
        sigma = noise[at].sigma(piece, terms.floor)
        for number, question in enumerate(questions):
            weight = question.weights[at][piece.unit]
            if weight.any():
                for rows in _blocks(piece, sigma, weight, terms, question.values):
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
    for at, piece in enumerate(pieces(partition, terms.model)):
        sigma = noise[at].sigma(piece, terms.floor)
        weight = question.weights[at][piece.unit]
        blocks = [*_blocks(piece, sigma, weight, terms, question.values)]
        found.append(_Rows.join(blocks).by_group(groups[at][piece.unit]))
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
class _Rows:
    """Rows of a piece: cost, weighted square, slope and bend of the loss, and the residuals' Jacobian (n, k)."""

    cost: Floats
    squares: Floats
    slope: Floats
    bend: Floats
    jacobian: Floats

    @property
    def total(self) -> Sums:
        return Sums(
            self.cost.sum(),
            self.squares.sum(),
            self.slope @ self.jacobian,
            (self.jacobian.T * self.bend) @ self.jacobian,
        )

    @classmethod
    def join(cls, blocks: Sequence["_Rows"]) -> "_Rows":
        return cls(
            *(np.concatenate(arrays) for arrays in zip(*(b._arrays for b in blocks), strict=True))
        )

    def by_group(self, group: NDArray[np.intp]) -> tuple[NDArray[np.intp], Sums]:
        order = np.argsort(group, kind="stable")
        groups, starts = np.unique(group[order], return_index=True)
        parts = np.split(order, starts[1:])
        sums = [_Rows(*(a[rows] for a in self._arrays)).total for rows in parts]
        return groups, Sums(
            np.array([one.cost for one in sums]),
            np.array([one.squares for one in sums]),
            np.array([one.gradient for one in sums]),
            np.array([one.curvature for one in sums]),
        )

    @property
    def _arrays(self) -> tuple[Floats, ...]:
        return self.cost, self.squares, self.slope, self.bend, self.jacobian


def _blocks(
    piece: Piece, sigma: Floats, weight: Floats, terms: Terms, values: Mapping[str, float]
) -> Iterator[_Rows]:
    """The rows of a piece, so many at a time that what is made of them stays in the processor's cache."""
    hardware = terms.hardware.with_values(values)
    predicted, derivatives = terms.model.predict_with_jacobian_us(
        piece.table, hardware, list(values)
    )
    for first in range(0, len(piece), _BLOCK_ROWS):
        block = slice(first, first + _BLOCK_ROWS)
        loss = weighted_loss(terms.loss, weight[block])
        residual = (np.log(predicted[block]) - piece.log_measured[block]) / sigma[block]
        scale = predicted[block] * sigma[block]
        yield _rows(residual, derivatives[block] / scale[:, None], weight[block], loss)


def _rows(residual: Floats, jacobian: Floats, weight: Floats, loss: Loss) -> _Rows:
    squared = residual**2
    cost, first, second = loss(squared)
    bend = np.maximum(first + 2.0 * squared * second, _LEAST * (weight > 0))
    return _Rows(0.5 * cost, weight * squared, first * residual, bend, jacobian)
