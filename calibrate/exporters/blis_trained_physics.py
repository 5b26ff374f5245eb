"""The block ``trained_physics_coefficients`` of BLIS's ``defaults.yaml``, fitted by non-negative least squares.

Ten β, linear in the columns of :mod:`sim.models.blis.trained_physics`. The three α are times of requests, which no
engine step shows: they are the ones that BLIS ships (``defaults.yaml``, measured on H100).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from calibrate.exporters.exported import (
    RETIRED_BLIS,
    Exported,
    Source,
    held_out_name,
    own_error,
    yaml_mapping,
)
from calibrate.fitting.objective import Dataset, leave_out_incomputable
from calibrate.records.errors import CalibrateError, ImportFormatError
from calibrate.trust.crossval import splits
from calibrate.trust.metrics import errors
from sim.errors import ArchitectureError
from sim.hardware import Hardware
from sim.models.blis.roofline import BlisRoofline
from sim.models.blis.trained_physics import BETAS, basis_us, check_dense
from sim.steps.batch import Floats

_BLOCK = "trained_physics_coefficients"
_ALPHAS = (
    15563.199579,
    777.3455,
    45.907545,
)
_WHAT = f"{_BLOCK} block"
_SEED = 0


def write(source: Source) -> Exported:
    """Fit, and write the block with its errors in comments. Raises CalibrateError without a step that it can fit."""
    data, notes = _computable(source.data)
    basis = basis_us(data.table, source.peaks)
    betas = fit_betas(basis, data)
    own = own_error(source.hardware, data)
    notes = [_fit_note(basis, betas, data, own), *notes]

    lines = [f"# {note}" for note in (f"For {RETIRED_BLIS}.", *notes)]
    lines += [
        "# alpha_coeffs are times of requests, which steps do not show: BLIS's own, measured on H100, not fitted here.",
        f"{_BLOCK}:",
        f"  alpha_coeffs: [{', '.join(map(repr, _ALPHAS))}]",
        "  beta_coeffs:",
    ]
    columns = zip(BETAS.items(), betas.tolist(), basis.T, strict=True)
    for (name, meaning), beta, column in columns:
        unseen = "" if column.any() else " (no step shows it)"
        lines.append(f"    - {beta!r}  # {name} {meaning}{unseen}")
    return Exported("\n".join(lines) + "\n", tuple(notes))


def read(text: str) -> Floats:
    """The β of a written block, shape (10,). Raises ImportFormatError for another text."""
    block = yaml_mapping(text, _WHAT).get(_BLOCK)
    betas = block.get("beta_coeffs") if isinstance(block, dict) else None
    if not _are_betas(betas):
        raise ImportFormatError(f"not a {_WHAT}: beta_coeffs must be {len(BETAS)} numbers")
    return np.array(betas, dtype=np.float64)


def _are_betas(betas: object) -> bool:
    if not isinstance(betas, list) or len(betas) != len(BETAS):
        return False
    return all(isinstance(beta, int | float) for beta in betas)


def predict_us(betas: Floats, data: Dataset, hardware: Hardware) -> Floats:
    """Durations in µs, shape (n,), by some β, shape (10,)."""
    predicted: Floats = basis_us(data.table, hardware) @ betas
    return predicted


def fit_betas(basis: Floats, data: Dataset, rows: NDArray[np.bool_] | None = None) -> Floats:
    """β ≥ 0, shape (10,), by which the ``rows`` of ``basis`` (n, 10) come nearest to the measured times.

    Relative errors are squared and weighted as in every fit here. A column that is zero on these rows gets 0.
    """
    rows = np.ones(len(data), dtype=bool) if rows is None else rows
    scale = np.sqrt(data.weight[rows]) / data.sigma[rows]
    relative = scale / data.measured_us[rows]
    design = basis[rows] * relative[:, None]

    size = np.linalg.norm(design, axis=0)
    size[size == 0] = 1.0
    scaled, _ = nnls(design / size, scale)
    betas: Floats = scaled / size
    return betas


def _fit_note(basis: Floats, betas: Floats, data: Dataset, own: float | None) -> str:
    held_out = []
    for split in splits(data, _SEED):
        predicted = np.empty(len(data))
        for label in np.unique(split.labels):
            left_out = split.labels == label
            others = fit_betas(basis, data, ~left_out)
            predicted[left_out] = basis[left_out] @ others
        error = errors(predicted, data.measured_us).mape
        held_out.append(f"{held_out_name(split.name)} {error:.1%}")

    error = errors(basis @ betas, data.measured_us).mape
    note = f"beta_coeffs are fitted on {len(data):,} steps: mean error {error:.1%}"
    if held_out:
        note += f"; left out {', '.join(held_out)}"
    note += "."
    if own is not None:
        note += f" roofline-v1 with this configuration errs by {own:.1%} on them."
    return note


def _computable(data: Dataset) -> tuple[Dataset, list[str]]:
    """The rows that the backend would compute, and why others are left out."""
    data, notes = leave_out_incomputable(BlisRoofline(), data)
    table = data.table
    computable = np.ones(len(data), dtype=bool)
    kinds = set(zip(table.arch_index.tolist(), table.tp.tolist(), strict=True))
    for index, tp in sorted(kinds):
        try:
            check_dense(table.architectures[index], tp)
        except ArchitectureError as error:
            rows = (table.arch_index == index) & (table.tp == tp)
            computable &= ~rows
            notes.append(f"{error}: {int(rows.sum())} rows left out.")
    if not computable.any():
        raise CalibrateError("no step row to fit: " + " ".join(notes))
    return data if computable.all() else data.take(computable), notes
