"""A trial of the compiled loop: whether it runs here, and whether the next process finds it on the disk."""

import dataclasses
import time

from sim.architecture_files import load_architecture
from sim.errors import SimError
from sim.hardware import Hardware
from sim.models.roofline_v1.model import RooflineV1
from sim.serving.engine import EngineLimits
from sim.serving.lengths import Fixed
from sim.serving.simulation import simulate
from sim.serving.workload import Closed, Workload

_REQUESTS = 4
_TOKENS = 16


@dataclasses.dataclass(frozen=True)
class Trial:
    """How long loading and running the loop took, and where it is kept; ``folder`` is None where nothing is."""

    seconds: float
    folder: str | None
    was_kept: bool
    is_compiled: bool


def try_compiled_loop(hardware: Hardware) -> Trial:
    """Serve a few requests. Raises SimError where the simulator gives other than all their tokens."""
    began = time.perf_counter()
    workload = Workload(_REQUESTS, Closed(_REQUESTS), Fixed(_TOKENS), Fixed(_TOKENS))
    served = simulate(
        workload, EngineLimits(), RooflineV1(), load_architecture("llama-3.1-8b"), hardware
    )
    if served.summary()["requests"] != _REQUESTS:
        raise SimError(
            "the simulator did not serve a trial's requests: install llm-calibrate again"
        )
    from sim.serving.step_loop import advance

    stats = getattr(advance, "stats", None)  # none where numba is switched off
    return Trial(
        seconds=time.perf_counter() - began,
        folder=stats.cache_path if stats else None,
        was_kept=bool(stats and stats.cache_hits),
        is_compiled=stats is not None,
    )
