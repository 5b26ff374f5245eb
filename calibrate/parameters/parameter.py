"""One parameter of a latency model: its unit and bounds, what is plausible, and the scale on which it counts."""

import dataclasses
import math
from typing import Literal

from sim.steps.batch import Floats

_SMALLEST = 1e-3


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One key of the configuration.

    ``lower`` and ``upper`` are physical and hard; ``guide`` is the calibration guide's range, which only warns.
    ``tied_to`` names the parameter with which only its product (or sum) shows: it is held unless freed by name.
    ``stage`` is the step of the calibration that first fits it. ``zero`` says what a value of 0 means where that is
    below ``lower``: ``none`` (no such time) or ``off`` (the model goes another way; a fit cannot leave 0).
    ``replaced_by`` names the parameter that takes its place where that is above 0. A parameter that may be negative
    counts on a linear scale, every other on a logarithmic one.
    """

    name: str
    unit: str
    lower: float
    upper: float
    guide: tuple[float, float]
    stage: str
    meaning: str
    seen_in: str
    tied_to: str | None = None
    zero: Literal["", "none", "off"] = ""
    replaced_by: str | None = None

    @property
    def is_linear(self) -> bool:
        """Whether it counts on a linear scale."""
        return self.lower < 0

    def size(self, value: float) -> float:
        """What a change of the parameter is measured against: its value, or the least (linear: all) of the guide's."""
        return self.guide[1] - self.guide[0] if self.is_linear else max(value, self.guide[0])

    def widened(self, below: float, above: float) -> tuple[float, float]:
        """The guide's range widened by factors within the bounds, a linear one by its own width on both sides."""
        low, high = self.guide
        if self.is_linear:
            return max(self.lower, 2 * low - high), min(self.upper, 2 * high - low)
        return max(self.lower, low / below, _SMALLEST), min(self.upper, high * above)

    def extent(self, low: float, high: float) -> float:
        """How far apart two values are in what sensitivities are taken by: ln θ, or θ in sizes if linear."""
        return (high - low) / self.size(low) if self.is_linear else math.log(high / low)

    @property
    def middle(self) -> float:
        """The middle of the guide's range on the parameter's scale."""
        low, high = self.guide
        return (low + high) / 2 if self.is_linear or low <= 0 else float((low * high) ** 0.5)

    def between(self, low: float, high: float, share: Floats) -> Floats:
        """Values at ``share`` (from 0 to 1) of the way from ``low`` to ``high`` on the parameter's scale."""
        values: Floats = low + (high - low) * share if self.is_linear else low * (high / low) ** share
        return values
