"""A Hugging Face ``config.json`` as an architecture."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from sim.architecture import Architecture, Experts
from sim.architecture_files.fields import Fields
from sim.architecture_files.layers import experts_layers, layers_of, num_layers
from sim.architecture_files.weight_types import with_stored_types
from sim.errors import ArchitectureError

_MLP = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_EXPERTS_PER_TOKEN = (
    *("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts"),
    *("moe_top_k", "top_k"),
)
_EXPERT_MLP = ("moe_intermediate_size", "expert_intermediate_size", *_MLP)
_SHARED_MLP = (
    *("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size"),
    *("share_expert_dim", "shared_intermediate_size"),
)
_UNGATED_MLP = {
    *("bloom", "falcon", "gpt2", "gpt_neox", "gptj", "mpt", "opt", "phi", "starcoder2"),
    *("nemotron", "nemotron_h"),
}


def architecture_of(
    config: Mapping[str, Any], name: str, where: str, dtype: str | None = None
) -> Architecture:
    """The architecture that ``config`` describes; ``where`` names it in messages.

    With ``dtype`` the weight type of the file is not read. Raises ArchitectureError, naming file and field.
    """
    text = config.get("text_config")
    if isinstance(text, Mapping) and "hidden_size" not in config:
        config = {**config, **text}
    fields = Fields(config, where)
    arch = _uniform(fields, name)
    groups = layers_of(fields, arch)
    arch = dataclasses.replace(arch, groups=groups)
    fields.check_all_read()
    return arch.with_dtype(dtype) if dtype else with_stored_types(arch, fields)


def _uniform(fields: Fields, name: str) -> Architecture:
    """The sizes of a model whose layers are alike but for experts."""
    layers = num_layers(fields)
    arch = Architecture(
        name=name,
        num_layers=layers,
        hidden_size=fields.integer("hidden_size", "n_embd", "d_model"),
        num_heads=fields.integer("num_attention_heads", "n_head", "n_heads", "num_heads"),
        num_kv_heads=fields.integer(
            *("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num"),
            default=0,
        ),
        intermediate_size=_mlp_size(fields),
        vocab_size=fields.integer("vocab_size", default=0),
        head_dim=fields.integer("head_dim", "attention_head_dim", default=0),
        num_mlp_matrices=2 if fields.text("model_type") in _UNGATED_MLP else 3,
        experts=_experts(fields, layers),
        tied_embeddings=bool(fields.get("tie_word_embeddings")),
        multimodal=any(fields.get(part) for part in ("vision_config", "audio_config")),
    )
    if fields.get("kv_lora_rank"):
        arch = dataclasses.replace(arch, num_kv_heads=0, head_dim=0)
    if arch.num_heads % arch.kv_heads:
        raise ArchitectureError(
            f"{fields.where}: {arch.num_heads} attention heads are not a multiple of {arch.kv_heads} key/value heads"
        )
    return arch


def _mlp_size(fields: Fields) -> int:
    """Width of the ordinary MLP; some families name that of their dense layers apart from that of experts."""
    own = fields.integer("intermediate_size_mlp", "dense_intermediate_size", default=0)
    return own or fields.integer(*_MLP, default=0)


def _experts(fields: Fields, layers: int) -> Experts | None:
    num_experts = fields.integer(*_EXPERTS, default=0)
    if num_experts < 2:
        return None
    width = fields.integer(*_EXPERT_MLP)
    per_token = fields.integer(*_EXPERTS_PER_TOKEN)
    if per_token > num_experts:
        raise ArchitectureError(
            f"{fields.where}: {per_token} experts serve a token, of {num_experts}"
        )
    return Experts(
        num_experts=num_experts,
        experts_per_token=per_token,
        intermediate_size=width,
        shared_intermediate_size=_shared_width(fields, width),
        num_dense_layers=_dense_layers(fields, layers),
        latent_size=fields.integer("moe_latent_size", "routed_expert_hidden_size", default=0),
    )


def _shared_width(fields: Fields, width: int) -> int:
    """Width of all always-active experts together."""
    if fields.text("model_type").startswith("llama4"):
        return width
    shared = fields.integer(*_SHARED_MLP, default=0)
    count = fields.integer("n_shared_experts", "num_shared_experts", default=0)
    return shared or width * count


def _dense_layers(fields: Fields, layers: int) -> int:
    if fields.get("hybrid_override_pattern", "layers_block_type") or fields.get("enable_moe_block"):
        return 0
    return layers - sum(experts_layers(fields, layers))
