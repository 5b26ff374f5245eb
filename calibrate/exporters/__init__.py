"""Exporters: each turns a GPU's parameters into the file of another tool.

In: a configuration, or a run. Out: the text of a file.
Uses: outcome, importers and below.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from calibrate.exporters import (
    aiconfigurator,
    bench_data,
    blis,
    blis_files,
    blis_trained_physics,
    genz,
    llm_optimizer,
    own_json,
)
from calibrate.exporters.exported import Exported, Source
from calibrate.records.errors import CalibrateError
from calibrate.records.files import is_stream, remove, replace_text
from calibrate.records.folders import replaced_folder
from sim.errors import nearest

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


@dataclasses.dataclass(frozen=True)
class Exporter:
    """``write`` makes the text of a file, or of a folder's files; ``end`` is how a file's name ends ('': a folder)."""

    write: Callable[[Source], Exported]
    summary: str
    end: str = ".json"


EXPORTERS: dict[str, Exporter] = {
    "blis": Exporter(
        blis.write, "today's hardware_config.json of BLIS, its two MFUs fitted to its roofline"
    ),
    "blis-trained-physics": Exporter(
        blis_trained_physics.write,
        "BLIS's trained_physics_coefficients, fitted to the campaigns",
        ".yaml",
    ),
    "blis-v1": Exporter(
        blis_files.write_v1, "the 17 keys of the calibration guide, for roofline-v1"
    ),
    "blis-v2": Exporter(blis_files.write_v2, "6 keys that go with a benchmark database"),
    "blis-minimal": Exporter(
        blis_files.write_minimal, "the 2 peaks that go with a benchmark database"
    ),
    "aiconfigurator": Exporter(aiconfigurator.write, "a system file of AIConfigurator", ".yaml"),
    "genz": Exporter(genz.write, "a system of GenZ"),
    "llm-optimizer": Exporter(
        llm_optimizer.write, "a GPU of BentoML's llm-optimizer, with two MFUs"
    ),
    "bench-data": Exporter(
        bench_data.write, "the kernel tables as the database of roofline-v2, a folder", ""
    ),
    "json": Exporter(own_json.write, "every value by name; with intervals from a run"),
}


def export(name: str, source: Source) -> Exported:
    """What the exporter of that name makes. Raises CalibrateError for an unknown name; and what the exporter raises."""
    if name not in EXPORTERS:
        raise CalibrateError(
            f"no exporter {name!r} (there are {', '.join(EXPORTERS)}){nearest(name, EXPORTERS)}"
        )
    return EXPORTERS[name].write(source)


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


def _write_folder(texts: Mapping[str, str], path: Path, force: bool) -> list[Path]:
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
            replace_text(new / name, text)
    return [path / name for name in texts]


def _refuse_present(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise CalibrateError(
            f"{path}: is there already; give another place, or --force to replace it"
        )
