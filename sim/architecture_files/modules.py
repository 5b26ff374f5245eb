"""Modules of a checkpoint: by which names parts of layers go, and what quantisers' patterns mean by them."""

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence

from sim.architecture import Architecture

Match = Callable[[str], bool]

_PARTS = {
    "attention": (
        *("self_attn.q_proj", "self_attn.o_proj", "self_attn.q_b_proj", "self_attn.kv_b_proj"),
        *("linear_attn.out_proj", "attn.o_proj", "mixer.in_proj", "mixer.q_proj", "mixer.o_proj"),
    ),
    "mlp": ("mlp.down_proj", "mlp.up_proj", "feed_forward.down_proj"),
    "shared_experts": (
        *("mlp.shared_experts.down_proj", "mlp.shared_expert.down_proj"),
        *("ffn.shared_experts.w2", "mixer.shared_experts.down_proj"),
    ),
    "experts": (
        *("mlp.experts.0.down_proj", "mlp.experts.down_proj", "block_sparse_moe.experts.0.w2"),
        *("experts.down_proj", "moe.experts.0.down_proj", "mixer.experts.0.down_proj"),
    ),
}
"""Modules of a layer by which each of its parts is recognised."""


def modules_of(arch: Architecture) -> Mapping[str, Sequence[str]]:
    """Modules of a layer by part; experts beside an MLP are not below it."""
    if not any(group.mlp_size and group.experts for group in arch.layer_groups):
        return _PARTS
    experts = [name for name in _PARTS["experts"] if not name.startswith("mlp.")]
    return {**_PARTS, "experts": experts}


def matcher(patterns: Sequence[str]) -> Match:
    """Whether a module ``layers.<n>.…`` is, or is part of, what one of the patterns means.

    Patterns are regular expressions after ``re:``, shell patterns with ``*``, else names of a module or a part of one.
    """
    expressions, names = [], set()
    for pattern in dict.fromkeys(patterns):
        start = pattern.find("layers.")
        name = pattern[start:] if start >= 0 else pattern
        if pattern.startswith("re:"):
            expressions += [pattern[3:]] if _is_expression(pattern[3:]) else []
        elif "*" in name:
            expressions.append(_shell_expression(name))
        else:
            names.add(name)
    compiled = re.compile("|".join(f"(?:{text})" for text in expressions) or "(?!)")

    def matches(module: str) -> bool:
        parts = module.split(".")
        above = (".".join(parts[:n]) for n in range(1, len(parts) + 1))
        named = not names.isdisjoint(parts) or not names.isdisjoint(above)
        return named or compiled.match(f"model.{module}") is not None

    return matches


def _shell_expression(name: str) -> str:
    """A shell pattern for a module, and for all below it, as a regular expression for ``model.layers.<n>.…``."""
    shell = fnmatch.translate(name.removesuffix("*")).removesuffix(r"\Z")
    end = ".*" if name.endswith("*") else r"(?:\..*)?"
    return rf"(?:model\.)?{shell}{end}\Z"


def _is_expression(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True
