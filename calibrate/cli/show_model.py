"""``calibrate show model``: what a model stores and computes, and what of it no latency model has a term for."""

from typing import TYPE_CHECKING, Any

from calibrate.cli.console import number, print_json, stdout, table

if TYPE_CHECKING:
    from sim.architecture import Architecture, LayerGroup


def show_model(source: str, dtype: str | None, *, json: bool) -> None:
    """Describe a registry model, a folder with a ``config.json``, or such a file. Raises ArchitectureError."""
    from sim.architecture_files import load_architecture

    arch = load_architecture(source, dtype)
    described = describe(arch)
    if json:
        print_json(described)
    else:
        _print(described)


def describe(arch: "Architecture") -> dict[str, Any]:
    """Parameters, bytes and kinds of layers of a model; ``kv_bytes_per_token`` is of a 16-bit cache."""
    return {
        "name": arch.name,
        "total_params": arch.total_params,
        "active_params": arch.active_params,
        "weight_bytes": arch.weight_bytes,
        "weight_bytes_16_bit": 2.0 * arch.total_params,
        "kv_bytes_per_token": arch.kv_bytes_per_token(),
        "kv_bytes_per_token_stored": arch.kv_bytes_per_token(bytes_per_value=_cache_bytes(arch)),
        "state_bytes_per_request": arch.state_bytes,
        "layers": [_layers(group) for group in arch.layer_groups],
        "dtype": arch.dtype,
        "kv_dtype": arch.kv_dtype or "bf16",
        "multimodal": arch.multimodal,
        "not_modelled": _not_modelled(arch),
        "latency_models": _latency_models(arch),
    }


def _cache_bytes(arch: "Architecture") -> float:
    from sim.units import DTYPE_BYTES

    return DTYPE_BYTES[arch.kv_dtype or "bf16"]


def _not_modelled(arch: "Architecture") -> list[str]:
    encoders = ["encoders of images or sound (not counted)"] if arch.multimodal else []
    windows = [f"{text}: longer contexts" for text in arch.windows]
    return [*windows, *arch.not_modelled, *encoders]


def _latency_models(arch: "Architecture") -> dict[str, str]:
    """Why each latency model that needs no benchmarks cannot compute the model; empty where it can."""
    from sim.errors import ArchitectureError
    from sim.models.registry import configured_models, latency_model

    reasons = {}
    for name in configured_models():
        try:
            latency_model(name).limits(arch)
            reasons[name] = ""
        except ArchitectureError as error:
            reasons[name] = str(error)
    return reasons


def _beyond_window(arch_window: int, names: list[str]) -> str:
    from sim.models.registry import LATENCY_MODELS

    able = [name for name in names if LATENCY_MODELS[name].counts_windows]
    return f"contexts beyond {arch_window:,} tokens: {', '.join(able) or 'by none'}"


def _layers(group: "LayerGroup") -> dict[str, Any]:
    attention, experts = group.attention, group.experts
    return {
        "count": group.count,
        "attention": (attention.peculiarity or "full attention") if attention else "none",
        "window": (attention.width or None) if attention else None,
        "kv_bytes_per_token": attention.cache_bytes_per_token(1, 2.0) if attention else 0.0,
        "state_bytes_per_request": attention.state_bytes if attention else 0.0,
        "mlp_size": group.mlp_size,
        "experts": experts.num_experts if experts else 0,
        "experts_per_token": experts.experts_per_token if experts else 0,
        "expert_size": experts.intermediate_size if experts else 0,
        "shared_expert_size": experts.shared_intermediate_size if experts else 0,
    }


def _print(described: dict[str, Any]) -> None:
    console = stdout()
    rows = table(described["name"], ["", "value"], ["value"])
    rows.show_header = False
    rows.add_row("parameters", f"{described['total_params'] / 1e9:.2f} B")
    rows.add_row("of which serve one token", f"{described['active_params'] / 1e9:.2f} B")
    rows.add_row(f"weights as stored ({described['dtype']})", _gb(described["weight_bytes"]))
    rows.add_row("weights in 16 bits", _gb(described["weight_bytes_16_bit"]))
    rows.add_row("a cached token in 16 bits", _kib(described["kv_bytes_per_token"]))
    if described["kv_dtype"] not in ("bf16", "fp16"):
        label = f"a cached token as the checkpoint asks ({described['kv_dtype']})"
        rows.add_row(label, _kib(described["kv_bytes_per_token_stored"]))
    if described["state_bytes_per_request"]:
        rows.add_row("state of a request", _kib(described["state_bytes_per_request"]))
    able = [name for name, reason in described["latency_models"].items() if not reason]
    rows.add_row("computed by", "\n".join(able) or "none")
    console.print(rows)
    _print_layers(described["layers"])
    windows = [group["window"] for group in described["layers"] if group["window"]]
    if able and windows:
        console.print(f"! {_beyond_window(min(windows), able)}", markup=False)
    for reason in described["latency_models"].values():
        if reason:
            console.print(f"! {reason}", markup=False)
    if described["multimodal"]:
        console.print("! encoders of images or sound are not counted", markup=False)


def _print_layers(layers: list[dict[str, Any]]) -> None:
    columns = ["layers", "attention", "MLP", "experts", "of them", "each", "shared"]
    rows = table("Layers", columns, [columns[0], *columns[2:]])
    for group in layers:
        sizes = ("mlp_size", "experts", "experts_per_token", "expert_size", "shared_expert_size")
        cells = (f"{group[name]:,}" if group[name] else "–" for name in sizes)
        rows.add_row(str(group["count"]), group["attention"], *cells)
    stdout().print(rows)


def _gb(size_bytes: float) -> str:
    return f"{number(size_bytes / 1e9)} GB"


def _kib(size_bytes: float) -> str:
    from sim.units import BYTES_PER_KIB

    return f"{number(size_bytes / BYTES_PER_KIB)} KiB"
