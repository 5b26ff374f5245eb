"""The values of a GPU that nobody measured, with intervals, as draws from a hierarchy over GPUs that were."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from calibrate.records.interval import Interval
from calibrate.transfer.hierarchy import Prediction, predict
from calibrate.transfer.kind import Kind
from calibrate.transfer.measured import Measured
from calibrate.transfer.scale import guide_sd, reference
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.models.parameter import Parameter


@dataclasses.dataclass(frozen=True)
class TransferredParameter:
    """One parameter: its ``value`` with ``ci90``, from so many ``sources``; without any it is the start's.

    ``prediction`` is the value on the parameter's scale (:meth:`~sim.models.parameter.Parameter.point`).
    """

    name: str
    value: float
    unit: str
    sources: tuple[str, ...]
    ci90: Interval | None = None
    prediction: Prediction | None = None


@dataclasses.dataclass(frozen=True)
class Transferred:
    """The values of one GPU, from those of others. ``hardware`` is its start with the transferred values."""

    hardware: Hardware
    kind: Kind
    latency_model: str
    sources: tuple[str, ...]
    parameters: tuple[TransferredParameter, ...]

    @property
    def known(self) -> dict[str, TransferredParameter]:
        """The parameters that some source tells, by name."""
        return {one.name: one for one in self.parameters if one.prediction is not None}

    @property
    def provenance(self) -> str:
        """Where the values come from, in words."""
        return f"transferred from {', '.join(self.sources)}; nothing was measured on {self.hardware.gpu}"


def transfer(
    measured: Sequence[Measured], start: Hardware, kind: Kind, model: LatencyModel
) -> Transferred:
    """The values of a GPU of this kind, whose peaks (and what no source tells) ``start`` holds.

    Raises HardwareError where the start lacks a peak.
    """
    values = model.parameters(start)
    parameters = tuple(
        _parameter(parameter, values[parameter.name], measured, start, kind)
        for parameter in model.parameter_set
    )
    found = {one.name: one.value for one in parameters if one.prediction is not None}
    return Transferred(
        hardware=start.with_values(found),
        kind=kind,
        latency_model=model.name,
        sources=tuple(one.gpu for one in measured),
        parameters=parameters,
    )


def _parameter(
    parameter: Parameter, value: float, measured: Sequence[Measured], start: Hardware, kind: Kind
) -> TransferredParameter:
    sources = [one for one in measured if parameter.name in one.stderr]
    if not sources:
        return TransferredParameter(parameter.name, value, parameter.unit, ())
    peak = reference(parameter, start)
    at_peak = predict(
        np.array([_point(parameter, one) for one in sources]),
        np.array([_variance(parameter, one) for one in sources]),
        [one.kind.groups(parameter) for one in sources],
        kind.groups(parameter),
        guide_sd(parameter),
    )
    found = dataclasses.replace(at_peak, mean=at_peak.mean + peak)
    return TransferredParameter(
        name=parameter.name,
        value=parameter.value_at(found.mean),
        unit=parameter.unit,
        sources=tuple(one.gpu for one in sources),
        ci90=(
            parameter.value_at(found.mean - found.half_width),
            parameter.value_at(found.mean + found.half_width),
        ),
        prediction=found,
    )


def _point(parameter: Parameter, one: Measured) -> float:
    value = one.hardware.values[parameter.name]
    return parameter.point(value) - reference(parameter, one.hardware)


def _variance(parameter: Parameter, one: Measured) -> float:
    slope = parameter.slope(one.hardware.values[parameter.name])
    return (slope * one.stderr[parameter.name]) ** 2
