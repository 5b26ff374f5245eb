"""Hidden folders to build in, beside what is built: each held by one process, and swept once that one is gone."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from calibrate.records.claims import claim
from calibrate.records.errors import CalibrateError
from calibrate.records.files import remove

_LOCK = "lock"
_WAIT_S = 30.0
_POLL_S = 0.02


@contextlib.contextmanager
def workshop(folder: Path) -> Iterator[Path]:
    """``folder``, for this process alone, with what a killed one left in it; gone at the end.

    Folders above it are made, and go too where they hold nothing then. Raises OSError, and CalibrateError where
    another process holds it for half a minute.
    """
    made = [above for above in folder.parents if not above.exists()]
    lock: int | None = None
    try:
        lock = _wait_for(folder)
        yield folder
    finally:
        if lock is not None:
            _leave(folder, lock)
        for above in made:
            with contextlib.suppress(OSError):  # it holds what was built
                above.rmdir()


@contextlib.contextmanager
def abandoned_workshop(folder: Path) -> Iterator[bool]:
    """Whether the process that held ``folder`` is gone; if so, the folder is this one's, and gone at the end."""
    lock: int | None = None
    with contextlib.suppress(OSError):  # another user's, or read-only
        lock = _lock(folder, unknown=False)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            _leave(folder, lock)


def _wait_for(folder: Path) -> int:
    end_s = time.monotonic() + _WAIT_S
    while time.monotonic() < end_s:
        lock = _enter(folder)
        if lock is not None:
            return lock
        time.sleep(_POLL_S)
    raise CalibrateError(
        f"{folder}: another process has been at work there for {_WAIT_S:.0f} s; try again, "
        "or remove it if there is none"
    )


def _enter(folder: Path) -> int | None:
    """The open lock of the folder, which is made if it is not there; None while another process holds it."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return _lock(folder, unknown=False)
    return _lock(folder, unknown=True)


def _lock(folder: Path, *, unknown: bool) -> int | None:
    file = folder / _LOCK
    try:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    except FileNotFoundError:  # its process has just left
        return None
    if claim(handle, file, unknown=unknown):
        return handle
    os.close(handle)
    return None


def _leave(folder: Path, lock: int) -> None:
    """Empty the folder, and let the lock go last: who waits for it finds nothing of ours."""
    with contextlib.suppress(OSError):  # what cannot be removed is left to the next one
        for path in folder.iterdir():
            if path.name != _LOCK:
                remove(path)
        (folder / _LOCK).unlink()
        folder.rmdir()
    os.close(lock)
