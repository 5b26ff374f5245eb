"""Predicts the duration of LLM-inference engine steps from a hardware configuration, and serving made of them."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.architecture import Architecture
    from sim.architecture_files import load_architecture
    from sim.configuration import load_hardware
    from sim.database.files import load_mfu_table
    from sim.database.table import MfuTable
    from sim.errors import (
        ArchitectureError,
        HardwareError,
        MfuTableError,
        SimError,
        StepError,
        WorkloadError,
    )
    from sim.hardware import Hardware
    from sim.models.latency_model import LatencyModel
    from sim.models.parameter import Parameter
    from sim.models.registry import latency_model, register
    from sim.serving.engine import EngineLimits
    from sim.serving.result import ServingResult
    from sim.serving.simulation import simulate
    from sim.serving.workload import Trace, Workload
    from sim.steps.batch import Batch, StepTable

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
    "Parameter",
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
    "register",
    "simulate",
]

_HOMES = {
    "architecture": ("Architecture",),
    "architecture_files": ("load_architecture",),
    "steps.batch": ("Batch", "StepTable"),
    "serving.engine": ("EngineLimits",),
    "errors": (
        "ArchitectureError",
        "HardwareError",
        "MfuTableError",
        "SimError",
        "StepError",
        "WorkloadError",
    ),
    "configuration": ("load_hardware",),
    "hardware": ("Hardware",),
    "models.latency_model": ("LatencyModel",),
    "models.parameter": ("Parameter",),
    "models.registry": ("latency_model", "register"),
    "database.files": ("load_mfu_table",),
    "database.table": ("MfuTable",),
    "serving.simulation": ("simulate",),
    "serving.result": ("ServingResult",),
    "serving.workload": ("Trace", "Workload"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used, so that a command's help need not load numpy."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'sim' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sim.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    """What tab completion shows."""
    return sorted(__all__)
