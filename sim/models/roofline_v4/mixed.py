"""Attention of a launch that holds prompts and decodes: its columns, its time, its derivatives.

Such a launch is made for prompts. A decode in it computes a whole tile of rows, whatever it needs of them, and is not
split over its context: whoever walks the longest one holds the launch up. Latent attention is not of them: engines
launch its prompts and its decodes apart. The form was chosen on one model's launches (docs/models.md).
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sim.models.smooth_maximum import cubed
from sim.steps.batch import Floats

_TINY = np.finfo(np.float64).tiny


@dataclasses.dataclass(frozen=True)
class MixedColumns:
    """The ``rows`` (m,) of a table that mix, in ascending order; the rest (kinds, m), in 1e6 FLOPs and bytes of a GPU.

    ``prefill_flops`` are of prompts; of one row of each decode, ``decode_flops`` are for what it sees, ``token_flops``
    for a token more, and ``chunk_flops`` for as many as a prompt computes. ``walked`` is the longest context times
    layers.
    """

    rows: NDArray[np.intp]
    prefill_flops: Floats
    decode_flops: Floats
    token_flops: Floats
    chunk_flops: Floats
    moved_bytes: Floats
    walked: Floats

    def of_block(self, block: slice) -> slice:
        """The places of those that lie in a block of the table's rows."""
        first = int(np.searchsorted(self.rows, block.start or 0))
        if block.stop is None:
            return slice(first, len(self.rows))
        return slice(first, int(np.searchsorted(self.rows, block.stop)))


@dataclasses.dataclass(frozen=True)
class MixedTerms:
    """The time of mixed launches in µs and what of it two sides have, (m,), of a block's ``rows``.

    ``derivatives`` are those with respect to the parameters that only such launches have.
    """

    rows: NDArray[np.intp]
    us: Floats
    compute_us: Floats
    memory_us: Floats
    derivatives: Mapping[str, Floats]


def mixed_us(
    c: MixedColumns, values: Mapping[str, float], rates_cubed: tuple[float, float], here: slice
) -> Floats:
    """The time of the mixed launches ``here`` in µs, (m,); see :func:`mixed_terms`."""
    compute, memory, walk = _sides(c, values, rates_cubed, here)
    us: Floats = np.cbrt(compute + memory + walk).sum(axis=0)
    return us


def mixed_terms(
    c: MixedColumns, values: Mapping[str, float], rates_cubed: tuple[float, float], block: slice
) -> MixedTerms:
    """Those of a block of the table's rows; ``rates_cubed`` are the cubed µs of 1e6 FLOPs and bytes of attention."""
    here = c.of_block(block)
    compute, memory, walk = _sides(c, values, rates_cubed, here)
    total = compute + memory + walk
    us = np.cbrt(total)
    share = us / np.maximum(total, _TINY)
    tile, decodes = values["mixedDecodeRows"], _decode_flops(c, values, here)
    flop_us = compute * share / np.maximum(c.prefill_flops[:, here] + tile * decodes, _TINY)
    parts = {
        "mixedDecodeRows": decodes * flop_us,
        "mixedDecodeTokens": tile * c.token_flops[:, here] * flop_us,
        "mixedChunkShare": tile * c.chunk_flops[:, here] * flop_us,
        "mixedWalkMicros": walk * share / np.maximum(values["mixedWalkMicros"], _TINY),
    }
    return MixedTerms(
        rows=c.rows[here] - (block.start or 0),
        us=us.sum(axis=0),
        compute_us=(compute * share).sum(axis=0),
        memory_us=(memory * share).sum(axis=0),
        derivatives={name: part.sum(axis=0) for name, part in parts.items()},
    )


def _decode_flops(c: MixedColumns, values: Mapping[str, float], here: slice) -> Floats:
    """1e6 FLOPs of one row of all decodes, (kinds, m)."""
    added = values["mixedDecodeTokens"] * c.token_flops[:, here]
    added += values["mixedChunkShare"] * c.chunk_flops[:, here]
    added += c.decode_flops[:, here]
    return added


def _sides(
    c: MixedColumns, values: Mapping[str, float], rates_cubed: tuple[float, float], here: slice
) -> tuple[Floats, Floats, Floats]:
    """Cubed µs of computing, of reading, and of walking the longest context, each (kinds, m)."""
    flop_us, byte_us = rates_cubed
    decodes = values["mixedDecodeRows"] * _decode_flops(c, values, here)
    compute = cubed(c.prefill_flops[:, here] + decodes) * flop_us
    walk = cubed(c.walked[:, here] * values["mixedWalkMicros"])
    return compute, cubed(c.moved_bytes[:, here]) * byte_us, walk
