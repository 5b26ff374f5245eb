"""What roofline-v4 counts of linear attention: recurrent layers that keep a state instead of a cache.

A prompt is computed in chunks, one after the other: inside a chunk all tokens at once, between chunks by the state. So
few long prompts take the time of their chunks in a row, many take what their products need. A decode reads its state
and writes it back. Source of the products: Yang et al., Gated Delta Networks (2024), section 3.3.
"""

import dataclasses

from sim.architecture import Architecture
from sim.architecture.attention import LinearAttention

_CHUNK = 64.0  # tokens that engines compute together
_READ_AND_WRITTEN = 2.0
_ACTIVATION_BYTES = 2.0


@dataclasses.dataclass(frozen=True)
class LinearWork:
    """All layers with linear attention, of one GPU, in 1e6: FLOPs of a prompt's token, bytes of a request's states
    read and written, and bytes that the convolution moves for a token.
    """

    layers: float = 0.0
    token_flops: float = 0.0
    state_bytes: float = 0.0
    token_bytes: float = 0.0


def linear_work(arch: Architecture, tp: int) -> LinearWork:
    """Count the layers of a model on ``tp`` GPUs, which share the heads."""
    groups = [
        (group.count, group.attention)
        for group in arch.layer_groups
        if isinstance(group.attention, LinearAttention)
    ]
    each = 1e-6 / tp
    moved = _READ_AND_WRITTEN * _ACTIVATION_BYTES
    return LinearWork(
        layers=float(sum(count for count, _ in groups)),
        token_flops=each * sum(count * chunked_flops(attention) for count, attention in groups),
        state_bytes=each * _READ_AND_WRITTEN * sum(n * a.state_bytes for n, a in groups),
        token_bytes=each * moved * sum(n * a.convolved_width for n, a in groups),
    )


def chunked_flops(attention: LinearAttention) -> float:
    """FLOPs of a prompt's token in all heads of a layer: three products with the state, five within a chunk."""
    key, value = attention.key_dim, attention.value_dim
    with_state = 3.0 * key * value
    within = _CHUNK * (3.0 * key + 2.0 * value)
    return 2.0 * attention.value_heads * (with_state + within)
