"""roofline-v2-interp: the database model's last form. MFUs are interpolated, each GEMM has a roofline of its own,
and a mixed step takes the longer phase.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim.architecture import Architecture
from sim.database.table import Heads, MfuTable
from sim.hardware import Hardware
from sim.models.database_model import (
    BUCKETS,
    CAUSAL,
    DatabaseModel,
    bandwidth_tb_per_s,
    bucket_prompts,
    by_model,
    gemm_work,
    matrices,
)
from sim.models.roofline_v1.columns import phase_bytes
from sim.models.roofline_v2_interp.parameters import PARAMETERS
from sim.steps.batch import Floats, StepTable
from sim.steps.work import per_row

_SHORTEST_US = 1.0


@dataclasses.dataclass(frozen=True)
class RooflineV2Interp(DatabaseModel):
    """The database model of four keys: two peaks, ``bwEfficiencyFactor`` (0: none) and ``perLayerOverhead``."""

    name = "roofline-v2-interp"
    flat_all_reduce = False
    parameter_set = PARAMETERS

    def predict_us(self, table: StepTable, hardware: Hardware) -> Floats:
        """Duration of every step in µs, shape (n,). Raises HardwareError, ArchitectureError and MfuTableError."""
        columns = self._columns(table)
        values = self.parameters(hardware)
        return _duration(columns, values, _longer_phase(columns, values).time)

    def predict_with_jacobian_us(
        self, table: StepTable, hardware: Hardware, names: Sequence[str]
    ) -> tuple[Floats, Floats]:
        """Durations in µs, shape (n,), and ∂duration/∂parameter for the named ones, shape (n, len(names)).

        A ``bwEfficiencyFactor`` of 0 is off: its derivative is 0.
        """
        columns = self._columns(table)
        values = self.parameters(hardware)
        phase = _longer_phase(columns, values)
        factor = values["bwEfficiencyFactor"]
        duration = _duration(columns, values, phase.time)
        slopes = {
            "bwEfficiencyFactor": phase.memory_bound * (-1.0 / factor if factor else 0.0),
            "perLayerOverhead": columns.layers,
        }
        jacobian = np.empty((len(names), len(table)))
        for row, name in enumerate(names):
            jacobian[row] = slopes[name] * (duration > _SHORTEST_US)
        return duration, jacobian.T

    def regimes(self, table: StepTable, hardware: Hardware) -> NDArray[np.str_]:
        """``compute``, ``memory`` or ``host`` (overhead): the largest part of each step's longer phase."""
        columns = self._columns(table)
        values = self.parameters(hardware)
        phase = _longer_phase(columns, values)
        host = columns.layers * values["perLayerOverhead"]
        parts = np.stack([phase.time - phase.memory_bound, phase.memory_bound, host])
        names: NDArray[np.str_] = np.array(["compute", "memory", "host"])[parts.argmax(axis=0)]
        return names

    def _columns(self, table: StepTable) -> "_Columns":
        return table.memo((self.name, self.mfu_table.digest), self._reduce)

    def _reduce(self, table: StepTable) -> "_Columns":
        self.check(table)
        layers_per_gpu = per_row(table, lambda a: float(a.num_layers)) / table.tp
        prefill_bytes, decode_bytes = phase_bytes(table)
        return _Columns(
            prefill=_prefill_products(table, self.mfu_table),
            prefill_bytes=prefill_bytes / table.tp,
            decode=_decode_products(table, self.mfu_table),
            decode_bytes=decode_bytes / table.tp,
            layers=layers_per_gpu,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class _Products:
    """The matrix products of one phase; r entries, of which a step may have several; all for one GPU.

    ``gemm`` (4, r) and ``attention`` (r,) are 1e6 FLOP over MFU; ``weights`` (4, r) are 1e6 bytes.
    """

    step: NDArray[np.intp]
    gemm: Floats
    weights: Floats
    attention: Floats


@dataclasses.dataclass(frozen=True, eq=False)
class _Columns:
    """A table as roofline-v2-interp sees it, for one GPU; bytes are 1e6 and those of the whole phase, shape (n,)."""

    prefill: _Products
    prefill_bytes: Floats
    decode: _Products
    decode_bytes: Floats
    layers: Floats


@dataclasses.dataclass(frozen=True, eq=False)
class _Phase:
    time: Floats
    memory_bound: Floats  # the part of it that memory bounds


def _phase(products: _Products, moved: Floats, values: dict[str, float]) -> _Phase:
    peak = values["TFlopsPeak"]
    bandwidth = bandwidth_tb_per_s(values)
    compute = products.gemm / peak
    memory = products.weights / bandwidth
    each = np.maximum(compute, memory).sum(axis=0) + products.attention / peak
    computing = np.bincount(products.step, weights=each, minlength=len(moved))
    reading = np.bincount(
        products.step, weights=(memory * (memory > compute)).sum(axis=0), minlength=len(moved)
    )
    moving = moved / bandwidth
    return _Phase(np.maximum(computing, moving), np.where(moving > computing, moving, reading))


def _longer_phase(c: _Columns, values: dict[str, float]) -> _Phase:
    prefill = _phase(c.prefill, c.prefill_bytes, values)
    decode = _phase(c.decode, c.decode_bytes, values)
    memory_bound = np.where(prefill.time > decode.time, prefill.memory_bound, decode.memory_bound)
    return _Phase(np.maximum(prefill.time, decode.time), memory_bound)


def _duration(c: _Columns, values: dict[str, float], phase: Floats) -> Floats:
    duration: Floats = np.maximum(phase + c.layers * values["perLayerOverhead"], _SHORTEST_US)
    return duration


def _prefill_products(table: StepTable, mfu_table: MfuTable) -> _Products:
    prompts = bucket_prompts(table)
    gemm, weights, attention = _empty(len(prompts.step))
    for arch, tp, rows in by_model(table, prompts.step):
        gemm[:, rows] = gemm_work(mfu_table, arch, tp, prompts.new_tokens[rows], interpolate=True)
        weights[:, rows] = _weights(arch, tp)
        per_pair = (
            _flops_per_pair(arch)
            / CAUSAL
            / tp
            / mfu_table.prefill_mfu(Heads.of(arch), BUCKETS, interpolate=True)
        )
        attention[rows] = prompts.pairs[rows] * per_pair[prompts.bucket[rows]]
    return _Products(prompts.step, gemm, weights, attention)


def _decode_products(table: StepTable, mfu_table: MfuTable) -> _Products:
    batch, (flops, achieved) = table.moments[6], _decode_attention(table, mfu_table)
    steps = np.flatnonzero(batch)
    gemm, weights, attention = _empty(len(steps))
    for arch, tp, rows in by_model(table, steps):
        gemm[:, rows] = gemm_work(mfu_table, arch, tp, batch[steps[rows]], interpolate=True)
        weights[:, rows] = _weights(arch, tp)
        chosen = steps[rows]
        attention[rows] = (
            flops[chosen] ** 2 / np.where(flops[chosen] > 0, achieved[chosen], 1.0) / tp
        )
    return _Products(steps, gemm, weights, attention)


def _decode_attention(table: StepTable, mfu_table: MfuTable) -> tuple[Floats, Floats]:
    """Σ 1e6 FLOP of each step's decode requests, and the same with each weighted by its MFU, shape (n,)."""
    runs = table.requests.decode
    context, count = runs.values
    step = runs.steps
    flops = np.empty(len(count))
    achieved = np.empty(len(count))
    for arch, tp, rows in by_model(table, step):
        batch = table.moments[6][step[rows]]
        flops[rows] = _flops_per_pair(arch) * context[rows] * count[rows]
        mfu = mfu_table.decode_mfu(Heads.of(arch), batch, context[rows], tp, interpolate=True)
        achieved[rows] = flops[rows] * mfu
    return runs.totals(flops), runs.totals(achieved)


def _flops_per_pair(arch: Architecture) -> float:
    return 4e-6 * arch.num_layers * arch.num_heads * Heads.of(arch).head_dim


def _weights(arch: Architecture, tp: int) -> Floats:
    """1e6 bytes of each matrix on one GPU, all layers, shape (4, 1)."""
    scale = 1e-6 * arch.num_layers * arch.bytes_per_param / tp
    return np.array([[count * scale * shape.k * shape.n] for shape, count in matrices(arch)])


def _empty(size: int) -> tuple[Floats, Floats, Floats]:
    return np.empty((4, size)), np.empty((4, size)), np.empty(size)
