"""What sets layers apart from those of a plain transformer, in words."""

from collections.abc import Callable, Sequence

from sim.architecture.attention import Attention, GroupedAttention
from sim.architecture.layers import LayerGroup


def limited_attention(groups: Sequence[LayerGroup]) -> list[str]:
    """Sliding windows and chunks, with their layers."""
    return _attentions(groups, lambda attention: attention.width > 0)


def kind_of_layers(groups: Sequence[LayerGroup]) -> str:
    """The kinds of attention that are not full, and experts, in the order of layers; else ``dense``."""
    kinds = [group.attention.kind for group in groups if group.attention]
    experts = ["experts"] if any(group.experts for group in groups) else []
    named = [kind for kind in dict.fromkeys([*kinds, *experts]) if kind]
    return ", ".join(named) or "dense"


def unusual_layers(groups: Sequence[LayerGroup]) -> list[str]:
    """Other kinds of attention, and layers put together in another way."""
    others = _attentions(groups, lambda attention: attention.width == 0)
    return [*others, *(text for text, holds in _LAYERS if holds(groups))]


def _attentions(groups: Sequence[LayerGroup], belongs: Callable[[Attention], bool]) -> list[str]:
    total = sum(group.count for group in groups)
    count: dict[str, int] = {}
    for group in groups:
        if group.attention and group.attention.peculiarity and belongs(group.attention):
            text = group.attention.peculiarity
            count[text] = count.get(text, 0) + group.count
    return [f"{text} in {layers} of {total} layers" for text, layers in count.items()]


def _grouped(groups: Sequence[LayerGroup]) -> list[GroupedAttention]:
    return [g.attention for g in groups if isinstance(g.attention, GroupedAttention)]


def _differ(groups: Sequence[LayerGroup]) -> bool:
    shapes = {(a.heads, a.kv_heads, a.head_dim) for a in _grouped(groups)}
    return len(shapes) > 1 or len({group.mlp_size for group in groups if group.mlp_size}) > 1


def _lack_a_part(groups: Sequence[LayerGroup]) -> bool:
    return any(g.attention is None or not (g.mlp_size or g.experts) for g in groups)


def _have_both(groups: Sequence[LayerGroup]) -> bool:
    return any(group.mlp_size and group.experts for group in groups)


def _have_latent_experts(groups: Sequence[LayerGroup]) -> bool:
    return any(group.experts and group.experts.latent_size for group in groups)


def _have_odd_projections(groups: Sequence[LayerGroup]) -> bool:
    return any(
        a.gated or a.values_are_keys or a.value_dim not in (0, a.head_dim) for a in _grouped(groups)
    )


_LAYERS: tuple[tuple[str, Callable[[Sequence[LayerGroup]], bool]], ...] = (
    ("layers of different sizes", _differ),
    ("layers without attention or without a feed-forward part", _lack_a_part),
    ("an MLP beside the experts of a layer", _have_both),
    ("experts on a projection of the token", _have_latent_experts),
    ("attention with a gate, or with values unlike its keys", _have_odd_projections),
)
