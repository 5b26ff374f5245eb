"""Families of models, by ``model_type``: whether their layers are known, and what their files leave out."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.architecture_files.fields import shown
from sim.errors import ArchitectureError

_FILE = Path(__file__).with_name("families.json")
_LEFT_OUT = frozenset(
    {
        *("tie_word_embeddings", "head_dim", "num_key_value_heads", "sliding_window"),
        *("multi_query", "new_decoder_architecture", "attn_output_gate"),
    }
)
"""Fields that a whole file leaves out where they are as its class has them. A section leaves out any such field."""


@dataclasses.dataclass(frozen=True)
class Family:
    """``mlp_matrices``: 3 for a gated MLP, 2 for a plain one. ``defaults``: what its class in transformers has."""

    mlp_matrices: int = 3
    defaults: Mapping[str, int | bool] = dataclasses.field(default_factory=dict)

    def left_out(self, *, section: bool) -> Mapping[str, int | bool]:
        """What a field means that is not there: of a section of a larger description, or of a whole file."""
        if section:
            return self.defaults
        return {name: value for name, value in self.defaults.items() if name in _LEFT_OUT}


def family_of(model_type: object, where: str) -> Family:
    """The family of a ``model_type``; a gated MLP and no defaults where the description names none.

    Raises ArchitectureError for one whose layers are not known to be counted right.
    """
    if not model_type:
        return Family()
    if not isinstance(model_type, str):
        raise ArchitectureError(f"{where}: model_type must be text, got {shown(model_type)}")
    known = _families()
    entry = known.get(model_type.lower())
    if entry is None:
        raise ArchitectureError(
            f"{where}: model_type says {shown(model_type)}: how its layers are built is not known here, so nothing "
            f"of it is counted; if as those of another family ({', '.join(_EXAMPLES)} …), name that one in a copy"
        )
    entry = known[entry["text"]] if "text" in entry else entry
    return Family(entry.get("mlp_matrices", 3), entry.get("defaults", {}))


_EXAMPLES = ("llama", "qwen3_moe", "deepseek_v3")


@functools.cache
def _families() -> Mapping[str, Mapping[str, Any]]:
    families: Mapping[str, Mapping[str, Any]] = json.loads(_FILE.read_text(encoding="utf-8"))[
        "families"
    ]
    return families
