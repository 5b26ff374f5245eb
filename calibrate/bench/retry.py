"""A point that was measured while the GPU slowed itself down is measured again after a rest, as long as that helps."""

import dataclasses

from calibrate.bench.device import Device
from calibrate.bench.monitor import State
from calibrate.bench.point import Point, Prepared
from calibrate.bench.timing import Sampling, Timing, measure

RESTS_S = (0.5, 2.0)
"""Before the second and the third try: power limits are averaged over a fraction of a second, heat goes in seconds."""
HOPELESS = 5
"""So many points in a row that stayed throttled: the GPU is slow throughout, and rests only cost time."""


@dataclasses.dataclass
class Retries:
    """``again`` measurements were repeated; the last ``in_vain`` points stayed throttled all the same."""

    again: int = 0
    in_vain: int = 0

    def measured(
        self, device: Device, point: Point, prepared: Prepared, sampling: Sampling, timeout_s: float
    ) -> tuple[Timing, State]:
        """The last try of a point, and the device's state at its end."""
        rests_s = RESTS_S if self.in_vain < HOPELESS else ()
        timing = measure(device, prepared.run, sampling, timeout_s, point.clock)
        state = device.state(prepared.run)
        for rest_s in rests_s:
            if not state.throttled:
                break
            device.rest(rest_s)
            timing = measure(device, prepared.run, sampling, timeout_s, point.clock)
            state = device.state(prepared.run)
            self.again += 1
        self.in_vain = self.in_vain + 1 if state.throttled else 0
        return timing, state
