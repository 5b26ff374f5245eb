"""roofline-v2: MFUs from a benchmark database, a compute and a memory bound per phase, additive overheads.

No parameter touches a look-up: a table reduces once to eight columns.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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
)
from sim.models.roofline_v1.columns import mixing_weights, overhead_multiples, phase_bytes
from sim.models.roofline_v2.parameters import PARAMETERS
from sim.steps.batch import Floats, StepTable
from sim.steps.work import per_row

_PREFILL_LAYERS, _MIXED_PREFILL_LAYERS = 5.0, 2.5


@dataclasses.dataclass(frozen=True)
class RooflineV2(DatabaseModel):
    """The database model with the overheads of roofline-v1. A ``perLayerOverhead`` above 0 replaces three of them."""

    name = "roofline-v2"
    parameter_set = PARAMETERS

    def predict_us(self, table: StepTable, hardware: Hardware) -> Floats:
        """Duration of every step in µs, shape (n,). Raises HardwareError, ArchitectureError and MfuTableError."""
        columns = self._columns(table)
        values = self.parameters(hardware)
        prefill, decode = _phases(columns, values)
        total: Floats = prefill.time + decode.time + _host(columns, values)
        total += columns.all_reduces * values["allReduceLatency"]
        return total

    def predict_with_jacobian_us(
        self, table: StepTable, hardware: Hardware, names: Sequence[str]
    ) -> tuple[Floats, Floats]:
        """Durations in µs, shape (n,), and ∂duration/∂parameter for the named ones, shape (n, len(names)).

        Where a 0 switches a parameter off, its derivative is 0.
        """
        columns = self._columns(table)
        values = self.parameters(hardware)
        jacobian = np.empty((len(names), len(table)))
        for row, name in enumerate(names):
            jacobian[row] = _derivative(name, columns, values)
        return self.predict_us(table, hardware), jacobian.T

    def regimes(self, table: StepTable, hardware: Hardware) -> NDArray[np.str_]:
        """``compute``, ``memory``, ``host`` (overheads) or ``communication``: the largest part of each step."""
        columns = self._columns(table)
        values = self.parameters(hardware)
        prefill, decode = _phases(columns, values)
        memory = prefill.memory_bound + decode.memory_bound
        compute = prefill.time + decode.time - memory
        parts = np.stack(
            [
                compute,
                memory,
                _host(columns, values),
                columns.all_reduces * values["allReduceLatency"],
            ]
        )
        names: NDArray[np.str_] = np.array(["compute", "memory", "host", "communication"])[
            parts.argmax(axis=0)
        ]
        return names

    def _columns(self, table: StepTable) -> "_Columns":
        return table.memo((self.name, self.mfu_table.digest), self._reduce)

    def _reduce(self, table: StepTable) -> "_Columns":
        self.check(table)
        prefill_bytes, decode_bytes = phase_bytes(table)
        prefill_share, decode_share = mixing_weights(table)
        steps, all_reduces, pure_prefills, mixed_prefills = overhead_multiples(table)
        layers_per_gpu = per_row(table, lambda a: float(a.num_layers)) / table.tp
        return _Columns(
            prefill_work=prefill_share * _prefill_work(table, self.mfu_table),
            prefill_bytes=prefill_share * prefill_bytes / table.tp,
            decode_work=decode_share * _decode_work(table, self.mfu_table),
            decode_bytes=decode_share * decode_bytes / table.tp,
            steps=steps,
            all_reduces=all_reduces,
            pure_prefills=pure_prefills,
            mixed_prefills=mixed_prefills,
            layers=layers_per_gpu
            * (steps + _PREFILL_LAYERS * pure_prefills + _MIXED_PREFILL_LAYERS * mixed_prefills),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class _Columns:
    """A table as roofline-v2 sees it, the mixing weights folded in; per GPU, work is 1e6 FLOP over MFU, bytes 1e6."""

    prefill_work: Floats
    prefill_bytes: Floats
    decode_work: Floats
    decode_bytes: Floats
    steps: Floats  # multiples of TOverheadMicros
    all_reduces: Floats
    pure_prefills: Floats
    mixed_prefills: Floats
    layers: Floats  # multiples of perLayerOverhead where it replaces the three overheads


def _prefill_work(table: StepTable, mfu_table: MfuTable) -> Floats:
    """GEMM rows are prompts, not tokens: so the simulators count that this model reproduces."""
    prompts = bucket_prompts(table)
    work = np.empty(len(prompts.step))
    for arch, tp, rows in by_model(table, prompts.step):
        heads = Heads.of(arch)
        count = prompts.count[rows]
        bucket = prompts.bucket[rows]
        per_pair = 1e-6 * arch.num_layers * arch.num_heads * (4 * heads.head_dim + 4) / CAUSAL / tp
        attention = per_pair * BUCKETS / mfu_table.prefill_mfu(heads, BUCKETS)
        gemm = gemm_work(mfu_table, arch, tp, count, interpolate=False).sum(axis=0)
        work[rows] = gemm + count * attention[bucket]
    return np.bincount(prompts.step, weights=work, minlength=len(table)).astype(np.float64)


def _decode_work(table: StepTable, mfu_table: MfuTable) -> Floats:
    """Every request is charged the largest context of the step."""
    runs, work = table.requests.decode, np.zeros(len(table))
    steps = np.flatnonzero(np.diff(runs.offsets))
    if not len(steps):
        return work
    longest = np.maximum.reduceat(runs.values[0], runs.offsets[steps])
    for arch, tp, rows in by_model(table, steps):
        heads = Heads.of(arch)
        batch = table.moments[6][steps[rows]]
        context = longest[rows]
        per_pair = 1e-6 * arch.num_layers * arch.num_heads * (4 * heads.head_dim + 4) / tp
        attention = per_pair * batch * context / mfu_table.decode_mfu(heads, batch, context, tp)
        work[steps[rows]] = (
            gemm_work(mfu_table, arch, tp, batch, interpolate=False).sum(axis=0) + attention
        )
    return work


@dataclasses.dataclass(frozen=True, eq=False)
class _Phase:
    time: Floats
    memory_bound: Floats  # the time where memory bounds it, else 0


def _phases(c: _Columns, values: dict[str, float]) -> tuple[_Phase, _Phase]:
    return _phase(c.prefill_work, c.prefill_bytes, values), _phase(
        c.decode_work, c.decode_bytes, values
    )


def _phase(work: Floats, moved: Floats, values: dict[str, float]) -> _Phase:
    compute = work / values["TFlopsPeak"]
    memory = moved / bandwidth_tb_per_s(values)
    return _Phase(np.maximum(compute, memory), memory * (memory > compute))


def _host(c: _Columns, values: dict[str, float]) -> Floats:
    if values["perLayerOverhead"] > 0:
        return c.layers * values["perLayerOverhead"]
    return (
        c.steps * values["TOverheadMicros"]
        + c.pure_prefills * values["prefillOverheadMicros"]
        + c.mixed_prefills * values["mixedPrefillOverheadMicros"]
    )


def _derivative(name: str, c: _Columns, values: dict[str, float]) -> Floats | float:
    by_layers = values["perLayerOverhead"] > 0
    match name:
        case "TOverheadMicros":
            return 0.0 if by_layers else c.steps
        case "prefillOverheadMicros":
            return 0.0 if by_layers else c.pure_prefills
        case "mixedPrefillOverheadMicros":
            return 0.0 if by_layers else c.mixed_prefills
        case "perLayerOverhead":
            return c.layers if by_layers else 0.0
        case "allReduceLatency":
            return c.all_reduces
        case "bwEfficiencyFactor":
            prefill, decode = _phases(c, values)
            factor = values["bwEfficiencyFactor"]
            return (prefill.memory_bound + decode.memory_bound) * (-1.0 / factor) if factor else 0.0
    raise KeyError(name)
