"""A system of GenZ (package genz-llm 0.0.16): the dict that ``system_name=`` of its functions takes, as JSON.

Its functions know one ``system_eff`` for compute and memory alike, so the two efficiencies are already in ``Flops``
(TFLOP/s) and ``Memory_BW``; leave ``system_eff`` at 1. It counts a GB/s as 2³⁰ bytes (``GenZ/unit.py``), and so do
these numbers. An all-reduce takes 5 µs + 2·(N − 1)·``ICN_LL`` + data over ``ICN`` (``GenZ/collective_times.py``):
``ICN_LL``, in µs, is such that one of two GPUs takes ``allReduceLatency`` without data.
"""

from calibrate.exporters.exported import (
    Exported,
    Source,
    achieved_bandwidth,
    achieved_compute,
    memory_bytes,
    numbers,
    yaml_mapping,
)
from calibrate.outcome.result_json import dump_json
from sim.models.roofline_v1.model import RooflineV1
from sim.units import BYTES_PER_GIB, GIGA, TERA

_RING_START_US = 5.0
_READ = (
    "Flops",
    "Memory_size",
    "Memory_BW",
    "ICN",
    "ICN_LL",
)
_WHAT = "system of GenZ"


def write(source: Source) -> Exported:
    """Raises HardwareError without a peak, an efficiency, MemoryGiB or IntraNodeBwGBps."""
    peaks = source.peaks
    default_us = RooflineV1.defaults()["allReduceLatency"]
    reduce_us = peaks.values.get("allReduceLatency", default_us)
    tera_flops = peaks.positive("TFlopsPeak") * achieved_compute(peaks)
    memory_gib = memory_bytes(peaks) / BYTES_PER_GIB
    tera_bytes_per_s = peaks.positive("BwPeakTBs") * achieved_bandwidth(peaks)
    system = {
        "Flops": tera_flops,
        "Memory_size": memory_gib,
        "Memory_BW": tera_bytes_per_s * TERA / BYTES_PER_GIB,
        "ICN": peaks.positive("IntraNodeBwGBps") * GIGA / BYTES_PER_GIB,
        "ICN_LL": max(reduce_us - _RING_START_US, 0.0) / 2.0,
        "real_values": True,
    }

    notes = ["Flops and Memory_BW are achieved figures in GenZ's units: leave system_eff at 1."]
    if reduce_us < _RING_START_US:
        notes.append(
            f"allReduceLatency is {reduce_us:g} µs, GenZ takes {_RING_START_US:g} µs at the least."
        )
    return Exported(dump_json(system), tuple(notes))


def read(text: str) -> dict[str, float]:
    """The keys of our configuration that a system gives, its efficiencies taken as 1. Raises ImportFormatError."""
    content = yaml_mapping(text, _WHAT)
    system = numbers(content, _READ, _WHAT)
    return {
        "TFlopsPeak": system["Flops"],
        "BwPeakTBs": system["Memory_BW"] * BYTES_PER_GIB / TERA,
        "MemoryGiB": system["Memory_size"],
        "IntraNodeBwGBps": system["ICN"] * BYTES_PER_GIB / GIGA,
        "allReduceLatency": _RING_START_US + 2.0 * system["ICN_LL"],
    }
