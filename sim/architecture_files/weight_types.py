"""In which types a checkpoint stores its weights: the type of each part, by what its description leaves out.

Quantisers name the modules that they leave in 16 bits, or those that they convert, one by one or by a pattern. Parts of
layers (attention, MLP, shared and routed experts) are looked up among them layer by layer.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from sim.architecture import Architecture, WeightBytes
from sim.architecture_files.fields import Fields, shown
from sim.architecture_files.modules import Match, matcher, modules_of
from sim.errors import ArchitectureError
from sim.units import DTYPE_BYTES

_DTYPES = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "float": "fp32",
}
_METHODS = {
    **{"fp8": "fp8", "fbgemm_fp8": "fp8", "ptpc_fp8": "fp8", "mxfp4": "mxfp4", "mxfp8": "mxfp8"},
    **{"gpt_oss_mxfp4": "mxfp4", "nvfp4": "nvfp4", "int8": "int8", "int4": "int4"},
}
_ALGORITHMS = {
    **{"fp8": "fp8", "fp8_per_channel_per_token": "fp8", "fp8_pb_wo": "fp8_block"},
    **{"fp8_pb_real": "fp8_block", "mxfp8": "mxfp8", "nvfp4": "nvfp4", "w4a16_nvfp4": "nvfp4"},
    **{
        "nvfp4_awq": "nvfp4",
        "w4a8_nvfp4_fp8": "nvfp4",
        "mxfp4": "mxfp4",
        "w4a8_mxfp4_fp8": "mxfp4",
    },
    **{"int4_awq": "int4", "w4a16_awq": "int4", "w4a16": "int4", "w4a8_awq": "int4"},
    **{"w8a8_sq": "int8", "w8a16": "int8", "int8": "int8"},
}
"""Names of ``quant_algo`` in NVIDIA's Model Optimizer and TensorRT-LLM."""

Rule = tuple[Match, str, float]
"""Modules, and the type and bytes of a weight of theirs."""


def with_stored_types(arch: Architecture, fields: Fields) -> Architecture:
    """The architecture with the weight types that its description states.

    Raises ArchitectureError for a type or a method that is not known.
    """
    whole = _sixteen_bits(fields)
    described = fields.section("quantization_config")
    if not described:
        return arch.with_dtype(whole)
    sizes = _part_types(described, arch, whole, fields.where)
    dtype = _main_type(arch, sizes)
    arch = arch.with_dtype(dtype)
    stored = WeightBytes(**{part: size for part, (size, _) in sizes.items()})
    alike = all(size == DTYPE_BYTES[dtype] for size, _ in sizes.values())
    cache = _cache_type(described)
    return dataclasses.replace(arch, stored=None if alike else stored, kv_dtype=cache)


def _sixteen_bits(fields: Fields) -> str:
    """The type of what is not quantised."""
    raw = str(fields.get("torch_dtype", "dtype") or "bfloat16").removeprefix("torch.")
    dtype = _DTYPES.get(raw, raw)
    if dtype not in DTYPE_BYTES:
        raise ArchitectureError(
            f"{fields.where}: weight type {shown(raw)} is not known (known: {', '.join(DTYPE_BYTES)})"
        )
    return dtype


def _main_type(arch: Architecture, sizes: Mapping[str, tuple[float, str]]) -> str:
    """The type of most weights: of the experts where there are some."""
    return sizes["experts" if arch.experts else "mlp"][1]


def _part_types(
    described: Mapping[str, Any], arch: Architecture, whole: str, where: str
) -> dict[str, tuple[float, str]]:
    """Mean bytes of a weight, and the type of most of them, for each part."""
    rules = _rules(described, where)
    left_out = matcher(_left_out(described))
    found = {}
    for part, modules in modules_of(arch).items():
        sizes: dict[str, float] = {whole: DTYPE_BYTES[whole]}
        count: dict[str, int] = {}
        for layer in range(arch.num_layers):
            names = [f"layers.{layer}.{module}" for module in modules]
            dtype, size = _type_of(names, rules, left_out, whole)
            sizes[dtype] = size
            count[dtype] = count.get(dtype, 0) + 1
        count = {dtype: n for dtype, n in count.items() if dtype} or {whole: 1}
        mean = sum(sizes[dtype] * n for dtype, n in count.items()) / sum(count.values())
        found[part] = (mean, max(count, key=lambda dtype: count[dtype]))
    return found


def _type_of(
    names: Sequence[str], rules: Sequence[Rule], left_out: Match, whole: str
) -> tuple[str, float]:
    """Type and bytes of the modules of one part of one layer; no type where nothing names them."""
    if any(map(left_out, names)):
        return whole, DTYPE_BYTES[whole]
    for match, dtype, size in rules:
        if any(map(match, names)):
            return dtype, size
    return "", 0.0


def _rules(described: Mapping[str, Any], where: str) -> list[Rule]:
    """Which modules are stored in which type, the first that fits counts."""
    algorithm = str(described.get("quant_algo") or "").lower()
    named = described.get("quantized_layers")
    if algorithm == "mixed_precision" and isinstance(named, Mapping) and named:
        return _layer_rules(named, where)
    groups = described.get("config_groups")
    if isinstance(groups, Mapping) and groups:
        return _group_rules(groups, described, where)
    dtype, size = _whole_type(described, where)
    return [(_everything, dtype, size)]


def _layer_rules(named: Mapping[str, Any], where: str) -> list[Rule]:
    """Of a list that names every module with its type."""
    modules: dict[str, list[str]] = {}
    for name, layer in named.items():
        modules.setdefault(_algorithm(_entry(layer, "quant_algo"), where), []).append(name)
    return [(matcher(names), dtype, DTYPE_BYTES[dtype]) for dtype, names in modules.items()]


def _group_rules(groups: Mapping[str, Any], described: Mapping[str, Any], where: str) -> list[Rule]:
    rules: list[Rule] = []
    for group in groups.values():
        weights = _entry(group, "weights")
        if not isinstance(weights, Mapping):
            continue
        layout = str(_entry(group, "format") or described.get("format") or "")
        dtype, size = _number_type(weights, layout, where)
        targets = _entry(group, "targets")
        names = [t for t in targets if isinstance(t, str)] if isinstance(targets, list) else []
        if not names or "Linear" in names:
            rules.append((_everything, dtype, size))
        else:
            rules.append((matcher(names), dtype, size))
    if not rules:
        raise ArchitectureError(f"{where}: config_groups of quantization_config names no weights")
    return rules


def _whole_type(described: Mapping[str, Any], where: str) -> tuple[str, float]:
    """The one type of all that is quantised, and its bytes a weight."""
    method = str(described.get("quant_method") or "").lower()
    algorithm = described.get("quant_algo")
    if algorithm:
        dtype = _algorithm(algorithm, where)
        return dtype, DTYPE_BYTES[dtype]
    if method == "quark":
        return _quark(described, where)
    dtype = _METHODS.get(method) or _by_bits(described, method, where)
    if dtype == "fp8" and described.get("weight_block_size"):
        dtype = "fp8_block"
    return dtype, _grouped_bytes(dtype, described.get("group_size"))


def _by_bits(described: Mapping[str, Any], method: str, where: str) -> str:
    """The type of methods that state the number of bits."""
    bits = described.get("bits") or described.get("w_bit")
    if method == "bitsandbytes":
        bits = 8 if described.get("load_in_8bit") else 4 if described.get("load_in_4bit") else bits
    known = ("awq", "gptq", "bitsandbytes", "auto-round", "auto_round", "autoround", "gptq_marlin")
    if method.removeprefix("intel/") in known and (bits or 4) in (4, 8):
        return f"int{bits or 4}"
    raise ArchitectureError(
        f"{where}: quantization method {method!r} is not known here; give the weight type in the dtype column, "
        "or with --dtype"
    )


def _algorithm(name: object, where: str) -> str:
    dtype = _ALGORITHMS.get(str(name or "").lower())
    if dtype is None:
        raise ArchitectureError(
            f"{where}: quant_algo {shown(name)} is not known here; give the weight type in the dtype column, "
            "or with --dtype"
        )
    return dtype


def _number_type(weights: Mapping[str, Any], layout: str, where: str) -> tuple[str, float]:
    """The type of a group of compressed-tensors or Model Optimizer: bits, kind of number, group of a scale."""
    bits, kind = weights.get("num_bits"), weights.get("type", "int")
    group = weights.get("group_size")
    if (bits, kind) == (8, "float"):
        strategy = weights.get("strategy")
        dtype = "fp8_block" if strategy == "block" else "mxfp8" if group == 32 else "fp8"
        return dtype, DTYPE_BYTES[dtype]
    if (bits, kind) == (4, "float"):
        dtype = "mxfp4" if group == 32 or layout.startswith("mxfp4") else "nvfp4"
        return dtype, DTYPE_BYTES[dtype]
    if kind == "int" and bits in (4, 8):
        dtype = f"int{bits}"
        return dtype, _grouped_bytes(dtype, group)
    raise ArchitectureError(
        f"{where}: weights of {shown(bits)} bits ({shown(kind)}) are not known here; give the weight type in the "
        "dtype column, or with --dtype"
    )


def _quark(described: Mapping[str, Any], where: str) -> tuple[str, float]:
    """AMD's Quark: the type of ``global_quant_config``."""
    weight = _entry(described.get("global_quant_config"), "weight")
    weight = weight[0] if isinstance(weight, list) and weight else weight
    name = str(_entry(weight, "dtype") or "").lower()
    for start, dtype in (("fp8", "fp8"), ("fp4", "mxfp4"), ("int4", "int4"), ("int8", "int8")):
        if name.startswith(start):
            return dtype, _grouped_bytes(dtype, _entry(weight, "group_size"))
    raise ArchitectureError(
        f"{where}: quark's weight type {name!r} is not known here; give it in the dtype column, or with --dtype"
    )


def _grouped_bytes(dtype: str, group: object) -> float:
    """Bytes of a weight with its share of the 16-bit scale of each group."""
    is_size = isinstance(group, int) and not isinstance(group, bool) and group > 0
    if dtype in ("int4", "int8") and is_size:
        return {"int4": 0.5, "int8": 1.0}[dtype] + 2.0 / group  # type: ignore[operator]  # an int
    return DTYPE_BYTES[dtype]


def _cache_type(described: Mapping[str, Any]) -> str:
    """The type of the cache that the checkpoint asks for; empty where it says nothing."""
    scheme = described.get("kv_cache_scheme") or described.get("kv_cache_quant_algo")
    if isinstance(scheme, Mapping):
        return "fp8" if scheme.get("num_bits") == 8 else ""
    return "fp8" if str(scheme).lower() == "fp8" else ""


def _left_out(described: Mapping[str, Any]) -> list[str]:
    """Modules that are not quantised."""
    names = ("modules_to_not_convert", "ignore", "exclude_modules", "exclude", "ignored_layers")
    listed = [entry for name in names for entry in _list(described.get(name))]
    return [entry for entry in listed if isinstance(entry, str)]


def _everything(name: str) -> bool:  # noqa: ARG001 - whatever it is
    return True


def _entry(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()
