"""``python -m tests.faults``: kills, concurrency and full disks; figures as a table, exit code 1 if anything broke.

A kill comes at a moment drawn uniformly over the time that the work takes undisturbed, in a child of this process,
which has all imported. Pictures of the report are left out: they take most of a fit's time and are written like its
page. ``--kills`` gives the kills of fits; imports take a third of them, bootstraps and exports a fifth each.
"""

import argparse
import contextlib
import gc
import resource
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import calibrate.report.plots
from tests.faults import concurrency, full_disk, place
from tests.faults.children import command
from tests.faults.kills import (
    Figures,
    kill_at_changes,
    kill_at_moments,
    terminate_at_moments,
)
from tests.faults.scenarios import SCENARIOS

SHARES = {"fit": 1.0, "import": 1 / 3, "bootstrap": 1 / 5, "export": 1 / 5}
TERMINATED_SHARE = 3  # kills to a SIGTERM
COLUMNS = ("killed", "old", "new", "parted", "refused")


def main() -> int:
    asked = _asked()
    warnings.simplefilter("ignore", DeprecationWarning)  # Python's, of a fork beside threads
    calibrate.report.plots.draw_plots = lambda *_: []
    with tempfile.TemporaryDirectory() as folder:
        _import_everything(Path(folder) / "warm")
        gc.freeze()  # children copy less
        print(_row("", "rounds", *COLUMNS, "broken"), flush=True)
        broken: list[str] = []
        for figures in _all(Path(folder), asked):
            counts = [figures.found[column] for column in COLUMNS]
            print(_row(figures.what, figures.rounds, *counts, len(figures.broken)), flush=True)
            broken += figures.broken
    for words in broken:
        print(words)
    print(f"seed {asked.seed}, {_cpu_s():.0f} s of processor time")
    return 1 if broken else 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=300, help="kills of fits")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of eight fits at once")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", choices=SCENARIOS, nargs="*", default=list(SCENARIOS))
    return parser.parse_args()


def _all(folder: Path, asked: argparse.Namespace) -> Iterator[Figures]:
    rng = np.random.default_rng(asked.seed)
    for name in asked.only:
        scenario = SCENARIOS[name](folder / name)
        kills = round(asked.kills * SHARES[name])
        yield kill_at_moments(f"{name}, any moment", scenario, kills, rng)
        yield terminate_at_moments(f"{name}, SIGTERM", scenario, kills // TERMINATED_SHARE, rng)
        if name != "bootstrap":  # its changes are a fit's, and lines of a checkpoint
            yield kill_at_changes(f"{name}, any change", scenario)
            yield full_disk.limit_files(name, scenario)
    yield full_disk.fill_disk(folder / "disk")
    yield full_disk.write_to_full_device(place.make_place(folder / "device"))
    if asked.rounds:
        yield concurrency.fit_at_once(folder / "at-once", asked.rounds)


def _import_everything(root: Path) -> None:
    """Fit once in this process, so that its children find all imported."""
    place.make_place(root)
    with (
        (root / "said").open("w") as said,
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        contextlib.suppress(SystemExit),
    ):
        command(*place.fit_arguments(root))()


def _row(what: str, *cells: object) -> str:
    return f"{what:<24}" + "".join(f"{cell!s:>9}" for cell in cells)


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    sys.exit(main())
