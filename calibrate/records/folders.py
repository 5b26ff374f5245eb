"""Folders written whole: a reader, or a crash, sees the old files or the new, never some of each.

A folder ``name`` is built in ``.name.swap/new`` beside it. Then two renames take the old one to ``.name.swap/old`` and
the new one to its place. Of a process killed between the two, the next one puts the old folder back.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from calibrate.records.errors import CalibrateError
from calibrate.records.files import sync
from calibrate.records.interrupts import uninterrupted
from calibrate.records.workshop import abandoned_workshop, workshop

_END = ".swap"
_INSTANT_S = 0.01
_INSTANTS = 100


def identity(folder: Path) -> tuple[int, int, int] | None:
    """What tells a folder from another that has taken its name; None where there is none."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns


@contextlib.contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A copy of ``folder`` to change, empty where there is none: it takes the folder's place, or nothing changes.

    Another process that writes the same folder is waited for. Raises CalibrateError, naming the file, for what cannot
    be written.
    """
    target = Path(os.path.realpath(folder))
    if Path.cwd().is_relative_to(target) and target.exists():
        raise CalibrateError(f"{folder}: is the working folder; run the command from another one")
    shop = _workshop_of(target)
    new = shop / "new"
    with _named_errors(new, folder), workshop(shop):
        _put_back(shop, target)
        _copy_folder(target, new)
        yield new
        _sync_all(new)
        with uninterrupted():
            _swap(new, target)


@contextlib.contextmanager
def filled_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to write into; its files then go to their places in ``folder``, each in one step.

    For a folder that holds other things too. Raises CalibrateError, naming the file, for what cannot be written.
    """
    new = folder / ".new" / "new"
    with _named_errors(new, folder), workshop(new.parent):
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        yield new
        _sync_all(new)
        for file in sorted(path for path in new.rglob("*") if path.is_file()):
            place = folder / file.relative_to(new)
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)


def put_back_folders(parent: Path) -> None:
    """Put back the folders in ``parent`` that killed processes left set aside, and remove what they left else.

    Of a living process, the instant between its two renames is waited for. Raises CalibrateError for one that cannot
    be put back.
    """
    for shop in sorted(parent.glob(f".*{_END}")):
        target = _target_of(shop)
        with abandoned_workshop(shop) as is_ours:
            if is_ours:
                _put_back(shop, target)
        _wait_for_swap(shop, target)


def _wait_for_swap(shop: Path, target: Path) -> None:
    for _ in range(_INSTANTS):
        if not _is_parted(shop, target):
            return
        time.sleep(_INSTANT_S)
    raise CalibrateError(
        f"{shop / 'old'}: set aside by a process that was killed, and cannot be put back. Rename it to {target}"
    )


def _workshop_of(target: Path) -> Path:
    return target.with_name(f".{target.name}{_END}")


def _target_of(shop: Path) -> Path:
    return shop.with_name(shop.name.removeprefix(".").removesuffix(_END))


def _put_back(shop: Path, target: Path) -> None:
    """Undo a swap that was stopped between its renames; then clear away what it was to be."""
    if _is_parted(shop, target):
        (shop / "old").rename(target)
    for left in (shop / "new", shop / "old"):
        if left.exists():
            shutil.rmtree(left)


def _is_parted(shop: Path, target: Path) -> bool:
    """Whether the old folder is set aside and the new one not in its place. Only then are there both."""
    return (shop / "old").exists() and (shop / "new").exists() and not target.exists()


def _copy_folder(source: Path, new: Path) -> None:
    """Copy a folder with modes, times, links and, as far as the system lets it, owners; no folder is an empty one."""
    new.mkdir()
    if not source.exists():
        return
    for path in source.iterdir():
        if path.is_dir() and not path.is_symlink():
            _copy_folder(path, new / path.name)
        else:
            shutil.copy2(path, new / path.name, follow_symlinks=False)
            _keep_owner(path, new / path.name)
    shutil.copystat(source, new)
    _keep_owner(source, new)


def _keep_owner(source: Path, place: Path) -> None:
    present = source.lstat()
    with contextlib.suppress(PermissionError):  # of another's file, only root can
        os.chown(place, present.st_uid, present.st_gid, follow_symlinks=False)


def _sync_all(folder: Path) -> None:
    """See a folder's files onto the disk, before a rename that says they are there."""
    for path in [*folder.rglob("*"), folder]:
        if not path.is_symlink():
            sync(path)


def _swap(new: Path, target: Path) -> None:
    old = new.with_name("old")
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    sync(target.parent)


@contextlib.contextmanager
def _named_errors(new: Path, folder: Path) -> Iterator[None]:
    """Turn an OSError into a CalibrateError that names the file as it was to be called."""
    try:
        yield
    except OSError as error:
        named = Path(str(error.filename2 or error.filename or new))
        file = folder / named.relative_to(new) if named.is_relative_to(new) else folder
        raise CalibrateError(
            f"{file}: cannot be written: {error.strerror or error}; {folder} is as it was"
        ) from error
