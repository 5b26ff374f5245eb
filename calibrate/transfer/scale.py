"""The scale on which GPUs are compared: the parameter's own, rates of the link as shares of its peak."""

import math

from calibrate.records.interval import Z90
from sim.hardware import Hardware, link_gbps
from sim.models.parameter import Parameter

_RATE = "GB/s"


def reference(parameter: Parameter, hardware: Hardware) -> float:
    """Where a GPU's own peak lies on the scale of a rate; 0 for what is no rate.

    Raises HardwareError for a rate of a GPU whose link's peak is not known.
    """
    return math.log(link_gbps(hardware)) if parameter.unit == _RATE else 0.0


def guide_sd(parameter: Parameter) -> float:
    """The standard deviation of a point of which the guide's range is the 90% interval."""
    low, high = parameter.guide
    return (parameter.point(high) - parameter.point(low)) / (2.0 * Z90)
