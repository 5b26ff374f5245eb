"""The roofline backend of the simulator BLIS, for dense models: one crossing of compute and memory a step.

Written from its formulas (github.com/inference-sim/inference-sim, ``sim/latency/roofline.go``, 2026): two matrices
in the MLP, whatever the model has; weights read once a step; peaks without a bandwidth efficiency; no overhead and
no communication. Its two efficiencies therefore mean something else than roofline-v1's.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sim.architecture import Architecture
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.models.roofline_v1.columns import dense_limits, head_dim, weights_per_layer
from sim.models.roofline_v1.parameters import PARAMETERS as ROOFLINE_V1
from sim.steps.batch import Floats, StepTable
from sim.steps.work import per_row

_MLP_MATRICES = 2
_CACHE_BYTES = 2.0  # quantised weights leave keys, values and activations at 16 bits


@dataclasses.dataclass(frozen=True)
class BlisRoofline(LatencyModel):
    """max(compute, memory) of a step, over ``tp`` GPUs: of its keys only two are free."""

    name = "blis-roofline"
    flat_all_reduce = True
    parameter_set = tuple(p for p in ROOFLINE_V1 if p.name in ("mfuPrefill", "mfuDecode"))

    def parameters(self, hardware: Hardware) -> dict[str, float]:
        """The two efficiencies and the two peaks, and ``TFlopsFP8`` (0 where there is none). Raises HardwareError."""
        return {**super().parameters(hardware), "TFlopsFP8": hardware.values.get("TFlopsFP8", 0.0)}

    def limits(self, arch: Architecture) -> list[str]:
        """Where the model's counting departs from this architecture. Raises ArchitectureError if it cannot count it."""
        return dense_limits(self.name, arch, head_dim(arch), _MLP_MATRICES)

    def predict_us(self, table: StepTable, hardware: Hardware) -> Floats:
        """Duration of every step in µs, shape (n,); the simulator itself cuts to whole µs."""
        compute, memory = self._bounds(table, hardware)
        longer: Floats = np.maximum(compute.sum(axis=0), memory)
        return longer

    def predict_with_jacobian_us(
        self, table: StepTable, hardware: Hardware, names: Sequence[str]
    ) -> tuple[Floats, Floats]:
        """Durations in µs, shape (n,), and their derivatives by the named parameters, shape (n, len(names))."""
        values = self.parameters(hardware)
        compute, memory = self._bounds(table, hardware)
        total = compute.sum(axis=0)
        slopes = {
            name: -part / values[name]
            for name, part in zip(self.parameter_names, compute, strict=True)
        }
        jacobian = np.array([slopes[name] * (total > memory) for name in names]).reshape(
            len(names), len(table)
        )
        return np.maximum(total, memory), jacobian.T

    def regimes(self, table: StepTable, hardware: Hardware) -> NDArray[np.str_]:
        """``compute`` or ``memory``, one a row."""
        compute, memory = self._bounds(table, hardware)
        names: NDArray[np.str_] = np.where(compute.sum(axis=0) > memory, "compute", "memory")
        return names

    def _bounds(self, table: StepTable, hardware: Hardware) -> tuple[Floats, Floats]:
        """Compute time in µs of prefill and of decode, shape (2, n), and memory time, shape (n,)."""
        values = self.parameters(hardware)
        work = table.memo(self.name, self._reduce)
        fast = values["TFlopsFP8"] if values["TFlopsFP8"] > 0 else values["TFlopsPeak"]
        peak = np.where(work.one_byte_weights, fast, values["TFlopsPeak"])
        mfu = np.array([[values[name]] for name in self.parameter_names])
        return work.flops / (peak * mfu), work.bytes / values["BwPeakTBs"]

    def _reduce(self, table: StepTable) -> "_Work":
        self.check(table)
        return _work(table)


@dataclasses.dataclass(frozen=True, eq=False)
class _Work:
    """For one of a step's GPUs: 1e6 FLOP of prefill and of decode (2, n), and 1e6 bytes (n,)."""

    flops: Floats
    bytes: Floats
    one_byte_weights: NDArray[np.bool_]


def _work(table: StepTable) -> _Work:
    _, new, context, single, single_context, pairs, num_decode, decode_context = table.moments

    def mega(quantity: Callable[[Architecture], float]) -> Floats:
        """1e6 of an architecture's quantity on one GPU, a row."""
        return 1e-6 * per_row(table, lambda a: a.num_layers * quantity(a)) / table.tp

    per_token = mega(lambda a: 2.0 * _weights_per_layer(a) + 2.0 * a.hidden_size)
    per_pair = mega(lambda a: a.num_heads * (4.0 * head_dim(a) + 5.0))
    weights = mega(lambda a: _weights_per_layer(a) * a.bytes_per_param)
    cached = mega(lambda a: 2.0 * a.kv_heads * head_dim(a) * _cached_bytes(a))
    activations = mega(lambda a: a.hidden_size * _activation_bytes(a))
    tokens = new + single
    return _Work(
        np.stack(
            [
                per_token * tokens + per_pair * pairs,
                per_token * num_decode + per_pair * decode_context,
            ]
        ),
        weights * (tokens + num_decode > 0)
        + cached * (tokens + num_decode + context + single_context + decode_context)
        + activations * (tokens + num_decode),
        per_row(table, lambda a: a.weight_bits) == 8,
    )


def _weights_per_layer(arch: Architecture) -> float:
    return weights_per_layer(arch, head_dim(arch), _MLP_MATRICES)


def _cached_bytes(arch: Architecture) -> float:
    return arch.cached_value_bytes(_activation_bytes(arch))


def _activation_bytes(arch: Architecture) -> float:
    return max(arch.bytes_per_param, _CACHE_BYTES)
