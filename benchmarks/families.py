"""Which families of models are counted right: `python -m benchmarks.families`, with transformers and torch installed.

Every decoder that transformers has is built on torch's meta device, which computes nothing and stores nothing, in the
sizes of its class. Its weights, and the numbers that it caches for a token, are held against the counts of the
description that it saves. Families that agree are known to calibrate; the others are refused by name.
"""

import argparse
import functools
import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from sim.architecture import Architecture
from sim.architecture_files.description import architecture_of
from sim.architecture_files.families import Family
from sim.errors import ArchitectureError

_ROOT = Path(__file__).parent.parent
_TABLE = _ROOT / "sim" / "architecture_files" / "families.json"
_SAMPLES = _ROOT / "tests" / "data" / "families.json"
_WITHIN = 0.015
_DEFAULTS = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("intermediate_size", "vocab_size", "head_dim", "tie_word_embeddings", "sliding_window"),
    *("num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok"),
    *("moe_intermediate_size", "n_shared_experts", "shared_expert_intermediate_size"),
    *("first_k_dense_replace", "decoder_sparse_step", "attention_chunk_size"),
    *("interleave_moe_layer_step", "intermediate_size_mlp", "kv_lora_rank", "q_lora_rank"),
    *("v_head_dim", "qk_nope_head_dim", "qk_rope_head_dim", "multi_query"),
    *("new_decoder_architecture", "hidden_size_per_layer_input", "num_kv_shared_layers"),
    *("use_double_wide_mlp", "enable_moe_block", "attention_k_eq_v", "global_head_dim"),
    *("num_global_key_value_heads", "linear_num_key_heads", "linear_num_value_heads"),
    *("linear_key_head_dim", "linear_value_head_dim", "linear_conv_kernel_dim", "index_topk"),
    *("full_attention_interval", "attn_output_gate", "use_sliding_window", "max_window_layers"),
)
_SIZES = {
    "hidden_size": 2.0,
    "num_hidden_layers": 2.0,
    "num_attention_heads": 2.0,
    "num_key_value_heads": 0.5,
}
_BUILT_WITH = {name: {"head_dim": 128} for name in ("glm4_moe", "hunyuan_v1_dense", "ministral")}
"""What these classes leave open in their defaults."""
_NOT_AS_BUILT = ("lfm2",)
"""Families whose published models have layers that the sizes of the class do not (short convolutions)."""
_ALSO = {
    name: {"attn_output_gate": True} for name in ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text")
}
"""What a class builds that no field of it says."""
_BY_SIZE = {
    **dict.fromkeys(("baichuan", "chatglm", "dbrx", "deepseek_v2", "internlm2", "kimi_k2"), 3),
    **dict.fromkeys(("deepseek_v32", "glm_moe_dsa", "mimo", "mimo_v2_flash", "minimax_m2"), 3),
    **dict.fromkeys(("gemma4_text", "llama4_text", "nemotron-nas", "step3p7"), 3),
    **{"nemotron": 2, "nemotron_h": 2},
}
"""Families whose published models have the sizes that their names and cards state, and the matrices of an MLP."""
_BY_FIELD = (
    *("deepseek_ref", "deepseek_v4", "gemma3n_text", "jamba", "kimi_linear", "minimax_m3"),
    *("minimax_m3_vl", "bamba", "minimax"),
)
"""Families that are refused by the name of a field that says more than that of the family."""
_NOT_OF_DECODERS = ("id2label", "label2id", "architectures")


def main() -> None:
    """Build, compare, write the table and the sample of the tests; say what disagreed."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.families", description=__doc__)
    options.add_argument("--out", type=Path, default=_TABLE)
    options.add_argument("--samples", type=Path, default=_SAMPLES)
    options.add_argument(
        "--only", nargs="*", help="build these, and keep what the table has of others"
    )
    asked = options.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    families = _content(asked.out, "families") if asked.only else {}
    samples = _content(asked.samples, "samples") if asked.only else {}
    for name, text in _types().items():
        if text in _NOT_AS_BUILT or (asked.only and name not in asked.only):
            continue
        found = _sample(name)
        family = found and _family(found, _defaults_of(text))
        print(f"{name}: {_verdict(found, family)}", flush=True)
        if found and family:
            samples[name] = found
            families.setdefault(text, _entry(family))
    families |= {
        name: _entry(Family(n, _defaults_of(name)))
        for name, n in _BY_SIZE.items()
        if name not in families
    }
    families |= {name: {} for name in _BY_FIELD if name not in families}
    families |= {
        name: {"text": text} for name, text in _types().items() if text in families and text != name
    }
    source = f"defaults of the configuration classes of transformers {transformers.__version__} (Apache-2.0)"
    _write(asked.out, {"source": source, "families": dict(sorted(families.items()))})
    _write(asked.samples, {"source": source, "samples": samples})


@functools.cache
def _types() -> dict[str, str]:
    """Every decoder, and every model of images and text, each with the type of its language part."""
    names = {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES}
    return {name: _text_type(name) for name in sorted(names) if name in CONFIG_MAPPING}


def _text_type(name: str) -> str:
    text = getattr(_config(name), "text_config", None)
    return str(text.model_type) if isinstance(text, PreTrainedConfig) else name


def _config(name: str) -> PreTrainedConfig | None:
    try:
        return CONFIG_MAPPING[name](**_BUILT_WITH.get(name, {}))
    except Exception:  # what any class of a foreign library may raise
        return None


def _sample(name: str) -> dict[str, Any] | None:
    """The description that a class saves, the weights of its model, and the numbers that it caches for a token."""
    config = _config(name)
    if config is None:
        return None
    saved = json.loads(config.to_json_string(use_diff=True))
    try:
        with torch.device("meta"):
            model = _builder(name).from_config(config, dtype=torch.bfloat16)
    except Exception:  # as above
        return None
    found = {name: value for name, value in saved.items() if name not in _NOT_OF_DECODERS}
    return {"config": found, "parameters": _weights(model), "cached": _cached(model)}


def _builder(name: str) -> Any:
    several = name in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    return AutoModelForImageTextToText if several else AutoModelForCausalLM


def _weights(model: Any) -> int:
    """Weights of the language part where a model has several, else all; those that are shared once."""
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    text = {name: size for name, size in sizes.items() if "language_model" in name}
    heads = {name: size for name, size in sizes.items() if name.startswith("lm_head")}
    return sum({**text, **heads}.values()) if text else sum(sizes.values())


def _cached(model: Any) -> float | None:
    """Numbers in the caches of a token; None where the model does not run on the meta device."""
    tokens = torch.zeros((1, 2), dtype=torch.long, device="meta")
    try:
        with torch.no_grad():
            layers = model.eval()(input_ids=tokens, use_cache=True).past_key_values.layers
        kept = [layer for layer in layers if getattr(layer, "keys", None) is not None]
        return sum(layer.keys.numel() + layer.values.numel() for layer in kept) / 2
    except Exception:  # as above
        return None


def _family(found: Mapping[str, Any], defaults: Mapping[str, int | bool]) -> Family | None:
    """The family with which counts agree, its MLP gated or plain; None where they do with neither."""
    families = [Family(3, defaults), Family(2, defaults)]
    nearest = min(families, key=lambda family: _off(found, _read(found, family)))
    arch = _read(found, nearest)
    if arch is None or _off(found, arch) > _WITHIN or not _caches(arch, found["cached"]):
        return None
    return nearest


def _off(found: Mapping[str, Any], arch: Architecture | None) -> float:
    return abs(arch.total_params / found["parameters"] - 1) if arch else float("inf")


def _read(found: Mapping[str, Any], family: Family) -> Architecture | None:
    try:
        return architecture_of(found["config"], "sample", "sample", family=family)
    except ArchitectureError:
        return None


def _caches(arch: Architecture, cached: float | None) -> bool:
    """Latent attention is cached here as it is, and by transformers' own code expanded.

    Encoders cache nothing; nor do models of images that do not run on text alone.
    """
    if cached is None:
        return arch.multimodal
    return arch.latent_attention or arch.kv_bytes_per_token(bytes_per_value=1.0) == cached


def _verdict(found: Mapping[str, Any] | None, family: Family | None) -> str:
    if found is None:
        return "cannot be built"
    if family:
        return f"agrees, {family.mlp_matrices} matrices an MLP"
    arch = _read(found, Family())
    counted = f"counted {arch.total_params:.4g}" if arch else "refused"
    return f"not known: {counted}, has {found['parameters']:.4g}"


def _entry(family: Family) -> dict[str, Any]:
    plain = (
        {}
        if family.mlp_matrices == Family().mlp_matrices
        else {"mlp_matrices": family.mlp_matrices}
    )
    return {**plain, "defaults": dict(family.defaults)}


def _defaults_of(name: str) -> dict[str, int | bool]:
    """What the class has for a field that is left out, unless that follows from another field."""
    if name not in CONFIG_MAPPING:
        return {}
    config_class = CONFIG_MAPPING[name]
    own = config_class().to_dict()
    defaults = {name: own[name] for name in _DEFAULTS if isinstance(own.get(name), int)}
    for name, factor in _SIZES.items():
        if isinstance(own.get(name), int):
            other = _with(config_class, name, int(own[name] * factor))
            defaults = {n: v for n, v in defaults.items() if n == name or other.get(n, v) == v}
    return {**defaults, **_ALSO.get(own["model_type"], {})}


def _with(config_class: Any, name: str, value: int) -> dict[str, Any]:
    try:
        return dict(config_class(**{name: value}).to_dict())
    except Exception:  # as above
        return {}


def _content(path: Path, part: str) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))[part])


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
