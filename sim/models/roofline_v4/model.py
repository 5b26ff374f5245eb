"""roofline-v4: layers of any kind, experts and low precision, on the roofline of measured kernels.

Layers are counted by kind (:mod:`sim.models.roofline_v4.layers`), experts by uneven routing
(:mod:`sim.models.roofline_v4.routing`). No parameter touches what a step computes and moves, so a table reduces once to
columns; what depends on model and tp alone is computed once for each such pair.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim.architecture import Architecture
from sim.hardware import Hardware, own_reduce_bytes, relative_peak
from sim.models.latency_model import LatencyModel, largest_part
from sim.models.roofline_v4.columns import Columns, reduce_table
from sim.models.roofline_v4.layers import QUANTISED, Peaks, kernel_of, layer_work
from sim.models.roofline_v4.parameters import PARAMETERS
from sim.models.roofline_v4.predict import Predictor
from sim.models.roofline_v4.rates import rates
from sim.models.roofline_v4.terms import block_terms, derivative
from sim.steps.batch import Floats, StepTable

_PEAK_KEYS = {"fp8": "TFlopsFP8", "fp8_block": "TFlopsFP8", "nvfp4": "TFlopsFP4"}
_BLOCK_ROWS = 8192  # the columns of a block stay in a core's cache


@dataclasses.dataclass(frozen=True)
class RooflineV4(LatencyModel):
    """The model of what is served today: dense and sparse layers of several kinds, in several types."""

    name = "roofline-v4"
    flat_all_reduce = False
    counts_windows = True
    shares_experts = True
    parameter_set = PARAMETERS
    kernel = "sim.models.roofline_v4.kernel"

    def limits(self, arch: Architecture) -> list[str]:
        """Where the model's counting departs from this architecture. Raises ArchitectureError if it cannot count it."""
        layer_work(arch, 1)
        if arch.vocab_size:
            return []
        return [
            f"{self.name} leaves the output head of {arch.name} out: its vocabulary size is not known"
        ]

    def remarks(self, arch: Architecture, hardware: Hardware) -> list[str]:
        """Its limits, and weights that the GPU has no peak for."""
        types = computed_at_16_bits(arch, hardware)
        return [
            *self.limits(arch),
            *(
                f"{hardware.gpu} has no peak for {name} in its block or the registry: {self.name} computes the {name} "
                f"weights of {arch.name} in 16 bits, as engines do there"
                for name in types
            ),
        ]

    def predict_us(self, table: StepTable, hardware: Hardware) -> Floats:
        """Duration of every step in µs, shape (n,). Raises HardwareError and ArchitectureError."""
        columns = self._columns(table, hardware)
        values = self.parameters(hardware)
        rate = rates(columns.pairs, values)
        out = np.empty(len(table))
        predictor = Predictor(columns, values, rate, min(_BLOCK_ROWS, len(table)))
        for start in range(0, len(table), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            predictor.predict(block, out[block])
        return out

    def predict_with_jacobian_us(
        self, table: StepTable, hardware: Hardware, names: Sequence[str]
    ) -> tuple[Floats, Floats]:
        """Durations in µs, shape (n,), and ∂duration/∂parameter for the named ones, shape (n, len(names))."""
        columns = self._columns(table, hardware)
        values = self.parameters(hardware)
        rate = rates(columns.pairs, values)
        out = np.empty(len(table))
        jacobian = np.empty((len(names), len(table)))
        for start in range(0, len(table), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            terms = block_terms(columns, values, rate, block)
            out[block] = terms.total
            for row, name in enumerate(names):
                jacobian[row, block] = derivative(name, columns, values, block, terms)
        return out, jacobian.T

    def regimes(self, table: StepTable, hardware: Hardware) -> NDArray[np.str_]:
        """``compute``, ``memory``, ``host``, ``communication`` or ``experts``: the largest part of each step.

        The fixed time of a layer counts as memory: it is small kernels that move activations. What routed experts
        compute and move, and the time of a layer that has them, are a part of their own.
        """
        columns = self._columns(table, hardware)
        values = self.parameters(hardware)
        terms = block_terms(columns, values, rates(columns.pairs, values), slice(None))
        rooflines = (terms.gemm, terms.attention, terms.linear, terms.head)
        compute = sum((one.compute_us for one in rooflines), np.zeros(len(table)))
        launches = columns.pairs.expert_layers[columns.pair] * values["moeLayerMicros"]
        experts = terms.experts.us + terms.expert_moved + launches
        memory = terms.gpu - terms.communication - compute - experts
        waited = np.where(terms.gpu < terms.host, terms.host, 0.0)
        host = np.maximum(terms.added, waited)
        return largest_part(compute, memory, host, terms.communication, experts=experts)

    def _columns(self, table: StepTable, hardware: Hardware) -> Columns:
        peaks, own = relative_peaks(hardware), own_reduce_bytes(hardware)

        def reduce(table: StepTable) -> Columns:
            self.check(table)
            return reduce_table(table, peaks, own)

        return table.memo((self.name, peaks, own), reduce)


def relative_peaks(hardware: Hardware) -> Peaks:
    """The peak of each type over the 16-bit one, from the GPU's block or the registry.

    Without a peak of its own a type is computed in 16 bits, as engines do with weights of 8 and 4 bits.
    """
    return tuple((name, relative_peak(hardware, key)) for name, key in _PEAK_KEYS.items())


def computed_at_16_bits(arch: Architecture, hardware: Hardware) -> tuple[str, ...]:
    """Weight types of ``arch`` that have a peak on other GPUs, but not on this one."""
    peaks = dict(relative_peaks(hardware))
    types = {kernel_of(name) for name in dataclasses.astuple(arch.part_dtypes)}
    return tuple(sorted(name for name in types if name in QUANTISED and peaks[name] == 1.0))
