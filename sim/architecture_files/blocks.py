"""Models whose layers are blocks of single kinds (Nemotron-H), or pruned one by one (Nemotron-NAS)."""

from collections.abc import Mapping
from typing import Any

from sim.architecture import Architecture, LayerGroup
from sim.architecture.attention import GroupedAttention, Mamba
from sim.architecture_files.fields import Fields, whole
from sim.errors import ArchitectureError

_BLOCKS = {
    **{"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"},
    **{name: name for name in ("mamba", "attention", "mlp", "moe")},
}
_NAS_MULTIPLE = 256  # widths of pruned MLPs are rounded up to it


def single_blocks(fields: Fields, flat: Architecture) -> list[LayerGroup]:
    """Layers that are attention, Mamba, an MLP or experts alone: ``M``, ``*``, ``-`` and ``E`` of the pattern."""
    name = "layers_block_type" if fields.get("layers_block_type") else "hybrid_override_pattern"
    pattern = fields.sequence(name, flat.num_layers)
    unknown = [entry for entry in pattern if not isinstance(entry, str) or entry not in _BLOCKS]
    if unknown or fields.text("model_type") not in ("nemotron_h", ""):
        raise fields.refuse(name, "blocks put together in a way that is not known here")
    return [_block(_BLOCKS[entry], fields, flat) for entry in pattern]


def _block(kind: str, fields: Fields, flat: Architecture) -> LayerGroup:
    matrices = flat.num_mlp_matrices
    if kind == "mamba":
        return LayerGroup(1, _mamba(fields), 0, None, matrices)
    if kind == "attention":
        attention = GroupedAttention(flat.num_heads, flat.kv_heads, flat.true_head_dim)
        return LayerGroup(1, attention, 0, None, matrices)
    if kind == "mlp":
        return LayerGroup(1, None, flat.mlp_size, None, matrices)
    if flat.experts is None:
        raise ArchitectureError(f"{fields.where}: layers of experts without a number of experts")
    return LayerGroup(1, None, 0, flat.experts, matrices)


def _mamba(fields: Fields) -> Mamba:
    return Mamba(
        heads=fields.integer("mamba_num_heads"),
        head_dim=fields.integer("mamba_head_dim"),
        state_size=fields.integer("ssm_state_size"),
        groups=fields.integer("n_groups"),
        convolution=fields.integer("conv_kernel", default=0),
    )


def pruned_blocks(fields: Fields, flat: Architecture) -> list[LayerGroup]:
    """Layers with their own key/value heads and MLP width, or without one of the two."""
    blocks = fields.sequence("block_configs", flat.num_layers)
    return [_pruned(block, flat, f"{fields.where}: block_configs") for block in blocks]


def _pruned(block: object, flat: Architecture, where: str) -> LayerGroup:
    attention = _section(block, "attention", where)
    mlp = _section(block, "ffn", where)
    for part in (attention, mlp):
        for name in ("replace_with_linear", "sparsify", "window_length"):
            if part.get(name):
                raise ArchitectureError(f"{where}: {name} in a block is not known here")
    return LayerGroup(
        1, _pruned_attention(attention, flat, where), _pruned_mlp(mlp, flat, where), None
    )


def _pruned_attention(
    part: Mapping[str, Any], flat: Architecture, where: str
) -> GroupedAttention | None:
    if part.get("no_op"):
        return None
    grouped = whole(part.get("n_heads_in_group") or 1, f"{where}: n_heads_in_group")
    heads = flat.num_heads
    return GroupedAttention(heads, heads // max(grouped, 1), flat.true_head_dim)


def _pruned_mlp(part: Mapping[str, Any], flat: Architecture, where: str) -> int:
    if part.get("no_op"):
        return 0
    if part.get("intermediate_size"):
        return whole(part["intermediate_size"], f"{where}: intermediate_size")
    factor = part.get("ffn_mult")
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < 100:
        raise ArchitectureError(f"{where}: ffn_mult must be a positive number, got {factor!r}")
    width = int(2 * factor * flat.hidden_size / 3)
    return -(-width // _NAS_MULTIPLE) * _NAS_MULTIPLE


def _section(block: object, name: str, where: str) -> Mapping[str, Any]:
    part = block.get(name) if isinstance(block, Mapping) else None
    if not isinstance(part, Mapping):
        raise ArchitectureError(f"{where}: a block has no {name}")
    return part
