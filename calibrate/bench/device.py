"""The device under test as a small object: waiting, timing, emptying its cache, its memory and its state."""

import contextlib
import dataclasses
import functools
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from calibrate.bench.monitor import Monitor, State, open_monitor
from calibrate.records.distribution import install_extra
from calibrate.records.errors import CalibrateError
from sim.errors import nearest
from sim.units import BYTES_PER_KIB, NS_PER_US, US_PER_MS

if TYPE_CHECKING:
    import torch

Run = Callable[[], object]
Clock = Literal["device", "host"]
"""``device``: the kernels alone, between two events. ``host``: from the first launch until all is done."""

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Weight types that can be measured, and PyTorch's names of them."""

_CPU_FLUSH_BYTES = 2**26, 2**29  # at least, at most
# Many times any L2 cache; written for 0.1 ms or more, which is longer than a launch takes
_GPU_FLUSH_BYTES = 2**30


class Device(Protocol):
    """What a measurement needs of a device."""

    @property
    def kind(self) -> Literal["cuda", "cpu"]:
        """PyTorch's name of the device."""

    @property
    def monitor(self) -> Monitor:
        """What watches it."""

    def synchronize(self) -> None:
        """Wait until everything launched is done."""

    def times_us(self, run: Run, repeats: int, clock: Clock) -> list[float]:
        """Durations of ``repeats`` runs in µs, the cache emptied before each."""

    def batch_us(self, run: Run, repeats: int) -> float:
        """Time of one of ``repeats`` runs in µs that follow each other, the cache as the run before left it."""

    def rest(self, seconds: float) -> None:
        """Leave it idle, so that power and heat fall."""

    def free_bytes(self) -> int:
        """Memory that can be allocated."""

    def release(self) -> None:
        """Give back memory that is cached but not in use."""

    def state(self, run: Run) -> State:
        """Clocks, and what disturbs a measurement, while ``run`` is running."""


def import_torch() -> Any:
    """The module torch. Raises CalibrateError naming the extra if it is not installed."""
    try:
        import torch
    except ImportError as error:
        raise CalibrateError(
            f"bench needs PyTorch, which is not installed ({error}). Install the extra: {install_extra('bench')}"
        ) from None
    return torch


def open_device(kind: str | None = None, threads: int | None = None) -> Device:
    """The device of that kind; without one, CUDA's where there is a GPU. ``threads`` are those of a processor.

    Raises CalibrateError if there is none.
    """
    if kind not in (None, "cuda", "cpu"):
        raise CalibrateError(
            f"--device {kind}: is neither cuda nor cpu{nearest(str(kind), ('cuda', 'cpu'))}"
        )
    torch = import_torch()
    has_gpu = torch.cuda.is_available()
    if kind == "cuda" and not has_gpu:
        build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU only"
        raise CalibrateError(
            f"--device cuda: PyTorch {torch.__version__} (built for {build}) sees no GPU; see whether `nvidia-smi` "
            "lists one and CUDA_VISIBLE_DEVICES does not hide it, or give --device cpu"
        )
    if threads is not None:
        torch.set_num_threads(threads)
    return _open_cuda(torch) if has_gpu and kind != "cpu" else _open_cpu(torch)


def torch_dtype(dtype: str) -> "torch.dtype":
    """PyTorch's type of that name. Raises CalibrateError for one that is not measured."""
    if dtype not in DTYPES:
        raise CalibrateError(
            f"--dtype {dtype}: is not one of {', '.join(DTYPES)}{nearest(dtype, DTYPES)}"
        )
    return getattr(import_torch(), DTYPES[dtype])


@dataclasses.dataclass(frozen=True)
class CpuDevice:
    """The processor: everything is done when a call returns. ``scratch`` is larger than its last-level cache."""

    scratch: Any
    monitor: Monitor
    kind: Literal["cuda", "cpu"] = "cpu"

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def times_us(self, run: Run, repeats: int, clock: Clock) -> list[float]:  # noqa: ARG002 (one clock only)
        """See :class:`Device`."""
        return [_host_time_us(self, self.scratch, run) for _ in range(repeats)]

    def batch_us(self, run: Run, repeats: int) -> float:
        """See :class:`Device`."""
        start_ns = time.perf_counter_ns()
        for _ in range(repeats):
            run()
        return (time.perf_counter_ns() - start_ns) / NS_PER_US / repeats

    def rest(self, seconds: float) -> None:
        """See :class:`Device`."""
        time.sleep(seconds)

    def free_bytes(self) -> int:
        """See :class:`Device`."""
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def release(self) -> None:
        """See :class:`Device`."""
        gc.collect()

    def state(self, run: Run) -> State:  # noqa: ARG002 (the load needs no run)
        """See :class:`Device`."""
        return self.monitor.state()


@dataclasses.dataclass(frozen=True)
class CudaDevice:
    """PyTorch's current GPU. ``scratch`` is larger than its L2 cache."""

    torch: Any
    scratch: Any
    monitor: Monitor
    kind: Literal["cuda", "cpu"] = "cuda"

    def synchronize(self) -> None:
        """See :class:`Device`."""
        self.torch.cuda.synchronize()

    def times_us(self, run: Run, repeats: int, clock: Clock) -> list[float]:
        """See :class:`Device`."""
        if clock == "host":
            return [_host_time_us(self, self.scratch, run) for _ in range(repeats)]
        pairs = [self._events() for _ in range(repeats)]
        for start, end in pairs:
            self.scratch.zero_()  # the host launches the run while this is at work: no launch time is counted
            start.record()
            run()
            end.record()
        self.synchronize()
        return [US_PER_MS * start.elapsed_time(end) for start, end in pairs]

    def batch_us(self, run: Run, repeats: int) -> float:
        """See :class:`Device`."""
        start, end = self._events()
        start.record()
        for _ in range(repeats):
            run()
        end.record()
        self.synchronize()
        return float(US_PER_MS * start.elapsed_time(end) / repeats)

    def _events(self) -> tuple[Any, Any]:
        event = self.torch.cuda.Event
        return event(enable_timing=True), event(enable_timing=True)

    def rest(self, seconds: float) -> None:
        """See :class:`Device`."""
        self.synchronize()
        time.sleep(seconds)

    def free_bytes(self) -> int:
        """See :class:`Device`."""
        cached = self.torch.cuda.memory_reserved() - self.torch.cuda.memory_allocated()
        return int(self.torch.cuda.mem_get_info()[0]) + int(cached)

    def release(self) -> None:
        """See :class:`Device`."""
        gc.collect()
        self.torch.cuda.empty_cache()

    def state(self, run: Run) -> State:
        """See :class:`Device`."""
        for _ in range(2):  # some work in flight
            run()
        state = self.monitor.state()
        self.synchronize()
        return state


def _host_time_us(device: Device, scratch: "torch.Tensor", run: Run) -> float:
    scratch.zero_()
    device.synchronize()
    start_ns = time.perf_counter_ns()
    run()
    device.synchronize()
    return (time.perf_counter_ns() - start_ns) / NS_PER_US


def _open_cpu(torch: Any) -> CpuDevice:
    least, most = _CPU_FLUSH_BYTES
    size = min(max(4 * _last_level_cache_bytes(), least), most)
    return CpuDevice(torch.empty(size, dtype=torch.int8), open_monitor(None))


def _open_cuda(torch: Any) -> CudaDevice:
    torch.cuda.init()
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    scratch = torch.empty(_GPU_FLUSH_BYTES, dtype=torch.int8, device="cuda")
    return CudaDevice(torch, scratch, open_monitor(str(properties.uuid)))


@functools.cache
def _last_level_cache_bytes() -> int:
    """The largest cache that the kernel tells of; 32 MiB where it tells of none."""
    sizes = [2**25]
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        with contextlib.suppress(OSError, ValueError):
            sizes.append(int(file.read_text().strip().removesuffix("K")) * BYTES_PER_KIB)
    return max(sizes)
