"""How far a fit follows a single row: its leverage, the share of what is known that it alone supplies."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.fitting.objective import Objective, loss_curvature
from calibrate.fitting.problem import Problem
from calibrate.fitting.thresholds import LEVERAGE
from sim.steps.batch import Floats

_NAMED = 3


def row_leverage(problem: Problem, values: dict[str, float]) -> Floats:
    """Leverage of every row, shape (n,), in a fit to steps at ``values``."""
    objective = Objective(problem.model, problem.hardware, problem.data)
    basis = _basis(
        objective.residuals(values), objective.jacobian(values), problem.data.weight, problem.loss
    )
    leverage: Floats = (basis**2).sum(axis=1)
    return leverage


def block_leverage(
    residual: Floats,
    jacobian: Floats,
    weight: Floats,
    loss: str,
    blocks: Sequence[NDArray[np.intp]],
) -> Floats:
    """Leverage of blocks of residuals, one entry a block, between 0 and 1.

    ``residual`` and ``weight`` (n,) and ``jacobian`` (n, k) are those at the estimate. It is the largest eigenvalue
    of A⁻¹·A_block, A the curvature of the loss: the share of what all rows know that the block supplies, along what it
    knows best. For one row it is the diagonal of the hat matrix (Belsley, Kuh and Welsch 1980, section 2.1).
    """
    basis = _basis(residual, jacobian, weight, loss)
    knows = basis.shape[1] > 0
    sizes = [
        np.linalg.norm(basis[rows], ord=2) ** 2 if knows and len(rows) else 0.0 for rows in blocks
    ]
    return np.array(sizes, dtype=np.float64)


def _basis(residual: Floats, jacobian: Floats, weight: Floats, loss: str) -> Floats:
    """An orthonormal basis of what the weighted rows know, shape (n, rank)."""
    scale = np.maximum(np.linalg.norm(jacobian, axis=0), np.finfo(float).tiny)
    root = np.sqrt(weight * np.maximum(loss_curvature(loss, residual), 0.0))
    return _orthonormal(root[:, None] * jacobian / scale)


def _orthonormal(columns: Floats) -> Floats:
    """A basis of the space that some columns span, shape (n, rank)."""
    left, singular, _ = np.linalg.svd(columns, full_matrices=False)
    basis: Floats = left[:, singular > np.finfo(float).eps * len(columns) * singular.max(initial=0)]
    return basis


def leverage_warning(leverage: Floats, names: pd.Series, what: str = "row") -> list[str]:
    """A warning that names what is followed more than all else together; ``names`` has one entry a leverage."""
    order = [int(i) for i in np.argsort(-leverage, kind="stable") if leverage[i] > LEVERAGE]
    if not order:
        return []
    listed = "; ".join(f"{names.iloc[i]} ({leverage[i]:.2f})" for i in order[:_NAMED])
    more = f"; {len(order) - _NAMED} more" if len(order) > _NAMED else ""
    each, it = (f"{what} has", "it") if len(order) == 1 else (f"{what}s have", "each of them")
    return [
        f"{len(order)} {each} a leverage above 1/2: the fit follows {it} more than all others together, right or "
        f"wrong ({listed}{more}). Measure more of the like, or check."
    ]


def row_names(frame: pd.DataFrame) -> pd.Series:
    """What a warning calls each row of steps: campaign and line, phase, model and TP."""
    phase = frame["phase"] + " of "
    return _where(frame) + phase + _what(frame)


def point_names(frame: pd.DataFrame) -> pd.Series:
    """What a warning calls each load point: campaign and line, model and TP."""
    return _where(frame) + _what(frame)


def _where(frame: pd.DataFrame) -> pd.Series:
    return frame["campaign"] + ":" + frame["line"].astype(str) + ", "


def _what(frame: pd.DataFrame) -> pd.Series:
    return frame["model"] + " at tp " + frame["tp"].astype(str)
