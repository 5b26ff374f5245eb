"""Reading the folder that a serving benchmark leaves behind: where runs lie, and their YAML and JSON files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from calibrate.importers.imported import Imported
from calibrate.importers.thresholds import ROUNDING
from calibrate.records.errors import ImportFormatError
from calibrate.records.reading import documents
from calibrate.records.schema import TABLES

_LARGEST = 1e300

Row = dict[str, object]
WARNING, SERVER_LOG = "warning", "server_log"
"""No columns: what to warn of a row, and the server's log that was found beside its result."""
FindRuns = Callable[[Path], Sequence[Path]]
"""The runs in a folder, each by one of its files."""
ReadRun = Callable[[Path], tuple[list[Row], list[str]]]
"""The rows of the run that a file belongs to, and what was left out, in words."""


def read_runs(
    source: str, find: FindRuns, lacks: str, read_run: ReadRun
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The ``serving`` rows of every run that ``find`` finds in a folder, or of one that is given by its file.

    A run that cannot be read is left out. Raises ImportFormatError, with what a folder ``lacks``, if there is no run,
    or no row in any.
    """
    root = Path(source).resolve()
    if not root.exists():
        raise ImportFormatError(
            f"{source}: no such folder; give a run's folder, or a folder of such folders"
        )
    files = find(root) if root.is_dir() else [root]
    if not files:
        raise ImportFormatError(f"{source}: {lacks}")
    rows: list[Row] = []
    left_out: list[str] = []
    for file in files:
        try:
            found, empty = read_run(file)
        except ImportFormatError as error:
            found, empty = [], [str(error)]
        rows += found
        left_out += empty
    if not rows:
        nothing = "nothing in it can be imported" if left_out else "no request in it succeeded"
        raise ImportFormatError("\n".join([f"{source}: {nothing}", *left_out]))
    return pd.DataFrame(rows), tuple(left_out)


def marked(root: Path, markers: Sequence[str]) -> list[Path]:
    """The first of the ``markers`` that each run in ``root`` has, by the run's folder: itself, and those in it."""
    runs: dict[Path, Path] = {}
    for marker in markers:
        for path in (*root.glob(marker), *root.glob(f"*/{marker}")):
            runs.setdefault(path.parents[marker.count("/")], path)
    return [runs[folder] for folder in sorted(runs)]


def possible(row: Row, where: Path | str) -> Row:
    """The row itself. Raises ImportFormatError if its means cannot be those of one run."""
    ttft_ms, e2e_ms = (row.get(f"{what}_ms_mean") for what in ("ttft", "e2e"))
    if not isinstance(ttft_ms, float) or not isinstance(e2e_ms, float):
        return row
    if e2e_ms < (1.0 - ROUNDING) * ttft_ms:
        raise ImportFormatError(
            f"{where}: its mean end-to-end time, {e2e_ms:g} ms, is below its mean time to first token, {ttft_ms:g} ms"
        )
    return row


def imported_runs(
    serving: pd.DataFrame, left_out: tuple[str, ...], gpu: str, info: Mapping[str, object]
) -> Imported:
    """What an importer of serving runs returns; ``info`` adds to, or replaces, what the rows say of themselves."""
    warnings = _warnings(serving)
    logs = distinct(serving, SERVER_LOG)
    beside = f"From the server's log beside each result: {logs}." if logs else ""
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
    notes = " ".join(filter(None, [str(info.get("notes", "")), beside, *warnings]))
    noted = {"notes": notes} if notes else {}
    return Imported({"serving": serving}, {**said, **info, **noted}, left_out, warnings)


def _warnings(serving: pd.DataFrame) -> tuple[str, ...]:
    """The warnings of rows, each with its run and stage."""
    if WARNING not in serving:
        return ()
    rows = serving[serving[WARNING].notna()]
    labels = zip(rows["run_id"], rows["stage"], rows[WARNING], strict=True)
    return tuple(f"{run_id}, result {int(stage) + 1}: {text}." for run_id, stage, text in labels)


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
