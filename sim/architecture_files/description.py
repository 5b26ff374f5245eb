"""A Hugging Face ``config.json`` as an architecture."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from sim.architecture import Architecture, Experts
from sim.architecture_files.families import Family, family_of
from sim.architecture_files.fields import Fields
from sim.architecture_files.layers import experts_layers, layers_of, num_layers
from sim.architecture_files.weight_types import with_stored_types
from sim.errors import ArchitectureError

_MLP = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_EXPERTS_PER_TOKEN = (
    *("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts"),
    *("moe_top_k", "moe_topk", "moe_k", "top_k"),
)
_EXPERT_MLP = ("moe_intermediate_size", "expert_intermediate_size", *_MLP)
_SHARED_MLP = (
    *("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size"),
    *("share_expert_dim", "shared_intermediate_size"),
)
_INNER = {
    "attn_config": ("kv_n_heads",),
    "ffn_config": ("ffn_hidden_size", "moe_num_experts", "moe_top_k"),
}
"""Sizes that some families (MPT, DBRX) keep in sections."""

_TEXT_SECTIONS = ("text_config", "llm_config", "language_config")


def architecture_of(
    config: Mapping[str, Any],
    name: str,
    where: str,
    dtype: str | None = None,
    family: Family | None = None,
) -> Architecture:
    """The architecture that ``config`` describes; ``where`` names it in messages.

    With ``dtype`` the weight type of the file is not read; without ``family`` it is that of the ``model_type``.
    Raises ArchitectureError, naming file and field.
    """
    text = _text_section(config)
    config = {**_inner(config), **config, **text, **_outer(config)}
    family = family or family_of(config.get("model_type"), where)
    fields = Fields(config, where, family.left_out(section=bool(text)))
    arch = _uniform(fields, name, family.mlp_matrices)
    groups = layers_of(fields, arch)
    arch = dataclasses.replace(arch, groups=groups)
    fields.check_all_read()
    return arch.with_dtype(dtype) if dtype else with_stored_types(arch, fields)


def _text_section(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language part of a description of several; empty where the description is of one part."""
    sections = (config.get(name) for name in _TEXT_SECTIONS)
    whole = "hidden_size" in config
    return next((s for s in sections if isinstance(s, Mapping) and not whole), {})


def _outer(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the whole says over its language part: since transformers 5, whether embeddings and head are one."""
    major = str(config.get("transformers_version", "")).partition(".")[0]
    governs = major.isdecimal() and int(major) >= 5 and "tie_word_embeddings" in config
    return {"tie_word_embeddings": config["tie_word_embeddings"]} if governs else {}


def _inner(config: Mapping[str, Any]) -> Mapping[str, Any]:
    sections = {name: config.get(name) for name in _INNER}
    return {
        field: section[field]
        for name, section in sections.items()
        if isinstance(section, Mapping)
        for field in _INNER[name]
        if field in section
    }


def _uniform(fields: Fields, name: str, mlp_matrices: int) -> Architecture:
    """The sizes of a model whose layers are alike but for experts."""
    layers = num_layers(fields)
    arch = Architecture(
        name=name,
        num_layers=layers,
        hidden_size=fields.integer("hidden_size", "n_embd", "d_model"),
        num_heads=fields.integer("num_attention_heads", "n_head", "n_heads", "num_heads"),
        num_kv_heads=_kv_heads(fields),
        intermediate_size=_mlp_size(fields),
        vocab_size=_vocab_size(fields),
        head_dim=fields.integer("head_dim", "attention_head_dim", default=0),
        num_mlp_matrices=mlp_matrices,
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


def _kv_heads(fields: Fields) -> int:
    """Key/value heads of a layer; 0 where there are as many as heads."""
    stated = fields.integer(
        *("num_key_value_heads", "num_kv_heads", "n_head_kv", "kv_n_heads"),
        *("multi_query_group_num", "num_query_groups"),
        default=0,
    )
    if fields.get("multi_query") and not fields.get("new_decoder_architecture"):
        return 1
    return stated


def _vocab_size(fields: Fields) -> int:
    """Tokens of the vocabulary; a description of one's own, without a ``model_type``, may have no head."""
    names = ("vocab_size", "padded_vocab_size")
    return (
        fields.integer(*names) if fields.text("model_type") else fields.integer(*names, default=0)
    )


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
