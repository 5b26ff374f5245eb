"""Which model of the registry a client, a configuration or a log means by the name it calls its model."""

import functools
import re

from calibrate.importers.run_folder import Row
from sim.architecture_files import architecture_names, canonical_model

_SEPARATOR = re.compile(r"[/\\]")
_HUB_CACHE = re.compile(r"(?:^|[/\\])models--([^/\\]+?)--([^/\\]+)")
_DOT_IN_MODELSCOPE = "___"
_JOINS = ("--", "__", "_", "-")


def named_model(name: str, column: str = "model_in_client") -> Row:
    """The columns ``model``, where the registry knows the name, and ``column``, which holds who calls it so.

    A path (``/models/Llama-3.1-8B-Instruct``), or a name without its maker, is known by its end if that is one
    model's; ``column`` is then that model's full name, not a folder of some machine. So is a folder of the Hugging
    Face cache (``models--maker--model/snapshots/…``), one of ModelScope's (``___`` for a dot), and a folder that
    joins maker and model (``maker_model``).
    """
    if cached := _HUB_CACHE.search(name):
        name = f"{cached[1]}/{cached[2]}"
    name = name.replace(_DOT_IN_MODELSCOPE, ".")
    if is_known(canonical_model(name)):
        return {"model": canonical_model(name), column: name}
    parts = [part for part in _SEPARATOR.split(name.strip()) if part]
    # maker/model: another maker's model
    is_name = len(parts) == 2 and not name.startswith(("/", "\\", ".", "~"))
    ends = _by_end().get(parts[-1].lower(), {}) if parts and not is_name else {}
    if len(ends) != 1:
        return {column: name}
    ((model, full),) = ends.items()
    return {"model": model, column: full}


def is_known(model: str) -> bool:
    """Whether the registry has a model of that name; quick, for the thousands of results that a folder may hold."""
    return model in _known()


@functools.cache
def _known() -> frozenset[str]:
    return frozenset(architecture_names())


@functools.cache
def _by_end() -> dict[str, dict[str, str]]:
    """For every last part of a name in the registry, and for its maker and model joined, the models it may be.

    Each model comes with its full name.
    """
    ends: dict[str, dict[str, str]] = {}
    for model, aliases in architecture_names().items():
        for full in (model, *aliases):
            for end in (full.rsplit("/", 1)[-1], *(full.replace("/", join) for join in _JOINS)):
                ends.setdefault(end.lower(), {})[model] = full
    return ends
