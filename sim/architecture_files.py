"""Reading models: the registry of known ones, and any Hugging Face ``config.json``."""

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.architecture import Architecture, Experts
from sim.errors import ArchitectureError, UnknownModelError
from sim.text_files import ContentError, read_json
from sim.units import DTYPE_BYTES

_REGISTRY = Path(__file__).parent / "architectures"

_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num")
_MLP = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_EXPERTS_PER_TOKEN = (
    "num_experts_per_tok",
    "num_experts_per_token",
    "experts_per_token",
    "moe_top_k",
    "top_k",
)
_EXPERT_MLP = ("moe_intermediate_size", "expert_intermediate_size", *_MLP)
_UNGATED_MLP = {"bloom", "falcon", "gpt2", "gpt_neox", "gptj", "mpt", "opt", "phi", "starcoder2"}
_LARGEST_SIZE = 1e12
_DTYPES = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "float": "fp32",
}


def load_architecture(
    source: str | Path | Mapping[str, Any], dtype: str | None = None
) -> Architecture:
    """Load a model: a registry name or alias, a path (a ``config.json`` or its folder), or a dict.

    Raises ArchitectureError, with the nearest known name, the file and the field, if that fails.
    """
    if isinstance(source, Mapping):
        arch = _from_config(source, str(source.get("_name_or_path") or "model"), "the given dict")
    else:
        arch = _load_named(str(source))
    return arch.with_dtype(dtype) if dtype else arch


def architecture_names() -> dict[str, tuple[str, ...]]:
    """Every model of the registry with its aliases, by name."""
    return {
        path.stem: tuple(json.loads(path.read_text(encoding="utf-8"))["aliases"])
        for path in sorted(_REGISTRY.glob("*.json"))
    }


def canonical_model(name: str) -> str:
    """The registry's spelling of a model's name or alias; the name itself where the registry has none."""
    return _aliases().get(name.strip().lower(), name)


@functools.lru_cache(maxsize=256)
def _load_named(source: str) -> Architecture:
    name = _aliases().get(source.strip().lower())
    if name is not None:
        entry = json.loads((_REGISTRY / f"{name}.json").read_text(encoding="utf-8"))
        return _from_config(entry["config"], name, f"registry entry {name}")
    path = Path(source)
    file = path / "config.json" if os.path.isdir(path) else path  # noqa: PTH112  # as below
    if not os.path.isfile(file):  # noqa: PTH113  # a name that no file can have is not one, and no error
        raise UnknownModelError(source, _aliases())
    try:
        config = read_json(file)
    except OSError as error:
        raise ArchitectureError(f"{file}: cannot be read: {error.strerror}") from error
    except ContentError as error:
        raise ArchitectureError(error.at(file)) from error
    if not isinstance(config, dict):
        raise ArchitectureError(f"{file}: a model description must be a JSON object")
    return _from_config(config, file.parent.name, str(file))


@functools.cache
def _aliases() -> dict[str, str]:
    index = {}
    for name, aliases in architecture_names().items():
        index.update({alias.lower(): name for alias in (name, *aliases)})
    return index


def _from_config(config: Mapping[str, Any], name: str, where: str) -> Architecture:
    text = config.get("text_config")
    if isinstance(text, Mapping) and "hidden_size" not in config:
        config = {**config, **text}
    read = functools.partial(_integer, config, where)
    dtype, bytes_per_param = _weight_type(config, where)
    arch = Architecture(
        name=name,
        num_layers=read(_LAYERS),
        hidden_size=read(_HIDDEN),
        num_heads=read(_HEADS),
        num_kv_heads=read(_KV_HEADS, default=0),
        intermediate_size=read(_MLP, default=0),
        vocab_size=read(("vocab_size",), default=0),
        dtype=dtype,
        bytes_per_param=bytes_per_param,
        head_dim=read(("head_dim",), default=0),
        num_mlp_matrices=2 if _model_type(config, where) in _UNGATED_MLP else 3,
        experts=_experts(config, where),
        latent_attention=bool(config.get("kv_lora_rank")),
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
    )
    if arch.num_heads % arch.kv_heads:
        raise ArchitectureError(
            f"{where}: {arch.num_heads} attention heads are not a multiple of {arch.kv_heads} key/value heads"
        )
    return arch


def _experts(config: Mapping[str, Any], where: str) -> Experts | None:
    read = functools.partial(_integer, config, where)
    num_experts = read(_EXPERTS, default=0)
    if num_experts < 2:
        return None
    width = read(_EXPERT_MLP)
    shared = read(("shared_expert_intermediate_size",), default=0)
    return Experts(
        num_experts=num_experts,
        experts_per_token=read(_EXPERTS_PER_TOKEN),
        intermediate_size=width,
        shared_intermediate_size=shared
        or width * read(("n_shared_experts", "num_shared_experts"), default=0),
        num_dense_layers=read(("first_k_dense_replace",), default=0)
        or _num_listed(config, "mlp_only_layers", where),
    )


def _model_type(config: Mapping[str, Any], where: str) -> str:
    name = config.get("model_type") or ""
    if not isinstance(name, str):
        raise ArchitectureError(f"{where}: model_type must be text, got {str(name)[:60]}")
    return name


def _num_listed(config: Mapping[str, Any], field: str, where: str) -> int:
    """How many entries a list of the file has; 0 without it."""
    entries = config.get(field) or []
    if not isinstance(entries, list):
        raise ArchitectureError(f"{where}: {field} must be a list, got {str(entries)[:60]}")
    return len(entries)


def _weight_type(config: Mapping[str, Any], where: str) -> tuple[str, float]:
    quantization = config.get("quantization_config")
    dtype = _quantized(quantization, where) if isinstance(quantization, Mapping) else None
    if dtype is None:
        raw = str(config.get("torch_dtype") or config.get("dtype") or "bfloat16").removeprefix(
            "torch."
        )
        dtype = _DTYPES.get(raw, raw)
    if dtype not in DTYPE_BYTES:
        raise ArchitectureError(
            f"{where}: weight type {dtype!r} is not known (known: {', '.join(DTYPE_BYTES)})"
        )
    return dtype, DTYPE_BYTES[dtype]


def _quantized(quantization: Mapping[str, Any], where: str) -> str | None:
    method = str(quantization.get("quant_method", "")).lower()
    bits = quantization.get("bits") or quantization.get("w_bit")
    if "fp8" in method or method in ("fbgemm_fp8", "modelopt"):
        return "fp8"
    if method in ("mxfp4", "int8", "int4"):
        return method
    if method in ("awq", "gptq", "bitsandbytes") and (bits or 4) in (4, 8):
        return f"int{bits or 4}"
    raise ArchitectureError(
        f"{where}: quantization method {method!r} is not known; give the weight type in the dtype column instead"
    )


_REQUIRED = -1


def _integer(
    config: Mapping[str, Any], where: str, names: tuple[str, ...], default: int = _REQUIRED
) -> int:
    for name in names:
        value = config.get(name)
        if value is None:
            continue
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or value % 1 != 0
            or value < 0
        ):
            raise ArchitectureError(
                f"{where}: {name} must be a non-negative whole number, got {value!r}"
            )
        if value > _LARGEST_SIZE:
            raise ArchitectureError(
                f"{where}: {name} is too large, above {_LARGEST_SIZE:g}: correct it"
            )
        if value == 0 and default == _REQUIRED:
            raise ArchitectureError(f"{where}: {name} must be positive, got 0")
        return int(value)
    if default == _REQUIRED:
        raise ArchitectureError(
            f"{where}: the field {names[0]!r} is missing (or {', '.join(names[1:])})"
        )
    return default
