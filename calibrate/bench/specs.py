"""What the machine is: names, versions, limits; and its peaks, from the registry or measured."""

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from calibrate.bench.device import Device, import_torch
from calibrate.bench.gemm import gemm_points
from calibrate.bench.memory import memory_points
from calibrate.bench.point import Cell, Point
from calibrate.bench.sizes import Sizes
from calibrate.campaign.campaign import load_campaign
from calibrate.campaign.physics import KERNELS
from calibrate.campaign.thresholds import CACHE_SPEED, CACHED_BYTES
from calibrate.records.errors import CalibrateError
from calibrate.records.schema import COLLECTIVES, TABLES
from calibrate.records.tables import read_table
from sim.hardware import canonical_gpu, gpu_specs
from sim.steps.batch import Floats
from sim.steps.work import minimum_work
from sim.units import BYTES_PER_GIB, BYTES_PER_MIB, MEGA

_TRIALS = 10
_WIDENED = 1.05  # a measured peak is widened by this, or to the fastest row


def machine(device: Device) -> dict[str, Cell]:
    """Names, versions and limits of the device, as ``campaign.toml`` has them under ``machine``."""
    torch = import_torch()
    software: dict[str, Cell] = {
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }
    own = _gpu_facts(torch) if device.kind == "cuda" else _cpu_facts(torch)
    return {**own, **device.monitor.facts(), **software}


def _gpu_facts(torch: Any) -> dict[str, Cell]:
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "device": properties.name,
        "memory_gib": round(properties.total_memory / BYTES_PER_GIB, 2),
        "multiprocessors": properties.multi_processor_count,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "l2_cache_mib": round(properties.L2_cache_size / BYTES_PER_MIB, 1),
        "gpus": torch.cuda.device_count(),
        "cuda": str(torch.version.cuda),
    }


def _cpu_facts(torch: Any) -> dict[str, Cell]:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "device": _cpu_name(),
        "memory_gib": round(memory / BYTES_PER_GIB, 2),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def check_gpu(gpu: str, name: str) -> None:
    """Raise CalibrateError if the device's own ``name`` is another GPU of the registry than ``gpu``."""
    found = canonical_gpu(name)
    if found in gpu_specs() and found != canonical_gpu(gpu):
        raise CalibrateError(f"--gpu {gpu}: this machine has a {name}; give --gpu {found}")


def peaks(
    device: Device, gpu: str, memory_gib: float, dtype: str, sizes: Sizes
) -> tuple[dict[str, float], str]:
    """The GPU's block of a configuration, and where its peaks come from: the registry, or measured as the best of many.

    A measured peak is that of one large product and of copies, triads and reads, widened by 5%.
    """
    spec = gpu_specs().get(canonical_gpu(gpu))
    if spec is not None:
        return dict(spec.values), spec.source
    with import_torch().inference_mode():
        gemm = _fastest_us(device, gemm_points(device, [], [], [], [sizes.peak_gemm], dtype)[0])
        bandwidths = [
            float(point.columns["bytes"]) / _fastest_us(device, point)
            for point in memory_points(device, (sizes.peak_mib,))
        ]
    values = {
        "TFlopsPeak": _WIDENED * 2.0 * sizes.peak_gemm**3 / gemm / MEGA,
        "BwPeakTBs": _WIDENED * max(bandwidths) / MEGA,
        "MemoryGiB": memory_gib,
    }
    return values, f"measured on this machine ({dtype}), best of {_TRIALS}; not a vendor's figure"


def _fastest_us(device: Device, point: Point) -> float:
    run = point.prepare().run
    device.times_us(run, 3, "device")
    return min(device.times_us(run, _TRIALS, "device"))


def widened(values: dict[str, float], folder: Path, gpu: str) -> dict[str, float]:
    """Measured peaks raised to what the fastest row of the campaign implies, so that none is faster than physics.

    Raises CalibrateError where a row took so little that no peak allows it.
    """
    tflops = [values["TFlopsPeak"]]
    tb_per_s = [values["BwPeakTBs"]]
    campaign = load_campaign(folder, gpu)
    if len(campaign.steps):
        work = minimum_work(campaign.table)
        latency = campaign.steps["latency_us"].to_numpy()
        tflops.append(_implied(work.flops, latency))
        tb_per_s.append(_implied(work.bytes, latency))
    for name in KERNELS.keys() - set(COLLECTIVES):
        file = folder / f"{name}.csv"
        frame = read_table(file, TABLES[name]).frame if file.exists() else None
        if frame is not None and len(frame):
            kernel = KERNELS[name].work(frame)
            latency = frame["latency_us"].to_numpy()
            allowance = np.where(np.asarray(kernel.bytes) < CACHED_BYTES, CACHE_SPEED, 1.0)
            tflops.append(_implied(kernel.flops, latency))
            tb_per_s.append(_implied(kernel.bytes / allowance, latency))
    peaks = {"TFlopsPeak": max(tflops), "BwPeakTBs": max(tb_per_s)}
    if not np.isfinite(list(peaks.values())).all():
        raise CalibrateError(f"{folder}: a latency_us is next to nothing: remove its row")
    return {**values, **peaks}


def _implied(amount: Floats | float, latency_us: Floats) -> float:
    """The peak, in millions a µs, that the fastest of rows (n,) implies, widened."""
    with np.errstate(over="ignore"):
        return _WIDENED * float(np.max(amount / latency_us)) / MEGA
