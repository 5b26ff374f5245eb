"""What ``calibrate doctor`` looks at: packages, the compiled simulator, folders, the terminal."""

import dataclasses
import importlib
import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from calibrate.cli.console import CONFIGS, GROUND_TRUTH, REPORTS
from calibrate.records.distribution import DISTRIBUTION, VERSION, install_extra

Status = Literal["ok", "absent", "attention", "broken"]
"""``absent``: not there, and not needed. ``attention``: something will not work. ``broken``: nothing will."""

_MODULES = {"pyyaml": "yaml", "aiconfigurator-core": "aiconfigurator_core"}
_DEVELOPERS = {"test", "check", "docs"}
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)[^;]*(?:;.*extra == ['\"]([a-z]+)['\"])?")
_SIGNS = "µσ–×≥≤·●"


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing looked at: what was found, and what to do about it if anything."""

    part: str
    name: str
    status: Status
    found: str
    fix: str = ""


def packages() -> Iterator[Check]:
    """Calibrate itself, Python, what is needed, and the extras."""
    yield Check("packages", "calibrate", "ok", f"{VERSION} in {Path(__file__).parents[1]}")
    yield Check("packages", "python", "ok", f"{platform.python_version()} at {sys.executable}")
    try:
        requirements = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        fix = "Install the project: pip install ."
        yield Check("packages", DISTRIBUTION, "attention", "runs without being installed", fix)
        return
    for requirement in requirements:
        found = _REQUIREMENT.match(requirement)
        if found and found[2] is None:
            yield _needed(found[1])
        elif found and found[2] not in _DEVELOPERS:
            yield _extra(found[1], found[2])


def _needed(name: str) -> Check:
    """A package without which nothing runs: it must be there, and import."""
    fix = f"Install it again: pip install --force-reinstall {name}"
    try:
        version = importlib.metadata.version(name)
        importlib.import_module(_MODULES.get(name, name))
    except Exception as error:
        return Check("packages", name, "broken", f"cannot be imported: {error}", fix)
    return Check("packages", name, "ok", version)


def _extra(name: str, extra: str) -> Check:
    """A package that one extra brings; it is not imported, for some take seconds."""
    label = f"{name} (extra {extra})"
    try:
        return Check("packages", label, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(
            "packages", label, "absent", "not installed", f"Install it: {install_extra(extra)}"
        )


def compiled_simulator() -> Iterator[Check]:
    """Whether the compiled loop runs, and whether the next process finds it on the disk."""
    from calibrate.parameters.start import guide_hardware
    from sim.serving.trial import try_compiled_loop

    hardware, _ = guide_hardware("H100", {}, "roofline-v1")
    try:
        trial = try_compiled_loop(hardware)
    except Exception as error:  # numba raises its own of many kinds
        fix = "Install numba again: pip install --force-reinstall numba"
        yield Check("simulator", "compiled loop", "broken", f"does not run: {error}", fix)
        return
    name, took = "compiled loop", f"{trial.seconds:.1f} s"
    if not trial.is_compiled:
        fix = "Unset NUMBA_DISABLE_JIT"
        yield Check("simulator", name, "attention", "numba is switched off: it is slow", fix)
    elif trial.folder is None:
        fix = "Set NUMBA_CACHE_DIR to a folder that can be written"
        yield Check("simulator", name, "attention", f"compiled anew by each process, {took}", fix)
    elif trial.was_kept:
        yield Check("simulator", name, "ok", f"found on the disk, {took}, in {trial.folder}")
    else:
        found = f"compiled in {took} and kept in {trial.folder}"
        yield Check("simulator", name, "ok", found)


def folders() -> Iterator[Check]:
    """Campaigns, configurations and reports, where commands look for them without an option."""
    yield Check("folders", "here", "ok", str(Path.cwd()))
    yield _campaigns()
    yield from _configurations()
    yield _writable("reports", REPORTS, "`calibrate fit` makes it; or --out")


def _campaigns() -> Check:
    if not GROUND_TRUTH.is_dir():
        fix = "`calibrate init --gpu GPU` makes a campaign; or --ground-truth"
        return Check("folders", "campaigns", "absent", f"no {GROUND_TRUTH} here", fix)
    gpus = [path for path in sorted(GROUND_TRUTH.iterdir()) if path.is_dir()]
    count = sum(one.is_dir() and one.name[0] != "." for gpu in gpus for one in gpu.iterdir())
    names = ", ".join(path.name for path in gpus) or "no GPU"
    return Check("folders", "campaigns", "ok", f"{count} in {GROUND_TRUTH}, of {names}")


def _configurations() -> Iterator[Check]:
    """The folder of configurations, and every file in it that cannot be read."""
    from sim.configuration import read_config
    from sim.errors import HardwareError

    yield _writable("configurations", CONFIGS, "`calibrate fit` makes it; or --hardware-config")
    for file in sorted(CONFIGS.glob("*.json")):
        try:
            gpus = ", ".join(read_config(file))
            yield Check("folders", file.name, "ok", f"GPUs: {gpus or 'none'}")
        except HardwareError as error:
            fix = "Put back a backup of it (.bak), or remove it"
            yield Check("folders", file.name, "broken", str(error), fix)


def _writable(name: str, folder: Path, how: str) -> Check:
    if not folder.exists():
        return Check("folders", name, "absent", f"no {folder} here", how)
    if not os.access(folder, os.W_OK | os.X_OK):
        fix = "Change its permissions, or give another folder"
        return Check("folders", name, "attention", f"{folder} cannot be written", fix)
    return Check("folders", name, "ok", f"{folder}, can be written")


def terminal() -> Iterator[Check]:
    """Whether standard output takes the signs that tables have."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        _SIGNS.encode(encoding)
    except UnicodeEncodeError:
        found = f"{encoding} has not all of {_SIGNS.encode('ascii', 'backslashreplace').decode()}"
        yield Check("terminal", "encoding", "attention", found, "Set PYTHONUTF8=1")
    else:
        yield Check("terminal", "encoding", "ok", encoding)
