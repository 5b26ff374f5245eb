"""The registry of known models, and files of others."""

import dataclasses
import functools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.architecture import Architecture
from sim.architecture_files.description import architecture_of
from sim.architecture_files.generation import sampling_of
from sim.errors import ArchitectureError, UnknownModelError
from sim.text_files import ContentError, read_json

_REGISTRY = Path(__file__).parent.parent / "architectures"

_TYPE_IN_NAME = {
    **{"fp8": "fp8", "fp8-dynamic": "fp8", "fp8-kv": "fp8", "fp8-block": "fp8_block"},
    **{"nvfp4": "nvfp4", "fp4": "nvfp4", "mxfp4": "mxfp4", "awq": "int4", "gptq": "int4"},
    **{"int4": "int4", "awq-int4": "int4", "gptq-int4": "int4", "w4a16": "int4", "4bit": "int4"},
    **{"int8": "int8", "w8a8": "int8", "gptq-int8": "int8", "w8a16": "int8", "bf16": "bf16"},
}
"""Ends of repositories' names that say the weight type."""


def load_architecture(
    source: str | Path | Mapping[str, Any], dtype: str | None = None
) -> Architecture:
    """Load a model: a registry name or alias, a path (a ``config.json`` or its folder), or a dict.

    With ``dtype`` its weights are of that type, whatever the description says. Raises ArchitectureError, with the
    nearest known name, the file and the field, if that fails.
    """
    if not isinstance(source, Mapping):
        return _load_named(str(source), dtype or None)
    name = str(source.get("_name_or_path") or "model")
    return architecture_of(source, name, "the given dict", dtype)


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
def _load_named(source: str, dtype: str | None) -> Architecture:
    name = _aliases().get(source.strip().lower())
    if name is not None:
        entry = json.loads((_REGISTRY / f"{name}.json").read_text(encoding="utf-8"))
        arch = architecture_of(entry["config"], name, f"registry entry {name}", dtype)
        return dataclasses.replace(arch, sampling=sampling_of(entry.get("sampling", {}), name))
    path = Path(source)
    file = path / "config.json" if os.path.isdir(path) else path  # noqa: PTH112 - as below
    if not os.path.isfile(file):  # noqa: PTH113 - a name that no file can have is not one, and no error
        raise UnknownModelError(source, _aliases(), _type_in_name(source))
    config = _read(file)
    beside = file.with_name(file.name.removesuffix("config.json") + "hf_quant_config.json")
    if file.name.endswith("config.json") and beside != file and beside.is_file():
        config = {"quantization_config": _read(beside).get("quantization"), **config}
    own = file.name.removesuffix(".json").removesuffix("config").rstrip("_-.")
    arch = architecture_of(config, own or file.parent.name, str(file), dtype)
    generation = file.with_name("generation_config.json")
    if file.name != "config.json" or not generation.is_file():
        return arch
    return dataclasses.replace(arch, sampling=sampling_of(_read(generation), str(generation)))


def _type_in_name(source: str) -> str:
    """A hint for the name of a known model, of whatever maker, with a weight type at its end."""
    tails = {alias.rpartition("/")[2]: name for alias, name in _aliases().items()}
    asked = source.strip().lower().rpartition("/")[2]
    for separator in re.finditer("[-_.]", asked):
        known = tails.get(asked[: separator.start()])
        dtype = _TYPE_IN_NAME.get(asked[separator.end() :].replace("_", "-"))
        if known and dtype:
            return f" (did you mean {known!r} with the weight type (dtype) {dtype}?)"
    return ""


def _read(file: Path) -> dict[str, Any]:
    try:
        config = read_json(file)
    except OSError as error:
        raise ArchitectureError(f"{file}: cannot be read: {error.strerror}") from error
    except ContentError as error:
        raise ArchitectureError(error.at(file)) from error
    if not isinstance(config, dict):
        raise ArchitectureError(f"{file}: a model description must be a JSON object")
    return config


@functools.cache
def _aliases() -> dict[str, str]:
    index = {}
    for name, aliases in architecture_names().items():
        index.update({alias.lower(): name for alias in (name, *aliases)})
    return index
