"""Writes fitted values into a hardware configuration so that no accident can damage the file."""

import contextlib
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from calibrate.records.errors import ConfigError
from calibrate.records.files import replace_bytes, replace_text
from calibrate.records.reading.content import read_text
from sim.configuration import (
    ENGINES,
    TRANSFERRED,
    read_block,
    read_config,
    read_engines,
    read_served,
)
from sim.hardware import check_gpu_name, find_gpu

_LOCK_TIMEOUT_S = 30


Engines = Mapping[str, Mapping[str, object]]
"""What was found on servers, and the models that they served, by engine."""

_NONE: Engines = {}


def write_config(
    path: Path,
    gpu: str,
    values: Mapping[str, float],
    engines: Engines = _NONE,
    transferred: Mapping[str, Any] | None = None,
) -> Path | None:
    """Merge ``values`` into one GPU's block of the file at ``path``; return where the previous file is kept.

    ``engines`` join the block's :data:`~sim.configuration.ENGINES`, each in place of what was found on it before.
    ``transferred`` becomes its :data:`~sim.configuration.TRANSFERRED`, whose ``intervals`` lose what is written later.

    Other GPUs, unknown keys, the spelling of keys and their order survive; a missing GPU or file is added. The new
    file replaces the old one in one step, under a lock. Raises ConfigError if a value is not finite, the target is
    read-only, or the disk is full, and HardwareError if the present file is not a valid configuration; the file is
    then as it was.
    """
    bad = {key: value for key, value in values.items() if not math.isfinite(value)}
    if bad:
        raise ConfigError(f"{path}: refused to write {bad}: not finite")
    check_gpu_name(gpu)
    path = path.resolve() if path.is_symlink() else path  # the link stays
    refuse_read_only(path)
    try:
        with _locked(path):
            text = merged_text(path, gpu, values, engines, transferred)
            backup = _back_up(path) if path.exists() else None
            replace_text(path, text)
            return backup
    except filelock.Timeout:
        raise ConfigError(
            f"{path}: another process has held its lock for {_LOCK_TIMEOUT_S} s; try again"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written: {error.strerror or error}; the file is as it was"
        ) from error


def merged_text(
    path: Path,
    gpu: str,
    values: Mapping[str, float],
    engines: Engines = _NONE,
    transferred: Mapping[str, Any] | None = None,
) -> str:
    """The text that the file at ``path`` has, or would have, with ``values`` in the GPU's block.

    Raises HardwareError if the present file is not a valid configuration.
    """
    whole = merged(_present(path, gpu), gpu, values, engines, transferred)
    return json.dumps(whole, indent=_indent(path), ensure_ascii=False, allow_nan=False) + "\n"


def merged(
    config: Mapping[str, Any],
    gpu: str,
    values: Mapping[str, float],
    engines: Engines = _NONE,
    transferred: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A copy of ``config`` with ``values`` in the GPU's block, under the spelling that its keys already have."""
    name = find_gpu(gpu, config) or gpu
    block = dict(config.get(name, {}))
    spelling = {key.lower(): key for key in block}
    changed = set()
    for key, value in values.items():
        spelled = spelling.get(key.lower(), key)
        if block.get(spelled) != value:
            block[spelled] = value
            changed.add(key)
    if engines:
        key = spelling.get(ENGINES, ENGINES)
        block[key] = {
            **block.get(key, {}),
            **{name: dict(found) for name, found in engines.items()},
        }
    _put_provenance(block, changed, transferred)
    return {**config, name: block}


def _put_provenance(
    block: dict[str, Any], changed: Collection[str], transferred: Mapping[str, Any] | None
) -> None:
    """Say what was transferred, in place of what was before; of that, drop the intervals of values that changed."""
    before = block.pop(TRANSFERRED, None)
    if transferred is None and isinstance(before, Mapping):
        intervals = before.get("intervals")
        known = intervals if isinstance(intervals, Mapping) else {}
        left = {name: ends for name, ends in known.items() if name not in changed}
        what = before.get("what", "")
        if len(left) < len(known) and isinstance(what, str):
            what = f"{what.partition(';')[0]}; the others were fitted since"
        transferred = {**before, "what": what, "intervals": left} if left else None
    if transferred is not None:
        block[TRANSFERRED] = dict(transferred)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_name(f".{path.name}.lock"), timeout=_LOCK_TIMEOUT_S):
        yield


def _present(path: Path, gpu: str) -> dict[str, Any]:
    """What the file holds, the GPU's own block checked; nothing where there is no file."""
    config = read_config(path) if path.exists() else {}
    name = find_gpu(gpu, config)
    if name is not None:
        read_block(config[name], name, str(path))
        read_engines(config[name], name, str(path))
        read_served(config[name], name, str(path))
    return config


def refuse_read_only(path: Path) -> None:
    """Raise ConfigError if the file is there and must not be written."""
    if path.exists() and not path.stat().st_mode & 0o222:
        raise ConfigError(
            f"{path}: is read-only; make it writable or give another --hardware-config"
        )


def _back_up(path: Path) -> Path:
    """Keep the content that is about to be replaced: the first original as ``.bak`` for good, else as ``.previous``."""
    content = path.read_bytes()
    first = path.with_name(f"{path.name}.bak")
    if first.exists() and first.read_bytes() == content:
        return first
    backup = path.with_name(f"{path.name}.previous") if first.exists() else first
    replace_bytes(backup, content)
    return backup


def _indent(path: Path) -> int:
    found = re.search(r"^( +)\"", read_text(path), re.MULTILINE) if path.exists() else None
    return len(found.group(1)) if found else 4
