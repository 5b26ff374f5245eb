"""The same requests at any rate: what common random numbers are."""

import dataclasses

import numpy as np

from calibrate.capacity.thresholds import ALONE
from calibrate.records.errors import CalibrateError
from sim.serving.workload import Closed, Trace, Workload
from sim.units import US_PER_S


@dataclasses.dataclass(frozen=True, eq=False)
class Requests:
    """Requests that arrive one a second on average: ``unit``, whose own rate is forgotten."""

    unit: Trace

    @classmethod
    def drawn(cls, workload: Workload | Trace, seed: int, size: int | None = None) -> "Requests":
        """``size`` requests of a workload (all it has where None); a recorded one keeps its own, and its pattern.

        Raises CalibrateError for a load that has no rate to scale.
        """
        one = _sized(workload, size).draw(seed) if isinstance(workload, Workload) else workload
        span_us = float(one.arrival_us[-1] - one.arrival_us[0])
        if not (np.isfinite(span_us) and span_us > 0):
            raise CalibrateError(
                "the requests of the workload have no rate that could be raised or lowered: they arrive all at once; "
                "give one with arrival times, or lengths by --prompt-tokens and --output-tokens"
            )
        # chance makes gaps longer in one draw than in another; rates are told of the gaps as they were drawn
        rate = (len(one) - 1) / span_us * US_PER_S
        return cls(dataclasses.replace(one, arrival_us=one.arrival_us * rate))

    def __len__(self) -> int:
        return len(self.unit)

    def at(self, rate: float) -> Trace:
        """The same requests and unit gaps at ``rate`` requests a second."""
        return dataclasses.replace(self.unit, arrival_us=self.unit.arrival_us / rate)

    @property
    def alone(self) -> Trace:
        """The first of them one after another: each is sent when the one before has its answer."""
        few = slice(0, ALONE)
        unit = self.unit
        size = len(unit.arrival_us[few])
        arrival_us = np.where(np.arange(size) == 0, 0.0, np.inf)
        return dataclasses.replace(
            unit,
            arrival_us=arrival_us,
            prompt_tokens=unit.prompt_tokens[few],
            output_tokens=unit.output_tokens[few],
            cached_tokens=unit.cached_tokens[few],
            prefix=unit.prefix[few],
        )


def _sized(workload: Workload, size: int | None) -> Workload:
    if isinstance(workload.load, Closed):
        raise CalibrateError(
            "a closed load has no rate to look for; leave --concurrency out, or give --rate"
        )
    return workload if size is None else dataclasses.replace(workload, num_requests=size)
