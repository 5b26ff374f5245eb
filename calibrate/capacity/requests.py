"""The same requests at any rate: what common random numbers are."""

import dataclasses

import numpy as np

from calibrate.capacity.thresholds import ALONE
from calibrate.records.errors import CalibrateError
from sim.serving.workload import Constant, Gamma, Poisson, Stage, Trace, Workload
from sim.units import US_PER_S


@dataclasses.dataclass(frozen=True, eq=False)
class Requests:
    """Requests that arrive one a second on average: ``unit``."""

    unit: Trace

    @classmethod
    def drawn(cls, workload: Workload | Trace, seed: int, size: int | None = None) -> "Requests":
        """``size`` requests of a workload (all it has where None); a recorded one keeps its own, and its pattern.

        Raises CalibrateError for a load that has no rate to scale.
        """
        if isinstance(workload, Workload):
            return cls(_at_one_a_second(workload, size).draw(seed))
        span_us = float(workload.arrival_us[-1] - workload.arrival_us[0])
        if not (np.isfinite(span_us) and span_us > 0):
            raise CalibrateError(
                "the requests of the workload have no rate that could be raised or lowered: they arrive all at once; "
                "give one with arrival times, or lengths by --prompt-tokens and --output-tokens"
            )
        rate = (len(workload) - 1) / span_us * US_PER_S
        return cls(dataclasses.replace(workload, arrival_us=workload.arrival_us * rate))

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


def _at_one_a_second(workload: Workload, size: int | None) -> Workload:
    load = workload.load
    if not isinstance(load, Constant | Gamma | Poisson | Stage):
        raise CalibrateError(
            "a closed load has no rate to look for; leave --concurrency out, or give --rate"
        )
    number = workload.num_requests if size is None else size
    unit_load = dataclasses.replace(load, rate=1.0)
    return dataclasses.replace(workload, num_requests=number, load=unit_load)
