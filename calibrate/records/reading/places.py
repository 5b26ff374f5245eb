"""Folders of files on this machine or at a URL, such as ``s3://bucket/log``, that fsspec reaches."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from calibrate.records.distribution import install_extra
from calibrate.records.errors import CalibrateError, Problem, UnreadableError
from calibrate.records.files import replace_bytes
from calibrate.records.reading.content import named

_EXTRA = install_extra("cloud")
_HIDDEN = (".", "_")


def is_url(place: str) -> bool:
    """Whether a place is a URL, and no path of this machine."""
    return "://" in place


def beside(place: str, name: str) -> str:
    """The place of that name in a folder."""
    return f"{place.rstrip('/')}/{name}" if is_url(place) else str(Path(place) / name)


def files_in(place: str, ends: tuple[str, ...]) -> list[str]:
    """The files under a folder whose names end so, sorted; hidden ones (``.…``, ``_…``) left out.

    Raises UnreadableError for a folder that is not there or a URL that cannot be reached, CalibrateError where the
    extra is not installed.
    """
    found = _files_at(place) if is_url(place) else _local_files(place)
    return sorted(file for file in found if file.endswith(ends) and _is_shown(file, place))


def size_of(place: str) -> int:
    """Bytes of a file. Raises as :func:`files_in`."""
    if not is_url(place):
        with named(Path(place)):
            return Path(place).stat().st_size
    with _reached(place):
        size: int = _filesystem(place).size(place)
        return size


def is_folder(place: str) -> bool:
    """Whether a place is a folder. Raises as :func:`files_in`."""
    if not is_url(place):
        return Path(place).is_dir()
    with _reached(place):
        return bool(_filesystem(place).isdir(place))


@contextlib.contextmanager
def opened_place(place: str) -> Iterator[IO[bytes]]:
    """A file to be read, at any place in it. Raises as :func:`files_in`."""
    if not is_url(place):
        with named(Path(place)), Path(place).open("rb") as file:
            yield file
        return
    with _reached(place), _filesystem(place).open(place, "rb") as file:
        yield file


def write_place(place: str, content: bytes) -> None:
    """Write a file, and the folders above it, in one step. Raises as :func:`files_in`, and OSError."""
    if not is_url(place):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(Path(place), content)
        return
    with _reached(place):
        files = _filesystem(place)
        files.makedirs(place.rsplit("/", 1)[0], exist_ok=True)
        files.pipe_file(place, content)


def _local_files(place: str) -> list[str]:
    with named(Path(place)):
        os.scandir(place).close()  # a folder that is not there is named as any other
        return [str(file) for file in Path(place).rglob("*") if file.is_file()]


def _files_at(place: str) -> list[str]:
    with _reached(place):
        files = _filesystem(place)
        found = files.find(place)
        return [files.unstrip_protocol(file) for file in found]


def _is_shown(file: str, place: str) -> bool:
    inside = file.split("://")[-1].removeprefix(place.split("://")[-1])
    return not any(part.startswith(_HIDDEN) for part in PurePosixPath(inside).parts)


def _filesystem(place: str) -> Any:
    try:
        import fsspec
    except ImportError as error:
        raise CalibrateError(f"{place}: URLs need the extra cloud: {_EXTRA}") from error
    protocol = place.partition("://")[0]
    try:
        return fsspec.core.url_to_fs(place)[0]
    except ImportError as error:
        raise CalibrateError(f"{place}: {protocol}:// needs the extra cloud: {_EXTRA}") from error
    except ValueError as error:
        raise CalibrateError(
            f"{place}: {protocol}:// is not known; give a folder, s3://… or gs://…"
        ) from error


@contextlib.contextmanager
def _reached(place: str) -> Iterator[None]:
    """Whatever keeps a URL from being read, as an error that names it: each store raises errors of its own."""
    try:
        yield
    except Exception as error:
        if isinstance(error, CalibrateError):  # says where already
            raise
        words = (str(error).splitlines() or [type(error).__name__])[0][:200]
        what = f"cannot be reached: {words or type(error).__name__}"
        fix = "Check the URL, the network and its credentials"
        raise UnreadableError(Problem("error", place, what, fix)) from error
