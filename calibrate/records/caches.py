"""What a process keeps on its disk of work that it would else do again, and does again where it is missing."""

import atexit
import contextlib
import os
import pickle
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_USED: set[str] = set()


def new_cache() -> str:
    """The name of a cache that nobody else has."""
    return secrets.token_hex(8)


def kept(cache: str, name: str) -> Iterator[Any] | None:
    """What :func:`keep` wrote under a name, one after the other; None where there is nothing."""
    try:
        file = (_folder(cache) / name).open("rb")
    except OSError:
        return None
    return _read(file)


def keep(cache: str, name: str, things: Iterable[Any]) -> Iterator[Any]:
    """Pass things on and write them under a name, all or none; a full disk keeps nothing."""
    folder = _folder(cache)
    _USED.add(cache)
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
    temporary = folder / f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
    with contextlib.ExitStack() as stack:
        file = None
        with contextlib.suppress(OSError):
            file = stack.enter_context(temporary.open("wb"))
        for thing in things:
            try:
                if file is not None:
                    pickle.dump(thing, file, protocol=pickle.HIGHEST_PROTOCOL)
            except OSError:
                file = None
            yield thing
    if file is None:
        temporary.unlink(missing_ok=True)
        return
    with contextlib.suppress(OSError):
        temporary.replace(folder / name)


def forget(cache: str) -> None:
    """Remove a cache from this machine."""
    _USED.discard(cache)
    shutil.rmtree(_folder(cache), ignore_errors=True)


@atexit.register
def forget_all() -> None:
    """Remove every cache that this process wrote to."""
    for cache in [*_USED]:
        forget(cache)


def _folder(cache: str) -> Path:
    return Path(tempfile.gettempdir()) / f"calibrate-{cache}"


def _read(file: Any) -> Iterator[Any]:
    with file:
        while True:
            try:
                yield pickle.load(
                    file
                )  # written by this user, in a folder that nobody else may enter
            except EOFError:
                return
