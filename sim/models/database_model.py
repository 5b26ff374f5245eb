"""What the two models that look MFUs up in a database share: matrices, buckets, and their common interface."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sim.architecture import Architecture
from sim.database.table import Heads, MfuTable, Shape
from sim.models.latency_model import LatencyModel
from sim.models.roofline_v1.columns import dense_limits, distinct_tp
from sim.steps.batch import Floats, StepTable

BUCKETS: Floats = np.array([512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0])
"""Sequence lengths to which a prompt is rounded up: 512, 1024, …, 65536."""

CAUSAL = 1.8
"""A causal prefill computes the whole square of queries and keys divided by this."""


@dataclasses.dataclass(frozen=True)
class DatabaseModel(LatencyModel):
    """A latency model that reads its MFUs from ``mfu_table``, and from a configuration the two peaks at least."""

    mfu_table: MfuTable

    flat_all_reduce = True
    needs_mfu_table = True

    def limits(self, arch: Architecture) -> list[str]:
        """Where the model departs from this architecture. Raises ArchitectureError if it cannot count it."""
        heads = Heads.of(arch)
        found = dense_limits(self.name, arch, heads.head_dim)
        measured = self.mfu_table.attention_config(heads)
        if measured != heads:
            found.append(
                f"{self.name} takes the attention of {arch.name} ({heads}) as {measured}, "
                f"the nearest in the {self.mfu_table.gpu} benchmarks"
            )
        return found


def bandwidth_tb_per_s(values: dict[str, float]) -> float:
    """Peak bandwidth times its efficiency, where one is given."""
    return values["BwPeakTBs"] * (values["bwEfficiencyFactor"] or 1.0)


def matrices(arch: Architecture) -> tuple[tuple[Shape, int], ...]:
    """The weight matrices of one layer and how often each stands there: Q and O, K and V, gate and up, down."""
    d, heads = arch.hidden_size, Heads.of(arch)
    return (
        (Shape(d, d), 2),
        (Shape(d, heads.kv_heads * heads.head_dim), 2),
        (Shape(d, arch.mlp_size), 2),
        (Shape(arch.mlp_size, d), 1),
    )


def gemm_work(
    mfu_table: MfuTable, arch: Architecture, tp: int, rows: Floats, *, interpolate: bool
) -> Floats:
    """1e6 FLOP over MFU that each matrix of all layers costs a GPU for ``rows`` (r,) rows, shape (4, r)."""
    scale = 2e-6 * arch.num_layers / tp
    return np.stack(
        [
            count
            * scale
            * shape.k
            * shape.n
            * rows
            / mfu_table.gemm_mfu(rows, shape, interpolate=interpolate)
            for shape, count in matrices(arch)
        ]
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Prompts:
    """The prompts of every step that fall into one bucket; each array has one entry a step and bucket."""

    step: NDArray[np.intp]
    bucket: NDArray[np.intp]
    count: Floats
    new_tokens: Floats
    pairs: Floats  # Σ n·(s + n)


def bucket_prompts(table: StepTable) -> Prompts:
    """Put every prompt into the smallest bucket that is not below its length, the largest at most."""
    runs = table.requests.prefill
    context, new, count = runs.values
    bucket = np.minimum(np.searchsorted(BUCKETS, context + new), len(BUCKETS) - 1)
    keys, entry = np.unique(runs.steps * len(BUCKETS) + bucket, return_inverse=True)

    def total(values: Floats) -> Floats:
        return np.bincount(entry, weights=values, minlength=len(keys)).astype(np.float64)

    step, index = np.divmod(keys, len(BUCKETS))
    return Prompts(
        step, index, total(count), total(count * new), total(count * new * (context + new))
    )


def by_model(
    table: StepTable, steps: NDArray[np.intp]
) -> Iterator[tuple[Architecture, int, NDArray[np.intp]]]:
    """Each architecture and tp among ``steps`` (r,), with the positions in ``steps`` where they stand."""
    tp_values, tp_index = distinct_tp(table.tp)
    key = (table.arch_index * len(tp_values) + tp_index)[steps]
    if not len(key):
        return
    # A radix sort up to 16 bits
    order = np.argsort(key.astype(np.min_scalar_type(key.max())), kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
        arch, tp = divmod(int(key[rows[0]]), len(tp_values))
        yield table.architectures[arch], int(tp_values[tp]), rows
