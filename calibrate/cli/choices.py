"""The names that options take, in help and in the shell's completion, without what makes the registries heavy."""

from collections.abc import Iterable
from pathlib import Path

from sim.hardware import gpu_specs

LATENCY_MODELS = ("roofline-v1", "roofline-v3", "roofline-v4", "roofline-v2", "roofline-v2-interp")
"""As :data:`sim.models.registry.LATENCY_MODELS` has them, which needs numpy."""

IMPORT_FORMATS = (
    *("aiconfigurator", "bench-data", "inference-perf", "guidellm", "forward-pass-metrics"),
    *("aisimulate", "blis-evaluation", "blis-trace", "llm-d-benchmark", "inferencemax"),
    *("inferencemax-style", "llmservingsim", "otel", "vllm-bench", "vllm-latency", "sglang-bench"),
    *("sglang-log", "aiperf", "splitwise"),
)
"""As :data:`calibrate.importers.IMPORTERS` has them, which needs pandas."""

EXPORT_FORMATS = (
    *("aisimulate", "aiconfigurator", "blis-coefficients", "dynamo-planner", "sglang-simulator"),
    *("llm-d-inference-sim", "autoscaler", "vidur", "llmservingsim", "genz", "llm-optimizer"),
    *("petab", "bench-data", "json", "blis", "blis-trained-physics", "blis-v1", "blis-v2"),
    "blis-minimal",
)
"""As :data:`calibrate.exporters.EXPORTERS` has them, likewise."""

KNOWN_GPUS = ("H100", "H200", "A100-SXM", "L40S", "B200", "GB200", "MI300X")
"""Some of the registry's, which are too many for a line of help."""

AUTO = "auto"

_GROUND_TRUTH = Path("ground_truth")


def listed(names: Iterable[str]) -> str:
    """The names in words: ``a, b or c``."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def complete_latency_model(incomplete: str) -> list[str]:
    """The latency models that go on so."""
    return _beginning(LATENCY_MODELS, incomplete)


def complete_latency_model_or_auto(incomplete: str) -> list[str]:
    """The same where the command may choose."""
    return _beginning((*LATENCY_MODELS, AUTO), incomplete)


def complete_gpu(incomplete: str) -> list[str]:
    """The GPUs that go on so: those with campaigns here, and those whose peaks are known."""
    here = _GROUND_TRUTH.iterdir() if _GROUND_TRUTH.is_dir() else ()
    measured = sorted(path.name for path in here if path.is_dir() and path.name[0] != ".")
    return _beginning(dict.fromkeys([*measured, *gpu_specs()]), incomplete)


def complete_import_format(incomplete: str) -> list[str]:
    """The formats to import that go on so."""
    return _beginning(IMPORT_FORMATS, incomplete)


def complete_export_format(incomplete: str) -> list[str]:
    """The formats to export that go on so."""
    return _beginning(EXPORT_FORMATS, incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
