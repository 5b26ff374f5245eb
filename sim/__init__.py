"""Predicts the duration of LLM-inference engine steps from a hardware configuration. Needs numpy only."""

from sim.architecture import Architecture, load_architecture
from sim.batch import Batch, StepTable
from sim.errors import ArchitectureError, HardwareError, SimError, StepError
from sim.hardware import Hardware, load_hardware
from sim.latency import LatencyModel, latency_model

__all__ = [
    "Architecture",
    "ArchitectureError",
    "Batch",
    "Hardware",
    "HardwareError",
    "LatencyModel",
    "SimError",
    "StepError",
    "StepTable",
    "latency_model",
    "load_architecture",
    "load_hardware",
]
