"""Hardware configurations: the block of one GPU in a ``hardware_config.json``, and vendor specifications."""

import dataclasses
import functools
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sim.errors import HardwareError, nearest
from sim.units import BYTES_PER_GIB

KEYS = (
    "TFlopsPeak",
    "BwPeakTBs",
    "BwEffConstant",
    "TOverheadMicros",
    "perLayerOverhead",
    "mfuPrefill",
    "mfuDecode",
    "allReduceLatency",
    "tpScalingExponent",
    "decodeTpScalingExponent",
    "mfuPrefillMultiplier",
    "mfuDecodeMultiplier",
    "prefillBwFactor",
    "decodeBwFactor",
    "vectorPeakFraction",
    "prefillOverheadMicros",
    "mixedPrefillOverheadMicros",
    "bwEfficiencyFactor",
    "gemmMfu",
    "gemmMfuExponent",
    "attentionMfu",
    "weightBwFraction",
    "kvBwFraction",
    "layerMicros",
    "allReduceHopMicros",
    "allReduceBwGBps",
    "allReduceTpExponent",
    "allReduceSetupMicros",
    "allReduceLargeMicrosPerMB",
    "hostLayerMicros",
    "hostPrefillMicros",
    "requestMicros",
    "promptMicros",
    "prefillLayerMicros",
    "apiMicros",
    "apiPromptTokenMicros",
    "apiOutputTokenMicros",
    "TFlopsFP8",
    "MemoryGiB",
    "IntraNodeBwGBps",
    "InterNodeBwGBps",
)
"""Keys with a meaning, in their usual spelling; files match them without regard to case."""

_SIGNED = {"gemmMfuExponent", "allReduceTpExponent"}
_CANONICAL = {key.lower(): key for key in KEYS}
_GPU_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_SPECS_FILE = Path(__file__).parent / "gpu_specs.json"


@dataclasses.dataclass(frozen=True)
class Hardware:
    """The parameters of one GPU. ``values`` maps canonical keys to finite numbers; ``source`` says whence."""

    gpu: str
    values: Mapping[str, float]
    source: str = "the given dict"

    def with_values(self, changed: Mapping[str, float]) -> "Hardware":
        """The same hardware with some values replaced or added."""
        return dataclasses.replace(self, values={**self.values, **changed})

    def positive(self, key: str) -> float:
        """A value that must be positive and finite. Raises HardwareError in the calibration guide's words."""
        value = self.values.get(key, 0)
        if not (math.isfinite(value) and value > 0):
            raise HardwareError(
                f"{key} must be a valid positive number, got {value:g} ({self.source}, GPU {self.gpu}): "
                f"add {key} to that GPU's block"
            )
        return value


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
            f"{where}: no GPU {gpu!r} (it has {', '.join(blocks) or 'none'}){nearest(str(gpu), blocks)}"
        )
    return Hardware(name, read_block(blocks[name], name, where), where)


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a hardware configuration file: a JSON object of GPU blocks, order and key case kept.

    Raises HardwareError if it is missing, not JSON, has a key twice, or holds NaN or infinity.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise HardwareError(f"{path}: no such hardware configuration file") from None
    except OSError as error:
        raise HardwareError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise HardwareError(f"{path}: is not UTF-8 text: {error}") from error
    try:
        config = json.loads(
            text,
            object_pairs_hook=_unique_pairs,
            parse_constant=_finite_float,
            parse_float=_finite_float,
            parse_int=_finite_int,
        )
    except (ValueError, RecursionError) as error:
        raise HardwareError(f"{path}: not valid JSON: {error}") from error
    except HardwareError as error:
        raise HardwareError(f"{path}: {error}") from error
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
    values: dict[str, float] = {}
    for key, value in block.items():
        canonical = _CANONICAL.get(str(key).lower())
        if canonical is None:
            continue
        if canonical in values:
            raise HardwareError(f"{where}: GPU {gpu} has {canonical} twice (in different case); keep one")
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            raise HardwareError(f"{where}: GPU {gpu}: {key} must be a valid number, got {value!r}")
        if value < 0 and canonical not in _SIGNED:
            raise HardwareError(f"{where}: GPU {gpu}: {key} must not be negative, got {value!r}")
        values[canonical] = float(value)
    return values


def check_gpu_name(name: str) -> str:
    """Return ``name`` if it can be a GPU's name and a folder's. Raises HardwareError otherwise."""
    if not _GPU_NAME.fullmatch(name) or ".." in name:
        raise HardwareError(
            f"{name!r} is not a GPU name: use letters, digits, '.', '_', '+' and '-' only, such as H100 or A100-SXM"
        )
    return name


@dataclasses.dataclass(frozen=True)
class GpuSpec:
    """A vendor's figures for one GPU: dense peaks, never those with sparsity, and where they stand."""

    name: str
    aliases: tuple[str, ...]
    values: Mapping[str, float]
    source: str


@functools.cache
def gpu_specs() -> dict[str, GpuSpec]:
    """The registry of GPU specifications, by name."""
    entries = json.loads(_SPECS_FILE.read_text(encoding="utf-8"))
    return {
        name: GpuSpec(name, tuple(entry["aliases"]), entry["values"], entry["source"])
        for name, entry in entries.items()
    }


def memory_bytes(hardware: Hardware) -> float:
    """The GPU's memory, from its block or the registry. Raises HardwareError where neither says."""
    spec = gpu_specs().get(canonical_gpu(hardware.gpu))
    gib = hardware.values.get("MemoryGiB") or (spec.values["MemoryGiB"] if spec else 0.0)
    if not gib:
        raise HardwareError(
            f"GPU {hardware.gpu}: MemoryGiB is neither in its block nor in the registry; add it to the block, or give "
            "--spec MemoryGiB=… to plan or --kv-cache-tokens to simulate"
        )
    return gib * BYTES_PER_GIB


def canonical_gpu(name: str) -> str:
    """The registry's spelling of a GPU's name or alias; the name itself where the registry has none."""
    specs = gpu_specs()
    lowered = name.lower()
    for spec in specs.values():
        if lowered in (spec.name.lower(), *(alias.lower() for alias in spec.aliases)):
            return spec.name
    return name


def find_gpu(name: str, available: Iterable[str]) -> str | None:
    """Which of the ``available`` names means GPU ``name``: the same but for case, else by alias."""
    by_lower = {candidate.lower(): candidate for candidate in available}
    exact = by_lower.get(name.lower())
    if exact is not None:
        return exact
    wanted = canonical_gpu(name).lower()
    return next((full for full in by_lower.values() if canonical_gpu(full).lower() == wanted), None)


def _only(blocks: Mapping[str, Any], where: str) -> str:
    if len(blocks) != 1:
        raise HardwareError(f"{where}: say which GPU (it has {', '.join(blocks) or 'none'})")
    return next(iter(blocks))


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise HardwareError(f"the key {key!r} stands there twice; keep one")
    return dict(pairs)


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise HardwareError(f"{text[:40]} is not a number that a configuration may hold")
    return value


def _finite_int(digits: str) -> int:
    _finite_float(digits)
    return int(digits)
