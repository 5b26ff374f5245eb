"""Exported texts as a file, or as the files of a folder: all of them or none."""

import re
from collections.abc import Mapping
from pathlib import Path

from calibrate.exporters.exported import Exported
from calibrate.records.errors import CalibrateError
from calibrate.records.files import is_stream, remove, replace_bytes, replace_text
from calibrate.records.folders import replaced_folder

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


def write_exported(exported: Exported, path: Path, *, force: bool = False) -> list[Path]:
    """Write the file, or the folder with its files, in one step; return their paths.

    Raises CalibrateError if one is there already (unless ``force``), cannot be written, or is no plain name, and for a
    folder that holds other things.
    """
    if isinstance(exported.text, str):
        return [_write_file(exported.text, path, force)]
    return _write_folder(exported.text, path, force)


def _write_file(text: str, path: Path, force: bool) -> Path:
    if not path.parent.is_dir():
        raise CalibrateError(f"{path.parent}: no such folder to write {path.name} into")
    if not is_stream(path):
        _refuse_present(path, force)
    try:
        replace_text(path, text)
    except OSError as error:
        raise CalibrateError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def _write_folder(texts: Mapping[str, str | bytes], path: Path, force: bool) -> list[Path]:
    if is_stream(path):
        raise CalibrateError(f"{path}: the format has several files; give a folder")
    for name in texts:
        if not all(_PART.fullmatch(part) and ".." not in part for part in name.split("/")):
            raise CalibrateError(f"{name!r}: not a path that can be written")
        _refuse_present(path / name, force)
    ours = {name.partition("/")[0] for name in texts}
    with replaced_folder(path) as new:
        for present in sorted(new.iterdir()):
            if present.name not in ours:
                raise CalibrateError(
                    f"{path}: holds other things ({present.name}); give a folder of its own"
                )
            remove(present)
        for name, text in texts.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            content = text if isinstance(text, bytes) else text.encode()
            replace_bytes(new / name, content)
    return [path / name for name in texts]


def _refuse_present(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise CalibrateError(
            f"{path}: is there already; give another place, or --force to replace it"
        )
