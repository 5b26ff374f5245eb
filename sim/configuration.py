"""Hardware configurations: the block of one GPU in a ``hardware_config.json``."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.errors import HardwareError
from sim.hardware import Hardware, find_gpu, nearest_gpu
from sim.models.latency_model import PEAKS
from sim.models.registry import PARAMETERS
from sim.text_files import ContentError, read_json

SPECIFICATIONS = ("TFlopsFP8", "TFlopsFP4", "MemoryGiB", "IntraNodeBwGBps", "InterNodeBwGBps")

ENGINES = "engines"
"""The key of a GPU's block that holds what was found on servers of each engine; other tools pass it over."""

MODELS = "models"
"""The key of an engine's entry that lists the models that its servers served: shares of peaks are those of them."""

TRANSFERRED = "transferred"
"""The key of a GPU's block that says which of its values are other GPUs', with intervals; likewise."""

_SMALLEST, _LARGEST = 1e-30, 1e30
"""What any value lies between, so that products of a few stay numbers."""


Interval = tuple[float, float]


def configuration_keys() -> tuple[str, ...]:
    """Keys with a meaning, in their usual spelling; files match them without regard to case."""
    return (*PEAKS, *PARAMETERS, *SPECIFICATIONS)


def load_hardware(source: str | Path | Mapping[str, Any], gpu: str | None = None) -> Hardware:
    """Load one GPU's block from a JSON file, from a dict of blocks, or from a dict that is the block itself.

    ``gpu`` matches without regard to case and by alias (``A100-80`` finds ``A100-SXM``); it may be left out
    where there is only one. Raises HardwareError naming the file, the GPU, the key and the fix.
    """
    if isinstance(source, Mapping):
        blocks, where = source, "the given dict"
        if not any(isinstance(block, Mapping) for block in source.values()):
            blocks = {gpu or "GPU": source}
    else:
        blocks, where = read_config(source), str(source)
    name = find_gpu(gpu, blocks) if gpu is not None else _only(blocks, where)
    if name is None:
        raise HardwareError(
            f"{where}: no GPU {gpu!r} (it has {', '.join(blocks) or 'none'}){nearest_gpu(str(gpu), blocks)}"
        )
    block = blocks[name]
    values = read_block(block, name, where)
    return Hardware(
        name, values, where, read_engines(block, name, where), read_served(block, name, where)
    )


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a hardware configuration file: a JSON object of GPU blocks, order and key case kept.

    Raises HardwareError if it is missing, not JSON, has a key twice, or holds NaN or infinity.
    """
    try:
        config = read_json(Path(path), strict=True)
    except FileNotFoundError:
        raise HardwareError(f"{path}: no such hardware configuration file") from None
    except OSError as error:
        raise HardwareError(f"{path}: cannot be read: {error.strerror}") from error
    except ContentError as error:
        raise HardwareError(error.at(path)) from error
    if not isinstance(config, dict):
        raise HardwareError(f"{path}: must hold a JSON object with one block per GPU")
    by_lower: dict[str, str] = {}
    for name in config:
        if by_lower.setdefault(name.lower(), name) != name:
            raise HardwareError(f"{path}: has GPU {name} twice (in different case); keep one")
    return config


def read_block(block: object, gpu: str, where: str) -> dict[str, float]:
    """The numbers of one GPU block by canonical key; unknown keys are passed over."""
    if not isinstance(block, Mapping):
        raise HardwareError(f"{where}: the block of GPU {gpu} must be a JSON object, got {block!r}")
    spelling = {key.lower(): key for key in configuration_keys()}
    values: dict[str, float] = {}
    for key, value in block.items():
        canonical = spelling.get(str(key).lower())
        if canonical is None:
            continue
        if canonical in values:
            raise HardwareError(
                f"{where}: GPU {gpu} has {canonical} twice (in different case); keep one"
            )
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not abs(value) <= sys.float_info.max
        ):
            raise HardwareError(f"{where}: GPU {gpu}: {key} must be a valid number, got {value!r}")
        may_be_tiny = canonical in PARAMETERS and PARAMETERS[canonical].is_linear
        least = 0.0 if may_be_tiny else _SMALLEST
        if value and not least <= abs(value) <= _LARGEST:
            raise HardwareError(
                f"{where}: GPU {gpu}: {key} must be from {_SMALLEST:g} to {_LARGEST:g}, "
                f"got {value:g}: correct the unit or the digits"
            )
        if value < 0 and not (canonical in PARAMETERS and PARAMETERS[canonical].is_linear):
            raise HardwareError(f"{where}: GPU {gpu}: {key} must not be negative, got {value!r}")
        values[canonical] = float(value)
    return values


def read_engines(block: Mapping[str, Any], gpu: str, where: str) -> dict[str, dict[str, float]]:
    """The numbers of every engine in one GPU block, by its name; none where the block has no :data:`ENGINES`."""
    return {
        name: read_block(values, f"{gpu}, engine {name}", where)
        for name, values in _engines(block, gpu, where).items()
    }


def read_served(block: Mapping[str, Any], gpu: str, where: str) -> dict[str, tuple[str, ...]]:
    """The :data:`MODELS` that the servers of every engine in one GPU block served; none where that is not said."""
    served = {}
    for name, entry in _engines(block, gpu, where).items():
        models = entry.get(MODELS, [])
        if not (isinstance(models, list) and all(isinstance(one, str) for one in models)):
            raise HardwareError(
                f"{where}: GPU {gpu}, engine {name}: {MODELS} must be a JSON list of names of models"
            )
        served[name] = tuple(models)
    return served


def _engines(block: Mapping[str, Any], gpu: str, where: str) -> dict[str, Any]:
    found: list[Any] = [value for key, value in block.items() if str(key).lower() == ENGINES]
    engines = found[0] if found else {}
    if not isinstance(engines, Mapping):
        raise HardwareError(f"{where}: GPU {gpu}: {ENGINES} must be a JSON object of engines")
    return {str(name): entry for name, entry in engines.items()}


def _only(blocks: Mapping[str, Any], where: str) -> str:
    if len(blocks) != 1:
        raise HardwareError(f"{where}: say which GPU (it has {', '.join(blocks) or 'none'})")
    return next(iter(blocks))


def read_transferred(block: Mapping[str, Any], gpu: str, where: str) -> dict[str, Interval]:
    """The 90% intervals of values that are other GPUs', by parameter; none where a block has none.

    Raises HardwareError for an interval that is none, or of no parameter.
    """
    said = block.get(TRANSFERRED)
    intervals = said.get("intervals", {}) if isinstance(said, Mapping) else {}
    if not isinstance(intervals, Mapping):
        raise HardwareError(f"{where}: GPU {gpu}: {TRANSFERRED}: intervals must be by parameter")
    found = {}
    for name, ends in intervals.items():
        is_interval = (
            isinstance(ends, list)
            and len(ends) == 2
            and all(isinstance(end, int | float) and abs(end) < _LARGEST for end in ends)
            and ends[0] <= ends[1]
        )
        if name not in PARAMETERS or not is_interval:
            raise HardwareError(
                f"{where}: GPU {gpu}: {TRANSFERRED}: {str(name)[:60]} = {str(ends)[:60]} is no interval of a "
                "parameter; run `calibrate transfer` again"
            )
        found[name] = (float(ends[0]), float(ends[1]))
    return found
