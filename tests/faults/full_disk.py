"""A disk that fills up in the middle of a file: an error that names the file, and the old content whole."""

import contextlib
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.children import Work, command, run
from tests.faults.kills import Figures
from tests.faults.place import BrokenError, demand
from tests.faults.scenarios import ImportScenario

FILE_SIZES = (0, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000)  # bytes
LEFT_KIB = (0, 4, 8, 12, 16, 20, 24, 32, 40)
BAD_INPUT = 1
STREAM = Path("/dev/full")


def limit_files(what: str, scenario: Any) -> Figures:
    """Forbid files above a size, as a quota does: writing them fails, as on a full disk, after that many bytes."""
    figures = Figures(f"{what}, files limited")
    for size in FILE_SIZES:
        scenario.reset()
        _judge(figures, scenario, limited(scenario.work, size), "too large")
    return figures


def fill_disk(folder: Path) -> Figures:
    """Import into a small file system of which few KiB are left; none where it cannot be mounted."""
    figures = Figures("import, tmpfs full")
    with small_disk(folder) as mounted:
        if mounted:
            scenario = ImportScenario(folder / "place")
            for left in LEFT_KIB:
                scenario.reset()
                with filled(folder, left):
                    _judge(figures, scenario, scenario.work, "No space left")
    return figures


def write_to_full_device(root: Path) -> Figures:
    """``-o /dev/full``: standard words for what cannot be written, and no traceback."""
    figures = Figures("-o /dev/full")
    steps = root / "ground_truth/H100/synthetic/steps.csv"
    config = ("--hardware-config", root / "hardware_config.json")
    truth = ("--ground-truth", root / "ground_truth")
    for arguments in (
        ("predict", steps, "--gpu", "H100", *config),
        ("evaluate", "--gpu", "H100", *config, *truth),
        ("export", "json", "--gpu", "H100", *config, *truth),
    ):
        said = root.with_suffix(".said")
        code = run(command(*arguments, "-o", STREAM), said)
        figures.rounds += 1
        text = said.read_text()
        if code != BAD_INPUT or f"{STREAM}: " not in text or "Traceback" in text:
            figures.broken.append(f"{arguments[0]} -o {STREAM}: {code}: {text}")
        figures.found["refused"] += code == BAD_INPUT
    return figures


def _judge(figures: Figures, scenario: Any, work: Work, words: str) -> None:
    figures.rounds += 1
    try:
        code = run(work, scenario.said)
        text = scenario.said.read_text()
        demand("Traceback" not in text, f"a traceback: {text[-800:]}")
        state = scenario.state()
        if code != 0:
            demand(code == BAD_INPUT and words in text, f"ends with {code}: {text[-300:]}")
            demand("/" in text, f"no file is named: {text}")
            demand(state == "old", f"an error, and the state is {state}")
            figures.found["refused"] += 1
        figures.found[state] += 1
    except BrokenError as error:
        figures.broken.append(f"{figures.what}, round {figures.rounds}: {error}")


def limited(work: Work, size: int) -> Work:
    """The work where no file can grow above a size."""

    def on_limited_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        work()

    return on_limited_disk


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A file system of half a MiB at a new folder; whether it could be mounted."""
    folder.mkdir()
    mount = shutil.which("mount") or "mount"
    options = ["-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    mounted = subprocess.run([mount, *options], capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def filled(folder: Path, left_kib: int) -> Iterator[None]:
    """That file system with so much left."""
    filler = folder / "filler"
    free = shutil.disk_usage(folder).free
    filler.write_bytes(b"\0" * max(free - 1024 * left_kib, 0))
    try:
        yield
    finally:
        filler.unlink()
