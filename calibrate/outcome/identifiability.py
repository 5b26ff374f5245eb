"""What the data can tell apart, as ``result.json`` holds it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Directions:
    """How many directions rows see, and how far some parameters can be told apart."""

    rank: int
    condition_number: float
    collinearity_index: float
    singular_values: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class GroupSensitivity:
    """Root mean square of ∂ln t/∂ln θ over groups of ``n`` rows, by parameter and in the order of ``groups``."""

    groups: tuple[str, ...]
    n: tuple[int, ...]
    rms: dict[str, list[float]]


@dataclasses.dataclass(frozen=True)
class Identifiability:
    """What the data can see at the solution, of the free parameters; ``start`` is of all that any row saw there.

    ``groups`` are parameters that only show together; ``correlations`` are by pair of fitted parameters.
    """

    rank: int
    n_free: int
    condition_number: float
    collinearity_index: float
    singular_values: tuple[float, ...]
    inert: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    correlations: dict[str, dict[str, float]]
    start: Directions
    sensitivity: GroupSensitivity
