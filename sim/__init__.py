"""Predicts the duration of LLM-inference engine steps from a hardware configuration, and serving made of them."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.architecture import Architecture, load_architecture
    from sim.batch import Batch, StepTable
    from sim.engine import EngineLimits
    from sim.errors import ArchitectureError, HardwareError, MfuTableError, SimError, StepError, WorkloadError
    from sim.hardware import Hardware, load_hardware
    from sim.latency import LatencyModel, latency_model
    from sim.mfu_files import load_mfu_table
    from sim.mfu_table import MfuTable
    from sim.serving import simulate
    from sim.serving_result import ServingResult
    from sim.workload import Trace, Workload

__all__ = [
    "Architecture",
    "ArchitectureError",
    "Batch",
    "EngineLimits",
    "Hardware",
    "HardwareError",
    "LatencyModel",
    "MfuTable",
    "MfuTableError",
    "ServingResult",
    "SimError",
    "StepError",
    "StepTable",
    "Trace",
    "Workload",
    "WorkloadError",
    "latency_model",
    "load_architecture",
    "load_hardware",
    "load_mfu_table",
    "simulate",
]

_HOMES = {
    "architecture": ("Architecture", "load_architecture"),
    "batch": ("Batch", "StepTable"),
    "engine": ("EngineLimits",),
    "errors": ("ArchitectureError", "HardwareError", "MfuTableError", "SimError", "StepError", "WorkloadError"),
    "hardware": ("Hardware", "load_hardware"),
    "latency": ("LatencyModel", "latency_model"),
    "mfu_files": ("load_mfu_table",),
    "mfu_table": ("MfuTable",),
    "serving": ("simulate",),
    "serving_result": ("ServingResult",),
    "workload": ("Trace", "Workload"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used, so that a command's help need not load numpy."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'sim' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sim.{_MODULE_OF[name]}"), name)
