"""What to fit: rows, model, configuration, free parameters, loss and priors."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from calibrate.fitting.objective import Dataset
from calibrate.parameters.own import plain_name
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.models.registry import PARAMETERS, parameter_in
from sim.steps.batch import Floats


@dataclasses.dataclass(frozen=True)
class Pull:
    """A term ½·precision·(value − mean)² of the cost, towards prior knowledge of a parameter.

    ``coupled`` has the entries of the precision matrix with other parameters: together the terms are ½·dᵀ·P·d.
    With ``on_scale`` the point on the parameter's scale (:meth:`~sim.models.parameter.Parameter.point`) stands for the
    value.
    """

    mean: float
    precision: float
    coupled: Mapping[str, float] = dataclasses.field(default_factory=dict)
    on_scale: bool = False

    def off(self, name: str, value: float) -> float:
        """How far a parameter's value is from the mean."""
        return (PARAMETERS[name].point(value) if self.on_scale else value) - self.mean

    def slope(self, name: str, value: float) -> float:
        """The derivative of :meth:`off` by the value."""
        return PARAMETERS[name].slope(value) if self.on_scale else 1.0


def precision_of(pulls: Mapping[str, Pull], names: Sequence[str], others: Sequence[str]) -> Floats:
    """The entries of the precision matrix of some parameters with others, shape (len(names), len(others))."""
    matrix = [
        [
            pulls[name].precision if name == other else pulls[name].coupled.get(other, 0.0)
            for other in others
        ]
        for name in names
    ]
    return np.array(matrix, dtype=np.float64).reshape(len(names), len(others))


@dataclasses.dataclass(frozen=True)
class Problem:
    """What to fit: the rows, the model, the configuration to start from, the free parameters, the loss, the priors."""

    model: LatencyModel
    hardware: Hardware
    data: Dataset
    free: tuple[str, ...]
    loss: str
    pulls: Mapping[str, Pull] = dataclasses.field(default_factory=dict)

    def on(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> "Problem":
        """The same problem on some of the rows."""
        return dataclasses.replace(self, data=self.data.take(rows))

    @property
    def start(self) -> dict[str, float]:
        """The free parameters' values in the configuration; see :func:`opened`."""
        values = self.model.parameters(opened(self.model, self.hardware, self.free))
        return {name: values[name] for name in self.free}


def opened(model: LatencyModel, hardware: Hardware, names: Sequence[str]) -> Hardware:
    """The hardware with every named parameter that is 0 in the middle of its plausible range.

    A time that starts at 0 can hide behind others (host time behind the GPU's), so that no derivative shows it. What
    a 0 switches off stays off.
    """
    values = model.parameters(hardware)
    return hardware.with_values(first_tried(model, {name: values[name] for name in names}))


def first_tried(model: LatencyModel, values: Mapping[str, float]) -> dict[str, float]:
    """Values of parameters of a model with every 0 moved to the middle of its plausible range, as :func:`opened`."""
    known = {name: parameter_in(model, plain_name(name)) for name in values}
    hidden = {name for name, value in values.items() if value == 0 and not known[name].is_linear}
    return {
        name: known[name].middle if name in hidden and known[name].zero != "off" else value
        for name, value in values.items()
    }
