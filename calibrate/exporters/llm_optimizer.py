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
    gpu = {
        "FP16_TFLOPS": peaks.positive("TFlopsPeak"),
        "FP8_TFLOPS": fp8 or None,
        "Memory_Bandwidth_GBs": peaks.positive("BwPeakTBs") * achieved_bandwidth(peaks) * GB_PER_TB,
        "VRAM_GB": memory_bytes(peaks) / BYTES_PER_GIB,
    }
    decode = peaks.positive("mfuDecode") * peaks.values.get("mfuDecodeMultiplier", 1.0)
    content = {
        "name": source.gpu.upper(),
        "gpu": gpu,
        "mfu_prefill": achieved_compute(peaks),
        "mfu_decode": decode,
    }
    note = "Memory_Bandwidth_GBs is the achieved bandwidth; hand mfu_prefill and mfu_decode to its estimate."
    return Exported(dump_json(content), (note,))


def read(text: str) -> dict[str, float]:
    """The keys of our configuration that the file gives. Raises ImportFormatError for another text."""
    content = yaml_mapping(text, _WHAT)
    gpu = content.get("gpu")
    if not isinstance(gpu, dict):
        raise ImportFormatError(f"not a {_WHAT}: it must hold gpu")
    found = numbers(gpu, ("FP16_TFLOPS", "Memory_Bandwidth_GBs", "VRAM_GB"), _WHAT)
    found |= numbers(content, ("mfu_prefill", "mfu_decode"), _WHAT)
    fp8 = {} if gpu.get("FP8_TFLOPS") is None else numbers(gpu, ("FP8_TFLOPS",), _WHAT)
    return {
        "TFlopsPeak": found["FP16_TFLOPS"],
        "BwPeakTBs": found["Memory_Bandwidth_GBs"] / GB_PER_TB,
        **({"TFlopsFP8": fp8["FP8_TFLOPS"]} if fp8 else {}),
        "MemoryGiB": found["VRAM_GB"],
        "mfuPrefill": found["mfu_prefill"],
        "mfuDecode": found["mfu_decode"],
    }
