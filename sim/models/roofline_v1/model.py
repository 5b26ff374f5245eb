"""roofline-v1: a compute and a memory bound per phase, fixed mixing rules, and additive overheads.

The parameters never touch what a step computes and moves, so a table reduces once to a dozen columns
(:mod:`sim.models.roofline_v1.columns`); every prediction and derivative after that is a few vector operations.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim.architecture import Architecture
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.models.roofline_v1.columns import Columns, dense_limits, head_dim, reduce_table
from sim.models.roofline_v1.parameters import PARAMETERS
from sim.steps.batch import Floats, StepTable

_DECODE_TP = "decodeTpScalingExponent"
_BLOCK_ROWS = 8192  # a dozen float64 columns of a block stay in a core's cache


@dataclasses.dataclass(frozen=True)
class RooflineV1(LatencyModel):
    """The calibrated model of the 17-key configuration.

    ``per_layer_overhead`` adds layers × ``perLayerOverhead`` µs as the calibration guide words it; without
    it that key has no effect, as in the simulators that read the file.
    """

    per_layer_overhead: bool = False

    name = "roofline-v1"
    flat_all_reduce = True
    parameter_set = PARAMETERS
    kernel = "sim.models.roofline_v1.kernel"

    def parameters(self, hardware: Hardware) -> dict[str, float]:
        """The two peaks and all 15 parameters, defaults filled in.

        A ``decodeTpScalingExponent`` of 0 means its default.
        Raises HardwareError for a required key that is missing, zero or not finite.
        """
        if hardware.values.get(_DECODE_TP) == 0:
            hardware = hardware.with_values({_DECODE_TP: self.defaults()[_DECODE_TP]})
        return super().parameters(hardware)

    def limits(self, arch: Architecture) -> list[str]:
        """Where the model's counting departs from this architecture. Raises ArchitectureError if it cannot count it."""
        return dense_limits(self.name, arch, head_dim(arch))

    def predict_us(self, table: StepTable, hardware: Hardware) -> Floats:
        """Duration of every step in µs, shape (n,). Raises HardwareError and ArchitectureError."""
        columns = self._columns(table)
        values = self.parameters(hardware)
        out = np.empty(len(table))
        scratch = np.empty((4, min(_BLOCK_ROWS, len(table))))
        for start in range(0, len(table), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            size = len(out[block])
            _predict_block(columns, values, block, out[block], scratch[:, :size])
            if self.per_layer_overhead:
                out[block] += columns.layers[block] * values["perLayerOverhead"]
        return out

    def predict_with_jacobian_us(
        self, table: StepTable, hardware: Hardware, names: Sequence[str]
    ) -> tuple[Floats, Floats]:
        """Durations in µs, shape (n,), and ∂duration/∂parameter for the named ones, shape (n, len(names))."""
        columns = self._columns(table)
        values = self.parameters(hardware)
        out = np.empty(len(table))
        jacobian = np.empty((len(names), len(table)))
        for start in range(0, len(table), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            terms = _block_terms(columns, values, block)
            out[block] = terms.total
            for row, name in enumerate(names):
                jacobian[row, block] = _derivative(
                    name, columns, values, block, terms, self.per_layer_overhead
                )
            if self.per_layer_overhead:
                out[block] += columns.layers[block] * values["perLayerOverhead"]
        return out, jacobian.T

    def regimes(self, table: StepTable, hardware: Hardware) -> NDArray[np.str_]:
        """``compute``, ``memory``, ``host`` (overheads) or ``communication``: the largest part of each step."""
        columns = self._columns(table)
        values = self.parameters(hardware)
        terms = _block_terms(columns, values, slice(None))
        host = (
            columns.step_overheads * values["TOverheadMicros"]
            + columns.pure_prefills * values["prefillOverheadMicros"]
            + columns.mixed_prefills * values["mixedPrefillOverheadMicros"]
        )
        compute = (
            terms.prefill_compute * terms.prefill_is_compute
            + terms.decode_compute * terms.decode_is_compute
        )
        memory = terms.prefill - terms.prefill_compute * terms.prefill_is_compute
        memory += terms.decode - terms.decode_compute * terms.decode_is_compute
        parts = np.stack([compute, memory, host, columns.all_reduces * values["allReduceLatency"]])
        names: NDArray[np.str_] = np.array(["compute", "memory", "host", "communication"])[
            parts.argmax(axis=0)
        ]
        return names

    def _columns(self, table: StepTable) -> Columns:
        return table.memo(self.name, self._reduce)

    def _reduce(self, table: StepTable) -> Columns:
        self.check(table)
        return reduce_table(table)


def rates(values: dict[str, float]) -> tuple[float, float, float, float, float]:
    """µs per 1e6 FLOP or byte: prefill GEMM, decode GEMM, attention, prefill bytes, decode bytes."""
    flops = values["TFlopsPeak"]
    bandwidth = values["BwPeakTBs"] * values["BwEffConstant"]
    return (
        1.0 / (flops * values["mfuPrefill"] * values["mfuPrefillMultiplier"]),
        1.0 / (flops * values["mfuDecode"] * values["mfuDecodeMultiplier"]),
        1.0 / (flops * values["vectorPeakFraction"]),
        1.0 / (bandwidth * values["prefillBwFactor"]),
        1.0 / (bandwidth * values["decodeBwFactor"]),
    )


def _predict_block(
    c: Columns, values: dict[str, float], block: slice, out: Floats, scratch: Floats
) -> None:
    prefill_gemm, decode_gemm, attention, prefill_bytes, decode_bytes = rates(values)
    compute, memory, speedup, total = scratch
    index = c.tp_index[block]
    np.multiply(c.prefill_gemm[block], prefill_gemm, out=compute)
    np.multiply(c.prefill_attention[block], attention, out=memory)
    compute += memory
    np.take(c.tp_values ** -values["tpScalingExponent"], index, out=speedup, mode="clip")
    compute *= speedup
    np.multiply(c.prefill_bytes[block], prefill_bytes, out=memory)
    np.maximum(compute, memory, out=total)
    np.multiply(c.decode_gemm[block], decode_gemm, out=compute)
    np.multiply(c.decode_attention[block], attention, out=memory)
    compute += memory
    np.multiply(c.decode_bytes[block], decode_bytes, out=memory)
    np.maximum(compute, memory, out=compute)
    np.take(c.tp_values ** -values["decodeTpScalingExponent"], index, out=speedup, mode="clip")
    compute *= speedup
    total += compute
    for column, name in (
        (c.step_overheads, "TOverheadMicros"),
        (c.all_reduces, "allReduceLatency"),
        (c.pure_prefills, "prefillOverheadMicros"),
        (c.mixed_prefills, "mixedPrefillOverheadMicros"),
    ):
        np.multiply(column[block], values[name], out=compute)
        total += compute
    out[:] = total


@dataclasses.dataclass(frozen=True)
class _Terms:
    """The parts of a block of predictions that derivatives are made of, in µs."""

    prefill_gemm: Floats
    prefill_attention: Floats
    prefill_is_compute: NDArray[np.bool_]
    prefill: Floats
    decode_gemm: Floats
    decode_attention: Floats
    decode_is_compute: NDArray[np.bool_]
    decode: Floats
    log_tp: Floats
    total: Floats

    @property
    def prefill_compute(self) -> Floats:
        return self.prefill_gemm + self.prefill_attention

    @property
    def decode_compute(self) -> Floats:
        return self.decode_gemm + self.decode_attention


def _block_terms(c: Columns, values: dict[str, float], block: slice) -> _Terms:
    prefill_gemm_rate, decode_gemm_rate, attention_rate, prefill_byte_rate, decode_byte_rate = (
        rates(values)
    )
    index = c.tp_index[block]
    prefill_speedup = (c.tp_values ** -values["tpScalingExponent"])[index]
    decode_speedup = (c.tp_values ** -values["decodeTpScalingExponent"])[index]
    prefill_gemm = c.prefill_gemm[block] * prefill_gemm_rate * prefill_speedup
    prefill_attention = c.prefill_attention[block] * attention_rate * prefill_speedup
    prefill_memory = c.prefill_bytes[block] * prefill_byte_rate
    decode_gemm = c.decode_gemm[block] * decode_gemm_rate * decode_speedup
    decode_attention = c.decode_attention[block] * attention_rate * decode_speedup
    decode_memory = c.decode_bytes[block] * decode_byte_rate * decode_speedup
    prefill_compute = prefill_gemm + prefill_attention
    decode_compute = decode_gemm + decode_attention
    prefill = np.maximum(prefill_compute, prefill_memory)
    decode = np.maximum(decode_compute, decode_memory)
    return _Terms(
        prefill_gemm=prefill_gemm,
        prefill_attention=prefill_attention,
        prefill_is_compute=prefill_compute >= prefill_memory,
        prefill=prefill,
        decode_gemm=decode_gemm,
        decode_attention=decode_attention,
        decode_is_compute=decode_compute >= decode_memory,
        decode=decode,
        log_tp=np.log(c.tp_values)[index],
        total=prefill
        + decode
        + c.step_overheads[block] * values["TOverheadMicros"]
        + c.all_reduces[block] * values["allReduceLatency"]
        + c.pure_prefills[block] * values["prefillOverheadMicros"]
        + c.mixed_prefills[block] * values["mixedPrefillOverheadMicros"],
    )


def _derivative(
    name: str,
    c: Columns,
    values: dict[str, float],
    block: slice,
    t: _Terms,
    per_layer_overhead: bool,
) -> Floats | float:
    """∂total/∂name; every rate stands in a denominator, so its derivative is minus its part over its value."""
    match name:
        case "mfuPrefill" | "mfuPrefillMultiplier":
            return t.prefill_gemm * t.prefill_is_compute * (-1.0 / values[name])
        case "mfuDecode" | "mfuDecodeMultiplier":
            return t.decode_gemm * t.decode_is_compute * (-1.0 / values[name])
        case "vectorPeakFraction":
            attention = (
                t.prefill_attention * t.prefill_is_compute
                + t.decode_attention * t.decode_is_compute
            )
            return attention * (-1.0 / values[name])
        case "prefillBwFactor":
            return t.prefill * ~t.prefill_is_compute * (-1.0 / values[name])
        case "decodeBwFactor":
            return t.decode * ~t.decode_is_compute * (-1.0 / values[name])
        case "BwEffConstant":
            memory = t.prefill * ~t.prefill_is_compute + t.decode * ~t.decode_is_compute
            return memory * (-1.0 / values[name])
        case "tpScalingExponent":
            return -t.prefill * t.prefill_is_compute * t.log_tp
        case "decodeTpScalingExponent":
            return -t.decode * t.log_tp
        case "TOverheadMicros":
            return c.step_overheads[block]
        case "allReduceLatency":
            return c.all_reduces[block]
        case "prefillOverheadMicros":
            return c.pure_prefills[block]
        case "mixedPrefillOverheadMicros":
            return c.mixed_prefills[block]
        case "perLayerOverhead":
            return c.layers[block] if per_layer_overhead else 0.0
    raise KeyError(name)
