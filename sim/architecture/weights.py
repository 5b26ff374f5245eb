"""Weight types: how many bytes a weight takes in each part of a layer, and in which type it is stored."""

import dataclasses

from sim.errors import ArchitectureError, nearest
from sim.units import DTYPE_BYTES

_PLAIN_TYPES = {4: "int4", 8: "fp8", 16: "bf16", 32: "fp32"}


@dataclasses.dataclass(frozen=True)
class WeightBytes:
    """Mean bytes of a weight by part of a layer, where a checkpoint stores them in several types."""

    attention: float
    mlp: float
    shared_experts: float
    experts: float


@dataclasses.dataclass(frozen=True)
class WeightTypes:
    """The weight type of each part of a layer."""

    attention: str
    mlp: str
    shared_experts: str
    experts: str


def bits(bytes_per_value: float) -> int:
    """32, 16, 8 or 4: bits of a number stored in so many bytes, its share of scales left out."""
    return next(count for count in _PLAIN_TYPES if bytes_per_value * 8 < count * 1.5)


def part_type(bytes_per_value: float, dtype: str, bytes_of_dtype: float) -> str:
    """The type of a part that takes so many bytes in a model of ``dtype``: the model's own, or a plain one."""
    size = bits(bytes_per_value)
    return dtype if size == bits(bytes_of_dtype) else _PLAIN_TYPES[size]


def check_type(name: str, dtype: str) -> None:
    """Raise ArchitectureError for a type that is not known; ``name`` says of what it is."""
    if dtype not in DTYPE_BYTES:
        known = ", ".join(DTYPE_BYTES)
        raise ArchitectureError(
            f"{name} {dtype!r} is not known (known: {known}){nearest(dtype, DTYPE_BYTES)}"
        )
