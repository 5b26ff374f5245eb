"""One GPU: the values of its parameters, and the vendors' specifications."""

import dataclasses
import functools
import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from sim.errors import HardwareError, nearest
from sim.units import BYTES_PER_GIB

_GPU_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_SPECS_FILE = Path(__file__).parent / "gpu_specs.json"

LINK_PEAK = "IntraNodeBwGBps"
"""The key of the peak rate, one way, of the link between the GPUs of a node."""


@dataclasses.dataclass(frozen=True)
class Hardware:
    """The parameters of one GPU. ``values`` maps canonical keys to finite numbers; ``source`` says whence.

    ``engines`` has, by engine and version, those of them that were found on its servers, and ``served`` the models of
    which these servers are known.
    """

    gpu: str
    values: Mapping[str, float]
    source: str = "the given dict"
    engines: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    served: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    def with_values(self, changed: Mapping[str, float]) -> "Hardware":
        """The same hardware with some values replaced or added."""
        return dataclasses.replace(self, values={**self.values, **changed})

    def with_engine(self, name: str, without: Collection[str] = ()) -> "Hardware":
        """The same hardware with what was found on servers of an engine, but ``without`` some of it.

        Without such servers it stays as it is. Raises HardwareError where several versions are meant.
        """
        known = self.engine_known(name)
        terms = self.engines[known] if known else {}
        return self.with_values({key: terms[key] for key in terms if key not in without})

    def engine_known(self, name: str) -> str | None:
        """The engine among ``engines`` that is meant by a name with or without a version; None where there is none.

        Raises HardwareError where several versions are meant.
        """
        found = engines_named(name, self.engines)
        if len(found) > 1:
            raise HardwareError(
                f"{self.source}: GPU {self.gpu} has several engines {name!r}: name one of {', '.join(found)}"
            )
        return found[0] if found else None

    def positive(self, key: str) -> float:
        """A value that must be positive and finite. Raises HardwareError in the calibration guide's words."""
        value = self.values.get(key, 0)
        if not (math.isfinite(value) and value > 0):
            raise HardwareError(
                f"{key} must be a valid positive number, got {value:g} ({self.source}, GPU {self.gpu}): "
                f"add {key} to that GPU's block"
            )
        return value


def is_engine(known: str, asked: str) -> bool:
    """Whether an engine, named with its version, is the one asked for, named with or without it."""
    words, wanted = known.lower().split(), asked.lower().split()
    return bool(wanted) and words[: len(wanted)] == wanted


def engines_named(asked: str, known: Iterable[str]) -> list[str]:
    """Those of the ``known`` engines that are the one asked for: of that very name, else of any version."""
    names = list(known)
    exact = [name for name in names if name.lower() == asked.strip().lower()]
    return exact or [name for name in names if is_engine(name, asked)]


def check_gpu_name(name: str) -> str:
    """Return ``name`` if it can be a GPU's name and a folder's, or is one of the registry's. Raises HardwareError."""
    if canonical_gpu(name) in gpu_specs():
        return name
    if not _GPU_NAME.fullmatch(name) or ".." in name:
        raise HardwareError(
            f"{name!r} is not a GPU name: use letters, digits, '.', '_', '+' and '-' only, such as H100 or A100-SXM"
        )
    return name


@dataclasses.dataclass(frozen=True)
class GpuSpec:
    """A vendor's figures for one GPU: dense peaks, never those with sparsity, and where they stand.

    ``link`` is what joins GPUs of a node, ``generation`` the architecture of the chip: what GPUs have in common.
    ``own_reduce_mib`` says below how many MiB vLLM reduces in a kernel of its own, by the number of GPUs, as its tables
    of compute capabilities have it (vllm/distributed/device_communicators/all_reduce_utils.py), and of GB200 measured
    all-reduces. GB200 and GB300 have four GPUs a host. It is empty where vLLM's usual limit holds, or none is known.
    """

    name: str
    aliases: tuple[str, ...]
    values: Mapping[str, float]
    source: str
    link: str
    generation: str
    own_reduce_mib: Mapping[str, float] = dataclasses.field(default_factory=dict)


@functools.cache
def gpu_specs() -> dict[str, GpuSpec]:
    """The registry of GPU specifications, by name."""
    entries = json.loads(_SPECS_FILE.read_text(encoding="utf-8"))
    return {
        name: GpuSpec(name, **{**entry, "aliases": tuple(entry["aliases"])})
        for name, entry in entries.items()
    }


def relative_peak(hardware: Hardware, key: str) -> float:
    """A type's peak such as ``TFlopsFP8``, from the GPU's block or the registry, over the 16-bit one; 1 without one."""
    spec = gpu_specs().get(canonical_gpu(hardware.gpu))
    registered = spec.values.get(key, 0.0) if spec else 0.0
    return max(hardware.values.get(key, registered) / hardware.positive("TFlopsPeak"), 1.0)


def link_gbps(hardware: Hardware) -> float:
    """What one GPU sends to its neighbours at most, in GB/s one way, from its block or the registry.

    Raises HardwareError where neither says.
    """
    spec = gpu_specs().get(canonical_gpu(hardware.gpu))
    rate = hardware.values.get(LINK_PEAK) or (spec.values[LINK_PEAK] if spec else 0.0)
    if not rate:
        raise HardwareError(
            f"GPU {hardware.gpu}: {LINK_PEAK} is neither in its block nor in the registry; add it to the "
            f"block, or give --spec {LINK_PEAK}=… (GB/s one way)"
        )
    return rate


def own_reduce_bytes(hardware: Hardware) -> tuple[tuple[int, float], ...]:
    """Below how many bytes an engine reduces in a kernel of its own, by the most GPUs that this holds for.

    Where the registry does not say, 8 MiB on up to eight GPUs, as in vLLM (custom_all_reduce.py beside those tables).
    """
    spec = gpu_specs().get(canonical_gpu(hardware.gpu))
    mib = (spec.own_reduce_mib if spec else None) or {"8": 8.0}
    return tuple(sorted((int(gpus), size * 2.0**20) for gpus, size in mib.items()))


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


def nearest_gpu(name: str, available: Iterable[str]) -> str:
    """A hint such as ``"; did you mean 'H100'?"`` for H10, H1000 or h-100, or ``""``: never another chip's name.

    Names of chips are one character apart (L4, L40, L40S; H20, H200), so only zeros and separators count as slips.
    """
    if canonical_gpu(name) in gpu_specs():
        return ""
    return nearest(name, (full for full in available if _outline(full) == _outline(name)))


def _outline(name: str) -> str:
    """The name without separators and case, its zeros in a row written once."""
    return re.sub("0+", "0", re.sub("[^a-z0-9]", "", name.lower()))
