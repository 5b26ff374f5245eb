"""Files written whole: a reader, or a crash, sees the old content or the new, never a part."""

import contextlib
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from calibrate.records.claims import claim, remove_abandoned

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
    owner. Raises OSError that names the file, which is then as it was.
    """
    try:
        if is_stdout(path):
            for part in parts:
                sys.stdout.write(part.decode("utf-8"))
            sys.stdout.flush()
        elif is_stream(path):
            with path.open("ab") as stream:
                stream.writelines(parts)
        else:
            _replace(Path(os.path.realpath(path)), parts)
    except BrokenPipeError:
        raise
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def _replace(path: Path, parts: Iterable[bytes]) -> None:
    for left in path.parent.glob(f".{glob.escape(path.name)}*.????????.tmp"):
        remove_abandoned(left)
    handle, temporary = _temporary_beside(path)
    try:
        with os.fdopen(handle, "wb") as file:  # held until it is in its place
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
            if path.exists():
                _take_over(path, temporary)
            else:
                temporary.chmod(0o644)
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def _temporary_beside(path: Path) -> tuple[int, Path]:
    """A new file, open and held: another process that clears away leftovers lets it be."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        if claim(handle, Path(name), unknown=True):
            return handle, Path(name)
        os.close(handle)


def _take_over(path: Path, temporary: Path) -> None:
    """Give a new file the old one's owner and mode; of another's file, only root can keep the owner."""
    present = path.stat()
    with contextlib.suppress(PermissionError):
        os.chown(temporary, present.st_uid, present.st_gid)
    shutil.copymode(path, temporary)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that it holds."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def sync(path: Path) -> None:
    """See a file's content, or a folder's names, onto the disk."""
    with contextlib.suppress(OSError):  # not every file system can
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
