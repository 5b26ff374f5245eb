"""One replica of a served model: what serves, on which GPUs, within which limits."""

import dataclasses

from sim.architecture import Architecture
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.serving.engine import EngineLimits
from sim.serving.result import ServingResult
from sim.serving.simulation import simulate
from sim.serving.workload import Trace


@dataclasses.dataclass(frozen=True, eq=False)
class Replica:
    """``arch`` on ``tp`` GPUs behind one scheduler, with steps as ``model`` has them at the values of ``hardware``."""

    model: LatencyModel
    arch: Architecture
    hardware: Hardware
    tp: int
    engine: EngineLimits

    def serve(self, requests: Trace, *, keep_steps: bool = False) -> ServingResult:
        """What becomes of the requests; with ``keep_steps`` each step, too."""
        return simulate(
            requests,
            self.engine,
            self.model,
            self.arch,
            self.hardware,
            self.tp,
            keep_steps=keep_steps,
        )

    def with_values(self, values: dict[str, float]) -> "Replica":
        """The same with other values of parameters, those of times around the engine too."""
        hardware = self.hardware.with_values(values)
        engine = self.engine.with_request_times(hardware, self.arch)
        return dataclasses.replace(self, hardware=hardware, engine=engine)
