"""The fields of a ``config.json``: read under each of their names, and none passed over that shapes the layers."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sim.errors import ArchitectureError

_REQUIRED = -1

_STRUCTURAL = re.compile(
    r"""mamba|ssm|(^|_)linear_(attn|attention|conv|key|num|value)|rwkv|hyena|retention|recurrent|lru_|
        compress_ratio|sparse|(^|_)index_(topk|n_heads|head_dim)|indexer_types|block_configs|
        hybrid|layers?_block_type|block_types|attn_layer|expert_layer|layer_types|attn_type|
        attention_type|cross_attention_layers|attention_chunk|(^|_)sliding_window|window_pattern|
        lora_rank|per_layer_input$|num_kv_shared|double_wide|global_head_dim|num_global_key|
        interleave_moe|moe_layer|moe_latent|moe_block|mlp_only|mlp_layer_types|decoder_sparse|
        first_k_dense|num_dense_layers|swa_|res_block|routed_expert_hidden|expert_hidden|hc_mult|
        hash_layers|engram|attention_other_setting|head_wise_attn""",
    re.VERBOSE,
)
"""Names of fields that say how layers are built. One that was not read and says something is refused."""

_HARMLESS = re.compile(
    r"^mtp_|^use_mamba_kernels$|_hidden_act$|_dtype$|_bias$|_rope_theta$|^index_topk_freq$|"
    r"^vocab_size_per_layer_input$"
)
"""Of those names, the ones that change no count: of draft layers, kernels, types of states and the like."""


class Fields:
    """The fields of one description; ``where`` names the file in messages. It knows which were read.

    ``left_out`` has what fields mean that are not there under any of their names; null is there.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        where: str,
        left_out: Mapping[str, int | bool] | None = None,
    ) -> None:
        self._config = config
        self._left_out = left_out or {}
        self._read: set[str] = set()
        self.where = where

    def get(self, *names: str) -> Any:
        """The first of these fields that is there and not null, as it is; None without one."""
        return self._first(names)[1]

    def text(self, name: str) -> str:
        """A field as text, lower case; empty where it is not there. Raises ArchitectureError for another kind."""
        value = self.get(name)
        if value is not None and not isinstance(value, str):
            raise ArchitectureError(f"{self.where}: {name} must be text, got {shown(value)}")
        return (value or "").lower()

    def section(self, name: str) -> Mapping[str, Any]:
        """A field that holds fields; empty where it is not there."""
        value = self.get(name)
        if value is not None and not isinstance(value, Mapping):
            raise ArchitectureError(
                f"{self.where}: {name} must hold named fields, got {shown(value)}"
            )
        return value or {}

    def integer(self, *names: str, default: int = _REQUIRED) -> int:
        """A count, under the first of these names that is there. Raises ArchitectureError for what is none."""
        name, value = self._first(names)
        if value is None and default == _REQUIRED:
            others = f" (or {', '.join(names[1:])})" if names[1:] else ""
            raise ArchitectureError(f"{self.where}: the field {names[0]!r} is missing{others}")
        if value is None:
            return default
        number = whole(value, f"{self.where}: {name}")
        if number == 0 and default == _REQUIRED:
            raise ArchitectureError(f"{self.where}: {name} must be positive, got 0")
        return number

    def _first(self, names: Sequence[str]) -> tuple[str, Any]:
        """The first of these fields that says something: in the description, else by what it leaves out."""
        self._read.update(names)
        there = any(name in self._config for name in names)
        source = self._config if there else self._left_out
        return next(((n, v) for n in names if (v := source.get(n)) is not None), (names[0], None))

    def sequence(self, name: str, length: int | None = None) -> Sequence[Any]:
        """A list, of one entry a layer where ``length`` is given; empty where it is not there."""
        value = self.get(name)
        if value is None:
            return ()
        if not isinstance(value, list | tuple | str):
            raise ArchitectureError(f"{self.where}: {name} must be a list, got {shown(value)}")
        if length is not None and len(value) != length:
            raise ArchitectureError(
                f"{self.where}: {name} has {len(value)} entries for {length} layers"
            )
        return value

    def refuse(self, name: str, why: str) -> ArchitectureError:
        """An error about a field that says what cannot be counted."""
        return ArchitectureError(
            f"{self.where}: {name} says {shown(self._config.get(name))}: {why}"
        )

    def check_all_read(self) -> None:
        """Raise ArchitectureError for a field that shapes the layers and was not read."""
        for name, value in self._config.items():
            known = name in self._read or not isinstance(name, str) or _HARMLESS.search(name)
            if known or not _STRUCTURAL.search(name) or _says_nothing(value):
                continue
            raise self.refuse(
                name, "layers built in a way that is not known here, so nothing of it is counted"
            )


def _says_nothing(value: object) -> bool:
    return value is None or value is False or value in (0, "", [], {})


def whole(value: object, what: str) -> int:
    """A non-negative whole number. Raises ArchitectureError for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or value % 1 != 0 or value < 0:  # type: ignore[operator]  # a number by now
        raise ArchitectureError(f"{what} must be a non-negative whole number, got {shown(value)}")
    if value > _LARGEST:  # type: ignore[operator]
        raise ArchitectureError(f"{what} is too large, above {_LARGEST:g}: correct it")
    return int(value)  # type: ignore[call-overload,no-any-return]


_LARGEST = 1e12


def shown(value: object) -> str:
    """A value as a message shows it, shortened."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}…"
