"""roofline-v3: one roofline for the whole step with smooth maxima, all-reduces by latency and bytes, hidden host time.

The parameters never touch what a step computes and moves, so a table reduces once to columns
(:mod:`sim.models.roofline_v3.columns`); every prediction and derivative after that is a few vector operations.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim.architecture import Architecture
from sim.hardware import Hardware, relative_peak
from sim.models.latency_model import LatencyModel, largest_part, refuse_unmodelled
from sim.models.roofline_v3.columns import Columns, reduce_table
from sim.models.roofline_v3.parameters import PARAMETERS
from sim.models.smooth_maximum import Roofline, roofline
from sim.steps.batch import Floats, StepTable

_LINEAR = {
    "layerMicros": "layers",
    "allReduceHopMicros": "all_reduce_hops",
    "allReduceSetupMicros": "all_reduce_setups",
    "allReduceLargeMicrosPerMB": "large_megabytes",
}
_HOST = {"hostLayerMicros": "layers", "hostPrefillMicros": "prefill"}
_ADDED = {
    "requestMicros": "decodes",
    "promptMicros": "prompts",
    "prefillLayerMicros": "prefill_layers",
}

_BLOCK_ROWS = 8192  # the columns of a block stay in a core's cache


@dataclasses.dataclass(frozen=True)
class RooflineV3(LatencyModel):
    """The model that follows measured kernels and engines: a sum of rooflines that the host can hold up."""

    name = "roofline-v3"
    flat_all_reduce = False
    parameter_set = PARAMETERS
    kernel = "sim.models.roofline_v3.kernel"

    def limits(self, arch: Architecture) -> list[str]:
        """Where the model's counting departs from this architecture. Raises ArchitectureError if it cannot count it."""
        refuse_unmodelled(self.name, arch)
        found = []
        if arch.experts is not None:
            found.append(
                f"{self.name} takes the experts of {arch.name} as chosen evenly; real routing is uneven"
            )
        if not arch.vocab_size:
            found.append(
                f"{self.name} leaves the output head of {arch.name} out: its vocabulary size is not known"
            )
        return found

    def predict_us(self, table: StepTable, hardware: Hardware) -> Floats:
        """Duration of every step in µs, shape (n,). Raises HardwareError and ArchitectureError."""
        columns = self._columns(table, hardware)
        values = self.parameters(hardware)
        out = np.empty(len(table))
        scratch = np.empty((2, min(_BLOCK_ROWS, len(table))))
        for start in range(0, len(table), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            _predict_block(columns, values, block, out[block], scratch[:, : len(out[block])])
        return out

    def predict_with_jacobian_us(
        self, table: StepTable, hardware: Hardware, names: Sequence[str]
    ) -> tuple[Floats, Floats]:
        """Durations in µs, shape (n,), and ∂duration/∂parameter for the named ones, shape (n, len(names))."""
        columns = self._columns(table, hardware)
        values = self.parameters(hardware)
        out = np.empty(len(table))
        jacobian = np.empty((len(names), len(table)))
        for start in range(0, len(table), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            terms = _block_terms(columns, values, block)
            out[block] = terms.total
            for row, name in enumerate(names):
                jacobian[row, block] = _derivative(name, columns, values, block, terms)
        return out, jacobian.T

    def regimes(self, table: StepTable, hardware: Hardware) -> NDArray[np.str_]:
        """``compute``, ``memory``, ``host`` or ``communication``: the largest part of each step.

        The fixed time of a layer counts as memory: it is small kernels that move activations.
        """
        columns = self._columns(table, hardware)
        values = self.parameters(hardware)
        terms = _block_terms(columns, values, slice(None))
        compute = terms.gemm.compute_us + terms.attention.compute_us + terms.head.compute_us
        memory = terms.gpu - terms.communication - compute
        waited = np.where(terms.gpu < terms.host, terms.host, 0.0)
        host = np.maximum(_sum(columns, values, _ADDED, slice(None)), waited)
        return largest_part(compute, memory, host, terms.communication)

    def _columns(self, table: StepTable, hardware: Hardware) -> Columns:
        speedup = fp8_speedup(hardware)

        def reduce(table: StepTable) -> Columns:
            self.check(table)
            return reduce_table(table, speedup)

        return table.memo((self.name, speedup), reduce)


def fp8_speedup(hardware: Hardware) -> float:
    """The FP8 peak over the 16-bit one; 1 for a GPU without."""
    return relative_peak(hardware, "TFlopsFP8")


@dataclasses.dataclass(frozen=True)
class Rates:
    """µs of one million FLOPs or bytes, cubed (those of the GEMMs by row), of 1 MB moved, and by tp of 1 kB sent."""

    gemm_flops: Floats
    head_flops: float
    attention_flops: float
    weight_bytes: float
    kv_bytes: float
    moved_megabyte: float
    sent_kilobyte: Floats


def rates(c: Columns, values: dict[str, float], block: slice) -> Rates:
    """The rates of all parameters ``values``, for a block of rows and every tp of the table."""
    peak_flops = values["TFlopsPeak"]
    peak_bytes = values["BwPeakTBs"]
    gemm_flops = (peak_flops * values["gemmMfu"]) ** -3
    return Rates(
        gemm_flops=gemm_flops * np.exp(c.log_gemm_work[block] * (-3.0 * values["gemmMfuExponent"])),
        head_flops=gemm_flops,
        attention_flops=(peak_flops * values["attentionMfu"]) ** -3,
        weight_bytes=(peak_bytes * values["weightBwFraction"]) ** -3,
        kv_bytes=(peak_bytes * values["kvBwFraction"]) ** -3,
        moved_megabyte=1.0 / (peak_bytes * values["weightBwFraction"]),
        sent_kilobyte=(c.tp_values / 2.0) ** values["allReduceTpExponent"]
        / values["allReduceBwGBps"],
    )


def _predict_block(
    c: Columns, values: dict[str, float], block: slice, out: Floats, scratch: Floats
) -> None:
    rate, (part, other) = rates(c, values, block), scratch
    np.take(rate.sent_kilobyte, c.tp_index[block], out=out, mode="clip")
    out *= c.all_reduce_kilobytes[block]
    np.multiply(c.activation_megabytes[block], rate.moved_megabyte, out=part)
    out += part
    for flops, flop_rate, moved, byte_rate in (
        (c.gemm_flops_cubed, rate.gemm_flops, c.gemm_bytes_cubed, rate.weight_bytes),
        (c.attention_flops_cubed, rate.attention_flops, c.attention_bytes_cubed, rate.kv_bytes),
        (c.head_flops_cubed, rate.head_flops, c.head_bytes_cubed, rate.weight_bytes),
    ):
        np.multiply(flops[block], flop_rate, out=part)
        np.multiply(moved[block], byte_rate, out=other)
        part += other
        np.cbrt(part, out=part)
        out += part
    _add(c, values, _LINEAR, block, out, part)
    if any(values[name] for name in _HOST):
        other[:] = 0.0
        _add(c, values, _HOST, block, other, part)
        np.maximum(out, other, out=out)
    _add(c, values, _ADDED, block, out, part)


def _add(
    c: Columns,
    values: dict[str, float],
    terms: dict[str, str],
    block: slice,
    out: Floats,
    scratch: Floats,
) -> None:
    for name, column in terms.items():
        if values[name]:
            np.multiply(getattr(c, column)[block], values[name], out=scratch)
            out += scratch


def _sum(c: Columns, values: dict[str, float], terms: dict[str, str], block: slice) -> Floats:
    total = np.zeros(len(c.layers[block]))
    _add(c, values, terms, block, total, np.empty_like(total))
    return total


@dataclasses.dataclass(frozen=True)
class _Terms:
    """The parts of a block of predictions that derivatives are made of, in µs."""

    gemm: Roofline
    attention: Roofline
    head: Roofline
    activations: Floats
    sent: Floats
    communication: Floats
    gpu: Floats
    host: Floats
    total: Floats


def _block_terms(c: Columns, values: dict[str, float], block: slice) -> _Terms:
    rate = rates(c, values, block)
    gemm = roofline(
        c.gemm_flops_cubed[block] * rate.gemm_flops, c.gemm_bytes_cubed[block] * rate.weight_bytes
    )
    attention = roofline(
        c.attention_flops_cubed[block] * rate.attention_flops,
        c.attention_bytes_cubed[block] * rate.kv_bytes,
    )
    head = roofline(
        c.head_flops_cubed[block] * rate.head_flops, c.head_bytes_cubed[block] * rate.weight_bytes
    )
    activations = c.activation_megabytes[block] * rate.moved_megabyte
    sent = c.all_reduce_kilobytes[block] * rate.sent_kilobyte[c.tp_index[block]]
    fixed = _sum(c, values, _LINEAR, block)
    gpu = gemm.us + attention.us + head.us + activations + sent + fixed
    host = _sum(c, values, _HOST, block)
    return _Terms(
        gemm=gemm,
        attention=attention,
        head=head,
        activations=activations,
        sent=sent,
        communication=sent + fixed - c.layers[block] * values["layerMicros"],
        gpu=gpu,
        host=host,
        total=np.maximum(gpu, host) + _sum(c, values, _ADDED, block),
    )


def _derivative(name: str, c: Columns, values: dict[str, float], block: slice, t: _Terms) -> Floats:
    """∂total/∂name: nothing on the side of GPU or host that does not hold the step up."""
    if name in _ADDED:
        return np.asarray(getattr(c, _ADDED[name])[block])
    if name in _HOST:
        return np.asarray(getattr(c, _HOST[name])[block] * (t.host > t.gpu))
    return _gpu_derivative(name, c, values, block, t) * (t.host <= t.gpu)


def _gpu_derivative(
    name: str, c: Columns, values: dict[str, float], block: slice, t: _Terms
) -> Floats:
    """∂gpu/∂name. Of ‖a, b‖ = (a³ + b³)^(1/3), ∂ ln ‖a, b‖/∂ ln a is a³/(a³ + b³), and every rate divides its part."""
    if name in _LINEAR:
        return np.asarray(getattr(c, _LINEAR[name])[block])
    match name:
        case "gemmMfu":
            part = t.gemm.compute_us + t.head.compute_us
        case "weightBwFraction":
            part = t.gemm.memory_us + t.head.memory_us + t.activations
        case "attentionMfu":
            part = t.attention.compute_us
        case "kvBwFraction":
            part = t.attention.memory_us
        case "allReduceBwGBps":
            part = t.sent
        case "gemmMfuExponent":
            return -t.gemm.compute_us * c.log_gemm_work[block]
        case "allReduceTpExponent":
            return t.sent * np.log(c.tp_values / 2.0)[c.tp_index[block]]
        case _:
            raise KeyError(name)
    return part * (-1.0 / values[name])
