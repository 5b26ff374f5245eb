"""One parameter of a latency model: everything that is known of it stands here, and nowhere else."""

import dataclasses
import math
from typing import Literal

from sim.steps.batch import Floats

_SMALLEST = 1e-3


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One key of the configuration, as one latency model reads it.

    Attributes:
        name: The key, in its usual spelling.
        unit: Of the value; ``–`` for a share or an exponent.
        lower: The least physical value; a fit never goes below.
        upper: The largest physical value.
        guide: The plausible range (the calibration guide's, or that of measured GPUs), which only warns.
        stage: The step of the calibration that first fits it.
        meaning: What it is, in words.
        seen_in: The steps that show it.
        default: The value where a configuration leaves it out; None: it must be given.
        start: From which a GPU without a value starts, where there is no default (the guide's, for H100).
        lacking: Completes "no row of this data is …" where the data does not show it.
        extreme: Which extreme of the data to quote then: ``largest batch``, ``largest tp``, ``most tokens in a step``.
        tied_to: The parameter with which only its product (or sum) shows: it is held unless freed by name.
        zero: What a value of 0 means where that is below ``lower``: ``none`` (no such time) or ``off`` (the model
            goes another way; a fit cannot leave 0).
        replaced_by: The parameter that takes its place where that is above 0.
        is_tuned: Whether a fit to serving results moves it by default: kernels alone do not show it.
        of_engines: How far engines differ in it, their standard deviation over what kernels show (0: not at all). They
            bring kernels of their own: a fit to one's servers moves it about so far.

    A parameter that may be negative counts on a linear scale, every other on a logarithmic one.

    """

    name: str
    unit: str
    lower: float
    upper: float
    guide: tuple[float, float]
    stage: str
    meaning: str
    seen_in: str
    default: float | None = None
    start: float | None = None
    lacking: str = ""
    extreme: Literal["", "largest batch", "largest tp", "most tokens in a step"] = ""
    tied_to: str | None = None
    zero: Literal["", "none", "off"] = ""
    replaced_by: str | None = None
    is_tuned: bool = False
    of_engines: float = 0.0

    @property
    def is_linear(self) -> bool:
        """Whether it counts on a linear scale."""
        return self.lower < 0

    @property
    def offset(self) -> float:
        """What is added before the logarithm where 0 is a value: the least of the guide's range, or a tenth of it."""
        low, high = self.guide
        return (low or high / 10) if self.lower == 0 else 0.0

    def point(self, value: float) -> float:
        """Where a value lies on the parameter's scale: ln(value + :attr:`offset`), or the value itself."""
        return value if self.is_linear else math.log(value + self.offset)

    def value_at(self, point: float) -> float:
        """The value at a point of the scale, within the physical bounds."""
        within = min(max(point, self.point(self.lower)), self.point(self.upper))
        return within if self.is_linear else max(math.exp(within) - self.offset, 0.0)

    def slope(self, value: float) -> float:
        """How far the point moves for each unit of the value."""
        return 1.0 if self.is_linear else 1.0 / (value + self.offset)

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
        values: Floats = (
            low + (high - low) * share if self.is_linear else low * (high / low) ** share
        )
        return values
