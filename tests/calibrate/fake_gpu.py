"""A GPU that is not there: it writes down what is asked of it, and returns times, clocks and throttling as told."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

from calibrate.bench.monitor import State

STEADY = State(1755.0)
THROTTLED = State(1200.0, ("the GPU slowed itself down: power cap",), throttled=True)
POWER_CAP = 0x04
"""Its bit among NVML's reasons."""


@dataclasses.dataclass
class FakeDevice:
    """Times from ``times_us``, one a sample, and ``states``, one a question; ``calls`` are what it was asked."""

    times: Iterator[float]
    states: Iterator[State] = dataclasses.field(default_factory=lambda: iter(()))
    calls: list[tuple[str, Any]] = dataclasses.field(default_factory=list)
    kind: str = "cuda"

    def synchronize(self) -> None:
        pass

    def times_us(self, run: Callable[[], object], repeats: int, clock: str) -> list[float]:
        self.calls.append((clock, repeats))
        return [next(self.times) for _ in range(repeats)]

    def batch_us(self, run: Callable[[], object], repeats: int) -> float:
        self.calls.append(("batch", repeats))
        return 5.0

    def rest(self, seconds: float) -> None:
        self.calls.append(("rest", seconds))

    def release(self) -> None:
        pass

    def state(self, run: Callable[[], object]) -> State:
        return next(self.states, STEADY)

    def asked(self, what: str) -> list[Any]:
        """What it was asked of one kind."""
        return [value for kind, value in self.calls if kind == what]


class FakeCuda:
    """``torch.cuda`` in as far as the benchmark uses it. An event's time is ``us`` after the event before it."""

    def __init__(self, name: str = "NVIDIA H200", us: float = 250.0):
        self.calls: list[str] = []
        self.name = name
        self.us = us

    def Event(self, enable_timing: bool) -> Any:
        assert enable_timing
        name = f"event{self.calls.count('event')}"
        self.calls.append("event")
        return SimpleNamespace(
            record=lambda: self.calls.append(name), elapsed_time=lambda end: self.us / 1e3
        )

    def synchronize(self) -> None:
        self.calls.append("synchronize")

    def Stream(self) -> Any:
        return self.named("side")

    def current_stream(self) -> Any:
        return self.named("current")

    def named(self, name: str) -> Any:
        return SimpleNamespace(
            name=name, wait_stream=lambda other: self.calls.append(f"{name} waits for {other.name}")
        )

    def stream(self, stream: Any) -> Any:
        return self.scope(f"on {stream.name}")

    def CUDAGraph(self) -> Any:
        return SimpleNamespace(replay=lambda: self.calls.append("replay"))

    def graph(self, graph: Any, stream: Any) -> Any:
        return self.scope(f"capture on {stream.name}")

    @contextlib.contextmanager
    def scope(self, name: str) -> Iterator[None]:
        self.calls.append(name)
        yield
        self.calls.append(f"end {name}")

    def is_available(self) -> bool:
        return True

    def init(self) -> None:
        self.calls.append("init")

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def get_device_properties(self, device: int) -> Any:
        return SimpleNamespace(
            name=self.name,
            uuid="0",
            total_memory=150 * 10**9,
            multi_processor_count=132,
            major=9,
            minor=0,
            L2_cache_size=50 * 2**20,
        )

    def mem_get_info(self) -> tuple[int, int]:
        return 8 * 10**9, 150 * 10**9

    def memory_reserved(self) -> int:
        return 0

    memory_allocated = memory_reserved

    def empty_cache(self) -> None:
        self.calls.append("empty cache")


def fake_nvml(reasons: Iterable[int]) -> Any:
    """NVML of a GPU at 1755 MHz with a power limit of 700 W that answers with ``reasons``, and then with none."""
    left = iter(reasons)
    return SimpleNamespace(
        NVMLError=ValueError,
        NVML_CLOCK_SM=1,
        NVML_CLOCK_MEM=2,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda name: name,
        nvmlDeviceGetClockInfo=lambda handle, clock: 1755,
        nvmlDeviceGetMaxClockInfo=lambda handle, clock: {1: 1980, 2: 3201}[clock],
        nvmlDeviceGetCurrentClocksEventReasons=lambda handle: next(left, 0),
        nvmlDeviceGetComputeRunningProcesses=lambda handle: [1],
        nvmlDeviceGetEccMode=lambda handle: (1, 1),
        nvmlDeviceGetEnforcedPowerLimit=lambda handle: 700_000,
        nvmlSystemGetDriverVersion=lambda: b"580.65",
    )
