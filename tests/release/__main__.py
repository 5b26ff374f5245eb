"""``python -m tests.release``: builds the wheel and the sdist, and tries each as a stranger would.

Every installation is a venv of its own, every quick start an empty folder. Exit code 1 if a check failed; what could
not be done here is named, and named again at the end.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from calibrate.records.distribution import DISTRIBUTION
from tests.conftest import ROOT
from tests.release.audit import audit
from tests.release.checks import Check, run, tried
from tests.release.pythons import MINORS, absent, find_python

LOAD = ("--workload", "chatbot", "--rate", "4", "--num-requests", "200")
QUICK_START = (
    ("--version",),
    ("init", "--gpu", "H100", "--shipped"),
    ("fit", "--gpu", "H100"),
    ("show", "parameters"),
    ("simulate", "--model", "llama-3.1-8b", "--gpu", "H100", *LOAD),
)
COMMANDS = ("calibrate", DISTRIBUTION)
_KB = 1000


def main() -> int:
    asked = _asked()
    with tempfile.TemporaryDirectory() as folder:
        checks = []
        for check in _all(Path(folder), asked.out, asked.minors):
            print(check, flush=True)
            checks.append(check)
    return _close(checks)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.release", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where the files go")
    parser.add_argument("--minors", type=int, nargs="*", default=MINORS, help="of Python 3")
    return parser.parse_args()


def _all(folder: Path, out: Path, minors: Sequence[int]) -> Iterator[Check]:
    for old in out.glob(f"{DISTRIBUTION.replace('-', '_')}-*"):
        old.unlink()
    yield tried("build", [(sys.executable, "-m", "build", "--outdir", out, ROOT)], folder)
    files = sorted(out.glob("*.whl")) + sorted(out.glob("*.tar.gz"))
    if len(files) != len(("wheel", "sdist")):
        return
    wheel, sdist = files
    sizes = ", ".join(f"{file.name} {file.stat().st_size / _KB:.0f} kB" for file in files)
    yield tried(
        "twine check", [(sys.executable, "-m", "twine", "check", "--strict", *files)], folder, sizes
    )
    for minor in minors:
        python = find_python(minor)
        yield (
            _first_hour(f"wheel on Python 3.{minor}", python, wheel, folder)
            if python
            else absent(minor)
        )
    yield _first_hour("sdist", Path(sys.executable), sdist, folder)
    yield from _without_installing(wheel, folder)
    yield audit(next((folder / "sdist").glob("venv/lib/*/site-packages")), folder)


def _first_hour(what: str, python: Path, file: Path, folder: Path) -> Check:
    """Install a file into a venv of its own, and run the quick start with it in an empty folder."""
    place = folder / what.replace(" ", "-")
    empty = place / "empty"
    empty.mkdir(parents=True)
    installed = place / "venv/bin"
    install = (installed / "python", "-m", "pip", "install", "--quiet", file)
    start = [(installed / "calibrate", *words) for words in QUICK_START]
    version = run((python, "--version"), folder).stdout.strip()
    commands = [(python, "-m", "venv", place / "venv"), install, *start]
    return tried(what, commands, empty, f"{version}, {len(start)} commands of the quick start")


def _without_installing(wheel: Path, folder: Path) -> Iterator[Check]:
    """The command as uvx and pipx run it, by either of its names."""
    uvx = ("uv", "tool", "run", "--python", sys.executable, "--from", wheel)
    pipx = ("pipx", "run", "--python", sys.executable, "--spec", wheel)
    tools = Path(sys.executable).parent
    for name, (tool, *words) in (("uvx", uvx), ("pipx run", pipx)):
        commands = [(tools / str(tool), *words, command, "--version") for command in COMMANDS]
        yield tried(name, commands, folder, " and ".join(COMMANDS))


def _close(checks: Sequence[Check]) -> int:
    failed = [check.what for check in checks if check.ended == "failed"]
    undone = [check.what for check in checks if check.ended == "not done"]
    if undone:
        print(f"Not done, so not known: {', '.join(undone)}.")
    print(f"Not fit for release: {', '.join(failed)}." if failed else "All that was done passed.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
