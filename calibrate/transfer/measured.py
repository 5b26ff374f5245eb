"""A GPU that was measured: its fit, as a transfer takes it."""

import dataclasses
from collections.abc import Mapping

from calibrate.fitting.objective import Dataset
from calibrate.transfer.kind import Kind
from sim.hardware import Hardware


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """A fit to ``data`` that began at ``start``: ``hardware`` is its solution, ``stderr`` of what the data tell.

    ``error`` is its mean absolute relative error, ``misfit`` the standard deviation of ln(predicted/measured).
    """

    start: Hardware
    hardware: Hardware
    kind: Kind
    data: Dataset
    stderr: Mapping[str, float]
    error: float
    misfit: float

    @property
    def gpu(self) -> str:
        """Its name."""
        return self.hardware.gpu
