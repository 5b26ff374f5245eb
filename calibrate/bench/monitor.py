"""What goes on around a measurement: clocks, throttling, other processes; from NVML, or the load of a CPU."""

import dataclasses
import os
from typing import Any, Protocol

_BUSY = 0.5  # of the cores, kept busy by others before anything is measured

_THROTTLING = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""Bits of nvmlDeviceGetCurrentClocksEventReasons that slow a busy GPU down (nvml.h, nvmlClocksEventReasons)."""


@dataclasses.dataclass(frozen=True)
class State:
    """The SM clock in MHz (None: not known), everything that disturbs, in words, and whether it slowed itself down."""

    sm_clock_mhz: float | None = None
    disturbances: tuple[str, ...] = ()
    throttled: bool = False


class Monitor(Protocol):
    """What can be seen of a device from outside."""

    def state(self) -> State:
        """The state at this moment."""

    def facts(self) -> dict[str, str | float]:
        """What does not change: driver, limits, clocks at most."""


def open_monitor(uuid: str | None) -> Monitor:
    """The monitor of the GPU of that UUID (None: of the processor); one that knows nothing if NVML fails."""
    if uuid is None:
        return CpuMonitor(os.getloadavg()[0])
    try:
        import pynvml

        pynvml.nvmlInit()
        name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        return GpuMonitor(pynvml, pynvml.nvmlDeviceGetHandleByUUID(name))
    except ImportError as error:
        return BlindMonitor(f"nvidia-ml-py is not installed ({error})")
    except pynvml.NVMLError as error:
        return BlindMonitor(f"NVML: {error}")


@dataclasses.dataclass(frozen=True)
class BlindMonitor:
    """Sees nothing, and says why."""

    why: str

    def state(self) -> State:
        """See :class:`Monitor`."""
        return State(disturbances=(f"clocks and throttling were not watched ({self.why})",))

    def facts(self) -> dict[str, str | float]:
        """See :class:`Monitor`."""
        return {}


@dataclasses.dataclass(frozen=True)
class CpuMonitor:
    """A processor; ``load_before`` is the load average (one minute) before anything was measured."""

    load_before: float

    def state(self) -> State:
        """See :class:`Monitor`."""
        cores = os.cpu_count() or 1
        busy = f"other processes kept {self.load_before:.1f} of {cores} cores busy before measuring"
        return State(disturbances=(busy,) if self.load_before > _BUSY * cores else ())

    def facts(self) -> dict[str, str | float]:
        """See :class:`Monitor`."""
        return {"load_average_before": round(self.load_before, 2)}


@dataclasses.dataclass(frozen=True)
class GpuMonitor:
    """One GPU, through NVML."""

    nvml: Any
    handle: Any

    def state(self) -> State:
        """See :class:`Monitor`."""
        clock = self._ask("nvmlDeviceGetClockInfo", self.nvml.NVML_CLOCK_SM)
        reasons = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:  # the name before driver 535
            reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        throttling = [
            f"the GPU slowed itself down: {text}"
            for bit, text in _THROTTLING.items()
            if (reasons or 0) & bit
        ]
        found = list(throttling)
        # One of them is this process
        others = len(self._ask("nvmlDeviceGetComputeRunningProcesses") or ()) - 1
        if others > 0:
            found.append(f"{others} other process{'es' if others > 1 else ''} on the GPU")
        return State(None if clock is None else float(clock), tuple(found), bool(throttling))

    def facts(self) -> dict[str, str | float]:
        """See :class:`Monitor`."""
        ecc = self._ask("nvmlDeviceGetEccMode")
        power_mw = self._ask("nvmlDeviceGetEnforcedPowerLimit")
        facts = {
            "driver": self._text("nvmlSystemGetDriverVersion"),
            "max_sm_clock_mhz": self._ask("nvmlDeviceGetMaxClockInfo", self.nvml.NVML_CLOCK_SM),
            "max_memory_clock_mhz": self._ask(
                "nvmlDeviceGetMaxClockInfo", self.nvml.NVML_CLOCK_MEM
            ),
            "power_limit_w": None if power_mw is None else power_mw / 1e3,
            "ecc": None if ecc is None else ("on" if ecc[0] else "off"),
        }
        return {name: value for name, value in facts.items() if value is not None}

    def _ask(self, function: str, *arguments: Any) -> Any:
        """What NVML answers; None where this driver or GPU does not know."""
        try:
            return getattr(self.nvml, function)(self.handle, *arguments)
        except (self.nvml.NVMLError, AttributeError):
            return None

    def _text(self, function: str) -> str | None:
        try:
            answer = getattr(self.nvml, function)()
        except self.nvml.NVMLError:
            return None
        return answer.decode() if isinstance(answer, bytes) else str(answer)
