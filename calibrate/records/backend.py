"""The backend of matplotlib, which cannot even be imported under one that is not installed.

Plots are drawn to files: a command needs no window, nor the backend that a notebook hands to the commands it starts.
"""

import contextlib
import importlib.util
import os
from collections.abc import Iterator

_VARIABLE = "MPLBACKEND"
_TO_FILES = "Agg"


def leave_missing_backend() -> None:
    """Draw to files where the environment names a package's backend that is not installed here; else leave it."""
    package = os.environ.get(_VARIABLE, "").partition("module://")[2].partition(".")[0]
    if package and importlib.util.find_spec(package) is None:
        os.environ[_VARIABLE] = _TO_FILES


@contextlib.contextmanager
def drawing_to_files() -> Iterator[None]:
    """Whatever the environment says, plots go to files in here."""
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = _TO_FILES
    try:
        yield
    finally:
        os.environ.pop(_VARIABLE)
        if before is not None:
            os.environ[_VARIABLE] = before
