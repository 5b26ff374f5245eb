"""The Pythons of this machine that a release is tried on."""

import shutil
from pathlib import Path

from tests.release.checks import Check, run

MINORS = (11, 12, 13, 14)
_PYENV = Path.home() / ".pyenv/versions"


def find_python(minor: int) -> Path | None:
    """A Python 3.``minor`` that runs: of the search path, or of pyenv; None where there is none."""
    found = shutil.which(f"python3.{minor}")
    of_pyenv = [version / "bin/python" for version in sorted(_PYENV.glob(f"3.{minor}.*"))]
    for python in [*([Path(found)] if found else []), *of_pyenv]:
        if run((python, "--version"), Path.home()).returncode == 0:
            return python
    return None


def absent(minor: int) -> Check:
    """What is said of a Python that is not here."""
    return Check(f"wheel on Python 3.{minor}", "not done", "this machine has no such Python")
