"""Files written whole: a reader, or a crash, sees the old content or the new, never a part."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

_STDOUT = {"-", "/dev/stdout"}
_STREAMS = {*_STDOUT, "/dev/stderr"}
_DESCRIPTORS = {"/dev/fd", "/proc/self/fd"}


def is_stdout(path: Path) -> bool:
    """Whether the path means standard output: ``-``, or its device."""
    return str(path) in _STDOUT


def is_stream(path: Path) -> bool:
    """Whether what is written there just passes through: ``-``, a device, a FIFO. Such a thing is never replaced."""
    if str(path) in _STREAMS or str(path.parent) in _DESCRIPTORS:
        return True
    return path.exists() and not path.is_file() and not path.is_dir()


def replace_text(path: Path, text: str) -> None:
    """Write a text file in one step, as :func:`replace_bytes` does."""
    replace_bytes(path, text.encode("utf-8"))


def replace_bytes(path: Path, content: bytes) -> None:
    """Write a file in one step, as :func:`replace_parts` does."""
    replace_parts(path, [content])


def replace_parts(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file, given part after part, in one step, or straight into a stream.

    Links stay and their target is written; a file that is there keeps its mode and, as far as the system lets it, its
    owner. Raises OSError, the file then being as it was.
    """
    if is_stdout(path):
        for part in parts:
            sys.stdout.write(part.decode("utf-8"))
        sys.stdout.flush()
    elif is_stream(path):
        with path.open("ab") as stream:
            stream.writelines(parts)
    else:
        _replace(Path(os.path.realpath(path)), parts)


def _replace(path: Path, parts: Iterable[bytes]) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            _take_over(path, temporary)
        else:
            Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _take_over(path: Path, temporary: str) -> None:
    """Give a new file the old one's owner and mode; of another's file, only root can keep the owner."""
    present = path.stat()
    with contextlib.suppress(PermissionError):
        os.chown(temporary, present.st_uid, present.st_gid)
    shutil.copymode(path, temporary)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
