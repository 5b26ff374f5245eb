"""What the data can see of each parameter, from the log-sensitivities of the predictions."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from calibrate.fitting.objective import Dataset
from calibrate.fitting.thresholds import INERT, INSEPARABLE, ZERO
from calibrate.parameters.own import facts
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.models.registry import PARAMETERS
from sim.steps.batch import Floats


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """∂ln t/∂ln θ of every row and parameter at one configuration, ``logs`` of shape (n, len(names)), and what follows.

    ``weight`` (n,) is how much each row counts.
    """

    names: tuple[str, ...]
    logs: Floats
    weight: Floats

    @functools.cached_property
    def matrix(self) -> Floats:
        """The weighted log-sensitivities, shape (n, len(names))."""
        weighted: Floats = self.logs * np.sqrt(self.weight)[:, None]
        return weighted

    @property
    def largest(self) -> dict[str, float]:
        """The largest sensitivity of any row, by parameter."""
        return dict(
            zip(self.names, np.abs(self.matrix).max(axis=0, initial=0.0).tolist(), strict=True)
        )

    @functools.cached_property
    def inert(self) -> tuple[str, ...]:
        """Parameters that no row sees."""
        return tuple(name for name, size in self.largest.items() if size < INERT)

    @property
    def visible(self) -> tuple[str, ...]:
        """Parameters that some row sees."""
        return tuple(name for name in self.names if name not in self.inert)

    def singular_values(self, names: Sequence[str]) -> Floats:
        """Singular values of the unit-length columns of some parameters, descending; all 1 were they independent."""
        found = np.linalg.svd(self._unit(names), compute_uv=False)
        # Fewer rows than parameters: the rest is 0
        padded: Floats = np.pad(found, (0, len(names) - len(found)))
        return padded

    def condition_number(self, names: Sequence[str]) -> float:
        """Ratio of the largest to the smallest singular value of the unit-length columns of some parameters."""
        singular = self.singular_values(names)
        if not len(singular):
            return 1.0
        return (
            float(singular[0] / singular[-1]) if singular[-1] > ZERO * singular[0] else float("inf")
        )

    def collinearity_index(self, names: Sequence[str]) -> float:
        """1 over the smallest singular value of the unit-length columns.

        A change of one parameter by this much can be undone by the others to within 1; above 10 to 15 they are
        hardly identifiable together (Brun, Reichert, Künsch 2001).
        """
        singular = self.singular_values(names)
        if not len(singular):
            return 1.0
        return float(1.0 / singular[-1]) if singular[-1] > ZERO * singular[0] else float("inf")

    def information(self, name: str, names: Sequence[str]) -> Floats:
        """Each row's share, shape (n,), of what the data knows of a parameter when the other ``names`` are free too."""
        others = [other for other in names if other != name]
        column = self._unit([name])[:, 0]
        basis = self._unit(others)
        rest = column - basis @ np.linalg.lstsq(basis, column, rcond=None)[0] if others else column
        share: Floats = rest**2 / max(float((rest**2).sum()), np.finfo(float).tiny)
        return share

    def by_group(self, groups: pd.Series) -> dict[str, list[float]]:
        """Root mean square of ∂ln t/∂ln θ over the rows of each group (sorted), by parameter that some row sees."""
        squares = (
            pd.DataFrame(self.logs**2, columns=list(self.names)).groupby(groups.to_numpy()).mean()
            ** 0.5
        )
        return {name: squares[name].tolist() for name in self.visible}

    @property
    def rank(self) -> int:
        """How many independent directions the rows see."""
        return len(self.separable(self.names)[0])

    def correlations(self, names: Sequence[str]) -> Floats:
        """Correlations of the estimates of some parameters, shape (k, k)."""
        columns = self._unit(names)
        covariance = np.linalg.pinv(columns.T @ columns)
        scale = np.sqrt(np.maximum(np.diag(covariance), np.finfo(float).tiny))
        correlation: Floats = covariance / np.outer(scale, scale)
        return correlation

    def separable(self, candidates: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Walk the candidates in order; keep those that show something the kept ones do not.

        Returns the kept names, and for every other (inert ones aside) the kept name it is hardest to tell from.
        """
        kept: list[str] = []
        basis = np.empty((len(self.matrix), 0))
        tied: dict[str, str] = {}
        for name in candidates:
            if name in self.inert:
                continue
            column = self._unit([name])[:, 0]
            rest = column - basis @ (basis.T @ column)
            rest -= basis @ (basis.T @ rest)
            size = float(np.linalg.norm(rest))
            if size < INSEPARABLE:
                overlaps = np.abs(self._unit(kept).T @ column)
                tied[name] = kept[int(overlaps.argmax())]
                continue
            kept.append(name)
            basis = np.column_stack([basis, rest / size])
        return kept, tied

    def _unit(self, names: Sequence[str]) -> Floats:
        columns = self.matrix[:, [self.names.index(name) for name in names]]
        norms = np.linalg.norm(columns, axis=0)
        unit: Floats = columns / np.where(norms > 0, norms, 1.0)
        return unit


def sensitivity(model: LatencyModel, hardware: Hardware, data: Dataset) -> Sensitivity:
    """Sensitivities at a configuration; rows count by weight, a value near 0 is scaled by the guide's lower end.

    Steps composed of kernels hold no time of the engine around them: where there is nothing else, they see none.
    """
    values = model.parameters(hardware)
    predicted, jacobian = model.predict_with_jacobian_us(
        data.table, hardware, model.parameter_names
    )
    scale = np.array([PARAMETERS[name].size(values[name]) for name in model.parameter_names])
    if "composed" in data.frame and data.frame["composed"].all():
        scale[[PARAMETERS[name].stage == "engine" for name in model.parameter_names]] = 0.0
    return Sensitivity(model.parameter_names, jacobian * scale / predicted[:, None], data.weight)


HeldStatus = Literal["held", "tied", "inert"]


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which parameters a fit may move, and in words why each of the others may not."""

    free: tuple[str, ...]
    held: dict[str, tuple[HeldStatus, str]]  # name → (status, why)


def choose_free(
    seen: Sensitivity, starts: dict[str, float], fixed: Sequence[str], freed: Sequence[str]
) -> Choice:
    """Decide from the data what to fit: held are those fixed by name, inert, or inseparable from an earlier one."""
    held: dict[str, tuple[HeldStatus, str]] = dict.fromkeys(fixed, ("held", "fixed by name"))
    candidates = []
    for name in seen.names:
        partner = facts(name).tied_to
        if name in held:
            continue
        if name in freed or partner is None:
            candidates.append(name)
        elif name in seen.inert:
            held[name] = ("inert", f"no row of this data sees it; it stays at {starts[name]:g}")
        else:
            held[name] = (
                "tied",
                f"only its product with {partner} shows; it stays at {starts[name]:g}",
            )
    candidates.sort(key=lambda name: name not in freed)
    kept, tied = seen.separable(candidates)
    for name in candidates:
        if name in tied:
            held[name] = (
                "tied",
                f"this data cannot tell it from {tied[name]}; it stays at {starts[name]:g}",
            )
        elif name not in kept:
            held[name] = ("inert", f"no row of this data sees it; it stays at {starts[name]:g}")
    return Choice(tuple(name for name in seen.names if name in kept), held)
