"""How a ``config.json`` says that layers differ: attention and feed-forward part of each."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence

from sim.architecture import Architecture, Experts, LayerGroup
from sim.architecture.attention import (
    Attention,
    GroupedAttention,
    Indexer,
    LatentAttention,
    LinearAttention,
)
from sim.architecture_files.blocks import pruned_blocks, single_blocks
from sim.architecture_files.fields import Fields
from sim.errors import ArchitectureError

FeedForward = tuple[int, Experts | None]

_REFUSED = {
    "compress_ratios": "its compressed caches are not known here",
    "linear_attn_config": "its linear attention (KDA) is not known here",
    "sparse_attention_config": "its sparse attention is not known here",
    "num_kv_shared_layers": "its layers that share a cache are not known here",
    "hidden_size_per_layer_input": "its embeddings of each layer are not known here",
    "use_double_wide_mlp": "its double-wide MLPs are not known here",
    "attention_other_setting": "its second kind of attention heads is not known here",
}


def layers_of(fields: Fields, flat: Architecture) -> tuple[LayerGroup, ...]:
    """The groups of layers; empty where they are all alike, as ``flat`` describes them.

    Raises ArchitectureError, naming the field, for layers of a kind that is not known.
    """
    for name, why in _REFUSED.items():
        if fields.get(name):
            raise fields.refuse(name, why)
    layers = _each_layer(fields, flat)
    counted = Counter(layers)
    alike = Counter({dataclasses.replace(g, count=1): g.count for g in flat.layer_groups})
    if counted == alike:
        return ()
    return tuple(dataclasses.replace(layer, count=n) for layer, n in counted.items())


_MOST_LAYERS = 10_000  # each is described apart; no model has 200


def num_layers(fields: Fields) -> int:
    """The number of layers, of the list of their kinds where no field counts them."""
    if listed := fields.sequence("layers_block_type"):
        return len(listed)
    layers = fields.integer("num_hidden_layers", "n_layer", "n_layers", "num_layers")
    if layers > _MOST_LAYERS:
        raise ArchitectureError(
            f"{fields.where}: {layers:,} layers are too many, above {_MOST_LAYERS:,}: correct it"
        )
    return layers


def _each_layer(fields: Fields, flat: Architecture) -> list[LayerGroup]:
    if fields.get("block_configs"):
        return pruned_blocks(fields, flat)
    if fields.get("hybrid_override_pattern", "layers_block_type"):
        return single_blocks(fields, flat)
    attentions = _attentions(fields, flat)
    feed_forwards = _feed_forwards(fields, flat)
    matrices = flat.num_mlp_matrices
    return [
        LayerGroup(1, attention, mlp_size, experts, matrices)
        for attention, (mlp_size, experts) in zip(attentions, feed_forwards, strict=True)
    ]


def _attentions(fields: Fields, flat: Architecture) -> list[Attention]:
    kinds = _kinds(fields, flat.num_layers)
    make: dict[str, Callable[[Fields, Architecture], Attention]] = {
        "full": _full,
        "sliding": _sliding,
        "chunked": _chunked,
        "linear": _linear,
    }
    attention = {kind: make[kind](fields, flat) for kind in dict.fromkeys(kinds)}
    return [attention[kind] for kind in kinds]


_LAYER_TYPES = {
    **{"full_attention": "full", "attention": "full", "global_attention": "full"},
    **{"sliding_attention": "sliding", "local_attention": "sliding"},
    **{"chunked_attention": "chunked", "linear_attention": "linear"},
    "deepseek_sparse_attention": "full",  # by its indexer
}


def _kinds(fields: Fields, layers: int) -> list[str]:
    """The kind of attention of every layer."""
    fields.get("attention_chunk_size")
    if listed := fields.sequence("layer_types"):
        fields.get("sliding_window_pattern", "_sliding_window_pattern", "use_sliding_window")
        fields.get("sliding_window", "max_window_layers")
        return _listed_kinds(fields, listed, layers)
    if pattern := fields.sequence("hybrid_layer_pattern", layers):
        return ["sliding" if entry else "full" for entry in pattern]
    if any(not entry for entry in fields.sequence("attn_type_list", layers)):
        raise fields.refuse("attn_type_list", "its linear attention is not known here")
    if fields.get("linear_num_key_heads"):
        interval = fields.integer("full_attention_interval", default=4)
        if interval == 0:
            raise fields.refuse("full_attention_interval", "it must be positive")
        return ["linear" if (i + 1) % interval else "full" for i in range(layers)]
    if fields.text("model_type").startswith("llama4"):
        return ["chunked" if (i + 1) % 4 else "full" for i in range(layers)]
    return _windows_by_rule(fields, layers)


def _listed_kinds(fields: Fields, listed: Sequence[object], layers: int) -> list[str]:
    drafts = fields.integer("num_nextn_predict_layers", default=0)
    if len(listed) not in (layers, layers + drafts):
        fields.sequence("layer_types", layers)
    kinds = []
    for entry in listed[:layers]:
        if not isinstance(entry, str) or entry not in _LAYER_TYPES:
            raise ArchitectureError(
                f"{fields.where}: layer_types names {entry!r} layers, which are not known here "
                f"(known: {', '.join(_LAYER_TYPES)})"
            )
        kinds.append(_LAYER_TYPES[entry])
    return kinds


def _windows_by_rule(fields: Fields, layers: int) -> list[str]:
    """Which layers have the window of ``sliding_window``, by what each family does with it."""
    family = fields.text("model_type")
    window = fields.integer("sliding_window", default=0)
    used = fields.get("use_sliding_window")
    first = fields.integer("max_window_layers", default=0)
    pattern = fields.integer("sliding_window_pattern", "_sliding_window_pattern", default=0)
    longest = fields.integer("max_position_embeddings", default=0)
    if window == 0 and fields.get("sliding_window") is not None and used is not False:
        raise ArchitectureError(
            f"{fields.where}: sliding_window must be positive, got 0; leave it out, or give null, for full attention"
        )
    if not window or used is False or 0 < longest <= window:
        return ["full"] * layers
    if family.startswith(("qwen2", "qwen3")):
        first = first if used else layers
        return ["sliding" if i >= first else "full" for i in range(layers)]
    if family in ("gemma2", "gpt_oss"):
        return ["full" if i % 2 else "sliding" for i in range(layers)]
    every = pattern or {"gemma3": 6, "gemma3_text": 6, "cohere2": 4}.get(family, 0)
    return ["full" if every and (i + 1) % every == 0 else "sliding" for i in range(layers)]


def _full(fields: Fields, flat: Architecture) -> Attention:
    fields.get("global_head_dim", "num_global_key_value_heads", "attention_k_eq_v")
    if fields.get("kv_lora_rank"):
        return _latent(fields, flat)
    same = bool(fields.get("attention_k_eq_v"))
    return GroupedAttention(
        heads=flat.num_heads,
        kv_heads=(same and fields.integer("num_global_key_value_heads", default=0))
        or flat.kv_heads,
        head_dim=fields.integer("global_head_dim", default=0) or flat.true_head_dim,
        value_dim=fields.integer("v_head_dim", default=0),
        gated=bool(fields.get("attn_output_gate", "attention_output_gate")),
        values_are_keys=same,
    )


def _sliding(fields: Fields, flat: Architecture) -> Attention:
    window = fields.integer("sliding_window", "sliding_window_size")
    return GroupedAttention(
        heads=fields.integer("swa_num_attention_heads", default=0) or flat.num_heads,
        kv_heads=fields.integer("swa_num_key_value_heads", default=0) or flat.kv_heads,
        head_dim=fields.integer("swa_head_dim", default=0) or flat.true_head_dim,
        value_dim=fields.integer("swa_v_head_dim", "v_head_dim", default=0),
        window=window,
        gated=bool(fields.get("attn_output_gate", "attention_output_gate")),
    )


def _chunked(fields: Fields, flat: Architecture) -> Attention:
    chunk = fields.integer("attention_chunk_size")
    return GroupedAttention(flat.num_heads, flat.kv_heads, flat.true_head_dim, chunk=chunk)


def _linear(fields: Fields, flat: Architecture) -> Attention:  # noqa: ARG001 - one signature for all
    return LinearAttention(
        key_heads=fields.integer("linear_num_key_heads"),
        value_heads=fields.integer("linear_num_value_heads"),
        key_dim=fields.integer("linear_key_head_dim"),
        value_dim=fields.integer("linear_value_head_dim"),
        convolution=fields.integer("linear_conv_kernel_dim", default=0),
    )


def _latent(fields: Fields, flat: Architecture) -> LatentAttention:
    indexer = None
    if top_k := fields.integer("index_topk", default=0):
        heads = fields.integer("index_n_heads")
        indexer = Indexer(heads, fields.integer("index_head_dim"), top_k)
        fields.get("indexer_types", "index_topk_pattern")
    return LatentAttention(
        heads=flat.num_heads,
        query_rank=fields.integer("q_lora_rank", default=0),
        cache_rank=fields.integer("kv_lora_rank"),
        nope_dim=fields.integer("qk_nope_head_dim"),
        rope_dim=fields.integer("qk_rope_head_dim"),
        value_dim=fields.integer("v_head_dim"),
        indexer=indexer,
    )


def _feed_forwards(fields: Fields, flat: Architecture) -> list[FeedForward]:
    experts = flat.experts
    if experts is None:
        fields.get("mlp_only_layers", "decoder_sparse_step", "first_k_dense_replace")
        fields.get("moe_layer_freq", "mlp_layer_types", "enable_moe_block")
        return [(flat.mlp_size, None)] * flat.num_layers
    if fields.get("enable_moe_block"):  # Gemma 4: both, side by side
        return [(flat.mlp_size, experts)] * flat.num_layers
    mixed = experts_layers(fields, flat.num_layers)
    return [(0, experts) if has else (flat.mlp_size, None) for has in mixed]


def experts_layers(fields: Fields, layers: int) -> list[bool]:
    """Which layers have experts, by the rule of the family's fields."""
    if listed := fields.sequence("mlp_layer_types", layers):
        fields.get("first_k_dense_replace", "moe_layer_freq")
        return [entry in ("sparse", "moe") for entry in listed]
    if listed := fields.sequence("moe_layers"):
        fields.get("interleave_moe_layer_step")
        return [i in listed for i in range(layers)]
    first = fields.integer("first_k_dense_replace", "num_dense_layers", default=0)
    frequency = fields.get("moe_layer_freq")
    if isinstance(frequency, list | tuple):
        return [bool(entry) for entry in fields.sequence("moe_layer_freq", layers)]
    every = fields.integer("moe_layer_freq", "interleave_moe_layer_step", default=1) or 1
    step = fields.integer("decoder_sparse_step", default=1) or 1
    dense = _only_mlp(fields)
    offset = 1 if fields.get("interleave_moe_layer_step") else 0
    return [
        i >= first and (i + offset) % every == 0 and (i + 1) % step == 0 and i not in dense
        for i in range(layers)
    ]


def _only_mlp(fields: Fields) -> set[int]:
    listed = fields.sequence("mlp_only_layers")
    if not all(isinstance(entry, int) for entry in listed):
        raise fields.refuse("mlp_only_layers", "it must list numbers of layers")
    return set(listed)
