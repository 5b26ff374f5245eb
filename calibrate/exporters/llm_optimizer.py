"""A GPU of llm-optimizer (BentoML; ``llm_optimizer/predefined/gpus.py``, ``performance.py``), as JSON.

``gpu`` is an entry of its ``GPU_SPECS``; ``mfu_prefill`` and ``mfu_decode`` are arguments of its
``estimate_llm_performance``. It has no bandwidth efficiency, so ``Memory_Bandwidth_GBs`` is what decode steps reach. It
takes every MLP as four hidden sizes wide, so its times agree with ours only as far as a model's MLP is.
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
from calibrate.records.errors import ImportFormatError
from sim.units import BYTES_PER_GIB, GB_PER_TB

_WHAT = "GPU of llm-optimizer"


def write(source: Source) -> Exported:
    """Raises HardwareError without a peak, an efficiency or MemoryGiB."""
    peaks = source.peaks
    fp8 = peaks.values.get("TFlopsFP8", 0.0)
    tera_flops = peaks.positive("TFlopsPeak")
    tera_bytes_per_s = peaks.positive("BwPeakTBs") * achieved_bandwidth(peaks)
    gpu = {
        "FP16_TFLOPS": tera_flops,
        "FP8_TFLOPS": fp8 or None,
        "Memory_Bandwidth_GBs": tera_bytes_per_s * GB_PER_TB,
        "VRAM_GB": memory_bytes(peaks) / BYTES_PER_GIB,
    }
    multiplier = peaks.values.get("mfuDecodeMultiplier", 1.0)
    achieved_decode = peaks.positive("mfuDecode") * multiplier
    content = {
        "name": source.gpu.upper(),
        "gpu": gpu,
        "mfu_prefill": achieved_compute(peaks),
        "mfu_decode": achieved_decode,
    }
    note = "Memory_Bandwidth_GBs is the achieved bandwidth; hand mfu_prefill and mfu_decode to its estimate."
    return Exported(dump_json(content), (note,))


def read(text: str) -> dict[str, float]:
    """The keys of our configuration that the file gives. Raises ImportFormatError for another text."""
    content = yaml_mapping(text, _WHAT)
    gpu = content.get("gpu")
    if not isinstance(gpu, dict):
        raise ImportFormatError(f"not a {_WHAT}: it must hold gpu")
    stated = numbers(gpu, ("FP16_TFLOPS", "Memory_Bandwidth_GBs", "VRAM_GB"), _WHAT)
    mfus = numbers(content, ("mfu_prefill", "mfu_decode"), _WHAT)
    values = {
        "TFlopsPeak": stated["FP16_TFLOPS"],
        "BwPeakTBs": stated["Memory_Bandwidth_GBs"] / GB_PER_TB,
    }
    if gpu.get("FP8_TFLOPS") is not None:
        fp8 = numbers(gpu, ("FP8_TFLOPS",), _WHAT)
        values["TFlopsFP8"] = fp8["FP8_TFLOPS"]
    values["MemoryGiB"] = stated["VRAM_GB"]
    values["mfuPrefill"] = mfus["mfu_prefill"]
    values["mfuDecode"] = mfus["mfu_decode"]
    return values
