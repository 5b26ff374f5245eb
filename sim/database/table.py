"""A database of measured MFUs: which measurement stands for a matrix product or an attention that a step computes.

Folder layout, with ``<gpu>`` such as h100 and ``<config>`` = <heads>-<kv heads>-<head dim>:

- ``gemm/<gpu>/data.csv``: m, k, n, mfu
- ``mha/prefill/<gpu>/<config>.csv``: seq_len, mfu
- ``mha/decode/<gpu>/<config>-tp<N>.csv``: batch_size, kv_len, mfu; without ``-tp<N>`` it is of one GPU

The look-ups are those of the simulators that read such a folder; ``docs/models.md`` lists them.
"""

import dataclasses
import functools
import hashlib
import pickle
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from sim.architecture import Architecture
from sim.database.curves import Curve, Surface, closest
from sim.errors import MfuTableError
from sim.steps.runs import Floats


class Heads(NamedTuple):
    """An attention configuration; its text is the name of its files."""

    num_heads: int
    kv_heads: int
    head_dim: int

    @classmethod
    def of(cls, arch: Architecture) -> "Heads":
        """Those of a model; the head dimension is hidden size // heads, as the database's readers have it."""
        return cls(arch.num_heads, arch.kv_heads, arch.hidden_size // arch.num_heads)

    def __str__(self) -> str:
        return "-".join(map(str, self))


class Shape(NamedTuple):
    """The weight matrix of a GEMM."""

    k: int
    n: int


@dataclasses.dataclass(frozen=True, eq=False)
class MfuTable:
    """Measured MFUs of one GPU.

    ``gemm`` keeps the file's order of shapes and ``last_shape`` is that of its last row; ``prefill`` keeps the
    order of the file names; ``decode`` has the tensor-parallel degrees measured for each configuration. ``source``
    is the folder, for messages.
    """

    gpu: str
    source: str
    gemm: Mapping[Shape, Curve]
    last_shape: Shape
    prefill: Mapping[Heads, Curve]
    decode: Mapping[Heads, Mapping[int, Surface]]

    @functools.cached_property
    def digest(self) -> str:
        """What tells this content from any other; a copy that travels takes it along."""
        content = (self.gpu, self.gemm, self.last_shape, self.prefill, self.decode)
        return hashlib.sha256(pickle.dumps(content)).hexdigest()

    def attention_config(self, heads: Heads) -> Heads:
        """The measured configuration that stands for ``heads``: itself, else the nearest (Euclidean)."""
        if heads in self.prefill:
            return heads
        return _closest_key(heads, tuple(self.prefill))

    def gemm_shape(self, shape: Shape) -> Shape:
        """The nearest measured shape that is not smaller in k or n, else that of the file's last row."""
        larger = [s for s in self.gemm if s.k >= shape.k and s.n >= shape.n]
        return _closest_key(shape, larger) if larger else self.last_shape

    def decode_tp(self, config: Heads, tp: int, *, interpolate: bool) -> int:
        """The measured degree that stands for ``tp``: itself, else 1; interpolating, the nearest, the lower of two.

        Raises MfuTableError if 1 was not measured either.
        """
        measured = self.decode[config]
        if interpolate:
            return min(measured, key=lambda degree: (abs(degree - tp), degree))
        chosen = tp if tp in measured else 1
        if chosen not in measured:
            has = ", ".join(f"-tp{degree}" for degree in sorted(measured))
            raise MfuTableError(
                f"{self.source}: decode attention {config} of {self.gpu} has neither -tp{tp}.csv nor -tp1.csv "
                f"(it has {has}). Measure one of them, or use roofline-v2-interp, which takes the nearest"
            )
        return chosen

    def gemm_mfu(self, m: Floats, shape: Shape, *, interpolate: bool = False) -> Floats:
        """MFU of (m × k) · (k × n) for each row count in ``m`` (n,)."""
        curve = self.gemm[self.gemm_shape(shape)]
        return curve.interpolated(m) if interpolate else curve.nearest(m)

    def prefill_mfu(self, heads: Heads, seq_len: Floats, *, interpolate: bool = False) -> Floats:
        """MFU of causal attention over each prompt length in ``seq_len`` (n,)."""
        curve = self.prefill[self.attention_config(heads)]
        return curve.interpolated(seq_len) if interpolate else curve.nearest(seq_len)

    def decode_mfu(
        self, heads: Heads, batch: Floats, context: Floats, tp: int, *, interpolate: bool = False
    ) -> Floats:
        """MFU of decode attention for each batch size and context length (n,)."""
        config = self.attention_config(heads)
        surface = self.decode[config][self.decode_tp(config, tp, interpolate=interpolate)]
        return (
            surface.interpolated(batch, context) if interpolate else surface.nearest(batch, context)
        )


Key = TypeVar("Key", Heads, Shape)


def _closest_key(wanted: Key, keys: Sequence[Key]) -> Key:
    coordinates = tuple(np.array(keys, dtype=np.float64).T)
    return keys[int(closest(tuple(np.array([float(value)]) for value in wanted), coordinates)[0])]
