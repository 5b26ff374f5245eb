"""How well a transfer does: every source's own steps predicted from the others."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from calibrate.records.interval import ends
from calibrate.transfer.measured import Measured
from calibrate.transfer.transferred import Transferred, transfer
from calibrate.trust.metrics import errors
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.models.registry import PARAMETERS
from sim.steps.batch import Floats

_DRAWS = 200


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """A source as the others predict it: mean absolute relative ``error`` of its steps, beside ``own`` fit's.

    ``steps_inside`` is the share of its steps within their 90% band, ``values_inside`` that of its fitted values.
    """

    gpu: str
    link: str
    rows: int
    error: float
    own: float
    steps_inside: float
    values_inside: float


def hold_out(measured: Sequence[Measured], model: LatencyModel, seed: int = 0) -> list[HeldOut]:
    """Each of the sources held out in turn, nothing fitted to its steps; none where it would leave nobody."""
    several = measured if len(measured) > 1 else []
    return [
        _held_out([other for other in measured if other is not one], one, model, seed)
        for one in several
    ]


def _held_out(others: Sequence[Measured], one: Measured, model: LatencyModel, seed: int) -> HeldOut:
    found = transfer(others, one.start, one.kind, model)
    predicted = model.predict_us(one.data.table, found.hardware)
    misfit = float(np.median([other.misfit for other in others]))
    low, high = band_us(found, one, model, misfit, seed)
    measured_us = one.data.measured_us
    return HeldOut(
        gpu=one.gpu,
        link=one.kind.link,
        rows=len(measured_us),
        error=errors(predicted, measured_us).mape,
        own=one.error,
        steps_inside=float(((low <= measured_us) & (measured_us <= high)).mean()),
        values_inside=_values_inside(found, one),
    )


def band_us(
    found: Transferred, one: Measured, model: LatencyModel, misfit: float, seed: int
) -> tuple[Floats, Floats]:
    """The 90% band of each step of a GPU, shapes (n,): values drawn as they are known, times a model's own misfit."""
    rng = np.random.default_rng(seed)
    drawn = np.array([model.predict_us(one.data.table, _draw(found, rng)) for _ in range(_DRAWS)])
    drawn *= np.exp(misfit * rng.standard_normal(drawn.shape))
    low, high = np.quantile(drawn, (0.05, 0.95), axis=0)
    return low, high


def _draw(found: Transferred, rng: np.random.Generator) -> Hardware:
    values = {}
    for name, one in found.known.items():
        at = one.prediction
        assert at is not None
        values[name] = PARAMETERS[name].value_at(at.mean + at.sd * rng.standard_t(at.freedom))
    return found.hardware.with_values(values)


def _values_inside(found: Transferred, one: Measured) -> float:
    """Share of the source's own fitted values inside their transferred intervals."""
    inside = []
    for name, known in found.known.items():
        if name in one.stderr and known.ci90 is not None:
            low, high = ends(known.ci90)
            inside.append(low <= one.hardware.values[name] <= high)
    return float(np.mean(inside)) if inside else float("nan")
