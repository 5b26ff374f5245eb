"""The basis of the backend ``trained-physics`` of the simulator BLIS, for dense models: ten columns, linear in β.

Written from its formulas (github.com/inference-sim/inference-sim, ``sim/latency/trained_physics_model.go`` and
``docs/guide/latency-models.md``, 2026; later versions have dropped this backend). A step takes Σ β·column µs. The
order is that of the file: the two columns that split compute from memory came last.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from sim.architecture import Architecture
from sim.errors import ArchitectureError
from sim.hardware import Hardware
from sim.models.roofline_v1.columns import dense_limits, weights_per_layer
from sim.steps.batch import Floats, StepTable
from sim.steps.work import per_row

BETAS = {
    "β1a": "prefill compute",
    "β2a": "decode compute",
    "β3": "weights read",
    "β4": "all-reduce",
    "β5": "µs a layer",
    "β6": "µs a request",
    "β7": "µs a step",
    "β8": "µs an interleaved expert layer: no dense model has one",
    "β1b": "prefill cache written",
    "β2b": "decode cache read",
}
"""What each coefficient multiplies, in the order of ``beta_coeffs``."""

_BYTES = 2.0  # of a key, a value or an activation


def check_dense(arch: Architecture, tp: int) -> None:
    """Raise ArchitectureError where the backend refuses a model at this degree, or this basis cannot count it."""
    dense_limits("trained-physics", arch, _head_dim(arch))
    if arch.num_heads % tp or arch.kv_heads % tp:
        raise ArchitectureError(
            f"trained-physics needs the heads of {arch.name} ({arch.num_heads}, {arch.kv_heads} of keys and values) "
            f"to be multiples of tp {tp}"
        )


def basis_us(table: StepTable, hardware: Hardware) -> Floats:
    """The ten columns of every step, shape (n, 10). Raises HardwareError for a missing peak.

    A prompt's length, which the backend reads of the request, is taken as its cached and its new tokens.
    """
    parts = _Parts(table)
    flops_peak = hardware.positive("TFlopsPeak")
    bandwidth = hardware.positive("BwPeakTBs")
    fast = hardware.values.get("TFlopsFP8", 0.0) or flops_peak
    peak = np.where(per_row(table, lambda a: a.weight_bits) == 8, fast, flops_peak)
    requests = table.moments[0] + parts.decodes
    columns = (
        parts.prefill_flops / peak,
        parts.decode_flops / peak,
        parts.weight_bytes / bandwidth,
        parts.reduced_bytes / bandwidth,
        per_row(table, lambda a: float(a.num_layers)),
        requests,
        np.ones(len(table)),
        np.zeros(len(table)),
        parts.cached_bytes(parts.prompt_tokens) / bandwidth,
        parts.cached_bytes(table.moments[7] + parts.decodes) / bandwidth,
    )
    basis: Floats = np.column_stack(columns) * (requests > 0)[:, None]
    return basis


@dataclasses.dataclass(frozen=True, eq=False)
class _Parts:
    """Work of each step on one GPU, 1e6 FLOP or bytes a row."""

    table: StepTable

    @property
    def prompt_tokens(self) -> Floats:
        tokens: Floats = self.table.moments[1] + self.table.moments[3]
        return tokens

    @property
    def decodes(self) -> Floats:
        decodes: Floats = self.table.moments[6]
        return decodes

    @property
    def prefill_flops(self) -> Floats:
        context, new, count = self.table.requests.prefill.values
        pairs = self.table.requests.prefill.totals(count * new * (context + 1.5 * new))
        return self._dense_flops * self.prompt_tokens + self._attention_flops * pairs

    @property
    def decode_flops(self) -> Floats:
        context: Floats = self.table.moments[7]
        return self._dense_flops * self.decodes + self._attention_flops * context

    @property
    def weight_bytes(self) -> Floats:
        return self._mega(lambda a: _weights_per_layer(a) * a.bytes_per_param)

    @property
    def reduced_bytes(self) -> Floats:
        """Bytes of two ring all-reduces a layer, none on a single GPU; each GPU passes on (tp − 1)/tp of them twice."""
        tokens = self.prompt_tokens + self.decodes
        tp = self.table.tp
        each = 1e-6 * per_row(self.table, lambda a: 2.0 * a.num_layers * a.hidden_size * _BYTES)
        reduced: Floats = each * tokens * 2.0 * (tp - 1) / tp
        return reduced

    def cached_bytes(self, tokens: Floats) -> Floats:
        """Bytes of the keys and values of some tokens a row."""
        return (
            self._mega(lambda a: 2.0 * a.kv_heads * _head_dim(a) * a.cached_value_bytes(_BYTES))
            * tokens
        )

    @property
    def _dense_flops(self) -> Floats:
        return self._mega(lambda a: 2.0 * _weights_per_layer(a))

    @property
    def _attention_flops(self) -> Floats:
        return self._mega(lambda a: 4.0 * a.num_heads * _head_dim(a))

    def _mega(self, quantity: Callable[[Architecture], float]) -> Floats:
        scaled: Floats = (
            1e-6 * per_row(self.table, lambda a: a.num_layers * quantity(a)) / self.table.tp
        )
        return scaled


def _weights_per_layer(arch: Architecture) -> float:
    return weights_per_layer(arch, _head_dim(arch))


def _head_dim(arch: Architecture) -> int:
    return arch.hidden_size // arch.num_heads
