"""Locks that end with their process, however it ends: they tell what is in the making from what a killed one left."""

import contextlib
import fcntl
import os
from pathlib import Path


def claim(handle: int, file: Path, *, unknown: bool) -> bool:
    """Whether the open file is from now on this process's alone, until closed, and still lies at ``file``.

    ``unknown`` is taken for the lock where the file system has none.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return unknown
    return _lies_at(handle, file)


def remove_abandoned(file: Path) -> None:
    """Remove a file that its maker held while it lived, unless it lives."""
    with contextlib.suppress(OSError):  # another user's, or gone already
        handle = os.open(file, os.O_RDWR)
        try:
            if claim(handle, file, unknown=False):
                file.unlink()
        finally:
            os.close(handle)


def _lies_at(handle: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return False
