"""The same requests at any rate: what common random numbers are."""

import dataclasses

import numpy as np

from calibrate.capacity.thresholds import ALONE
from calibrate.records.errors import CalibrateError
from sim.serving.workload import Closed, Load, Trace, Workload, trace
from sim.units import US_PER_S


@dataclasses.dataclass(frozen=True, eq=False)
class Recorded:
    """Requests of a record, drawn at random with what each has of prompt, output and cache, arriving by ``load``."""

    requests: Trace
    load: Load

    def draw(self, seed: int, size: int) -> Trace:
        """``size`` of them, with repetition."""
        rng = np.random.default_rng(seed)
        rows = rng.integers(0, len(self.requests), size)
        arrival_us = self.load.arrivals_us(rng, size)
        return trace(
            arrival_us / US_PER_S,
            self.requests.prompt_tokens[rows],
            self.requests.output_tokens[rows],
            self.requests.cached_tokens[rows],
        )


Asked = Workload | Trace | Recorded


@dataclasses.dataclass(frozen=True, eq=False)
class Requests:
    """Requests that arrive one a second on average: ``unit``, whose own rate is forgotten."""

    unit: Trace

    @classmethod
    def drawn(cls, workload: Asked, seed: int, size: int | None = None) -> "Requests":
        """``size`` requests of a workload (all it has where None); a recorded one keeps its own, and its pattern.

        Raises CalibrateError for a load that has no rate to scale.
        """
        one = _draw(workload, seed, size)
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


def running_tokens(workload: Asked, seed: int) -> float:
    """Tokens that a running request of a workload has on average."""
    drawn = workload.requests if isinstance(workload, Recorded) else workload.draw(seed)
    return drawn.running_tokens


def _draw(workload: Asked, seed: int, size: int | None) -> Trace:
    if isinstance(workload, Trace):
        return workload
    if isinstance(workload.load, Closed):
        raise CalibrateError(
            "a closed load has no rate to look for; leave --concurrency out, or give --rate"
        )
    if isinstance(workload, Recorded):
        return workload.draw(seed, size or len(workload.requests))
    sized = workload if size is None else dataclasses.replace(workload, num_requests=size)
    return sized.draw(seed)
