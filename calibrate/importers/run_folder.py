"""Reading the folder that a serving benchmark leaves behind: where runs lie, and their YAML and JSON files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from calibrate.importers.imported import Imported
from calibrate.records.errors import ImportFormatError
from calibrate.records.reading import documents
from calibrate.records.schema import TABLES

_LARGEST = 1e300

Row = dict[str, object]
ReadRun = Callable[[Path], tuple[list[Row], list[str]]]
"""The rows of the run that a file belongs to, and what was left out, in words."""


def read_runs(
    source: str, markers: Sequence[str], tool: str, read_run: ReadRun
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The ``serving`` rows of a run's folder, or of every run in a folder of them.

    Each run has one of the ``markers``, files of which the first that is there goes to ``read_run``; one may be given
    by itself. Raises ImportFormatError if there is no run, or no row in any.
    """
    root = Path(source).resolve()
    if not root.exists():
        raise ImportFormatError(
            f"{source}: no such folder; give a run's folder, or a folder of such folders"
        )
    files = _marked(root, markers) if root.is_dir() else [root]
    if not files:
        names = " or ".join(markers)
        raise ImportFormatError(
            f"{source}: no {tool} run: neither it nor a folder in it holds {names}"
        )
    rows: list[Row] = []
    left_out: list[str] = []
    for file in files:
        found, empty = read_run(file)
        rows += found
        left_out += empty
    if not rows:
        raise ImportFormatError(f"{source}: no request in it succeeded")
    return pd.DataFrame(rows), tuple(left_out)


def _marked(root: Path, markers: Sequence[str]) -> list[Path]:
    """The first marker of each run, by the run's folder."""
    runs: dict[Path, Path] = {}
    for marker in markers:
        for path in (*root.glob(marker), *root.glob(f"*/{marker}")):
            runs.setdefault(path.parents[marker.count("/")], path)
    return [runs[folder] for folder in sorted(runs)]


def imported_runs(
    serving: pd.DataFrame, left_out: tuple[str, ...], gpu: str, info: Mapping[str, object]
) -> Imported:
    """What an importer of serving runs returns; ``info`` adds to, or replaces, what the rows say of themselves."""
    serving = serving[[column.name for column in TABLES["serving"] if column.name in serving]]
    models = distinct(serving, "model")
    said = {
        "title": f"Serving runs on {gpu}" + (f": {models}" if models else ""),
        "source": "say here where the runs are from",
        "licence": "",
        "kind": "measured",
        "engine": distinct(serving, "engine"),
        "hardware": gpu,
        "itl": "unknown",
    }
    return Imported({"serving": serving}, {**said, **info}, left_out)


def distinct(serving: pd.DataFrame, column: str) -> str:
    """The texts of a column, each once; empty without it."""
    return ", ".join(sorted(set(serving[column].dropna()) - {""})) if column in serving else ""


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping. Raises ImportFormatError if it cannot be read or holds something else."""
    return _mapping(documents.read_yaml(path), path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises ImportFormatError if it cannot be read or holds something else."""
    return _mapping(documents.read_json(path), path)


def field(content: Any, path: str, where: Path | str) -> Any:
    """The entry of nested mappings under a dotted ``path``. Raises ImportFormatError naming the file and the path."""
    here = content
    for key in path.split("."):
        if not isinstance(here, Mapping) or key not in here:
            raise ImportFormatError(f"{where}: the field {path} is missing")
        here = here[key]
    return here


def section(content: Any, path: str) -> Mapping[str, Any]:
    """The nested mapping under a dotted ``path``, for optional fields: empty where there is none."""
    here = content
    for key in path.split("."):
        here = here.get(key) if isinstance(here, Mapping) else None
    return here if isinstance(here, Mapping) else {}


def number(content: Any, path: str, where: Path | str) -> float:
    """The number under a dotted ``path``. Raises ImportFormatError if it is missing or something else."""
    value = field(content, path, where)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        raise ImportFormatError(f"{where}: {path} must be a number, got {str(value)[:60]!r}")
    return float(value)


def amount(content: Any, path: str, where: Path | str) -> float:
    """The number of 0 or more under a dotted ``path``. Raises ImportFormatError if it is missing or something else."""
    value = number(content, path, where)
    if value < 0:
        raise ImportFormatError(f"{where}: {path} must be 0 or more, got {value:g}")
    return value


def entries(content: Any, path: str, where: Path | str) -> Sequence[Any]:
    """The list under a dotted ``path``. Raises ImportFormatError if it is missing or something else."""
    value = field(content, path, where)
    if not isinstance(value, list):
        raise ImportFormatError(f"{where}: {path} must be a list")
    return value


def folder_label(folder: Path, written_as: object) -> str:
    """The name of a run's folder, with the one under which the client wrote it where that was another."""
    written = str(written_as or "")
    return (
        folder.name
        if written.startswith(folder.name) or not written
        else f"{folder.name} (was {written})"
    )


def _mapping(content: object, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ImportFormatError(f"{path}: must hold named fields, not {type(content).__name__}")
    return content
