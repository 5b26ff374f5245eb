"""Result files of serving benchmarks: where they lie, what a file holds one after another, and which tool wrote it."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from calibrate.importers.run_folder import Row
from calibrate.records.errors import ImportFormatError
from calibrate.records.reading.content import plain_name
from calibrate.records.reading.documents import CutOff, read_json_documents, records_of

_SIGNS = {
    "guidellm": {"benchmarks"},
    "inference-perf": {"load_summary", "successes"},
    "forward-pass-metrics": {"wall_time"},
    "otel": {"resourceSpans"},
    "vllm-latency": {"avg_latency", "latencies"},
    "aiperf": {"request_latency", "request_throughput"},
    "sglang-bench": {"mean_e2e_latency_ms", "request_throughput"},
    "vllm-bench": {"completed", "request_throughput"},
}
"""Fields that every result of a tool has, by the importer that reads it; the first that fits counts."""
_SECOND_COPY = ".pytorch.json"  # vLLM's clients write the same figures again, for another reader
_OTHER = "is for `calibrate import {}`, not for {}"

ReadResult = Callable[[dict[str, Any], str], Row | str]
"""Turns one result, and the words that say where it stands, into its row; or into why it is left out."""
Readers = Mapping[str, Callable[[Path], list[object]]]
"""What reads the results of a file, by the file's suffix."""


def read_results(path: Path) -> list[object]:
    """The JSON values of a file. Raises ImportFormatError if it cannot be read or holds none."""
    return [document for _, document in read_json_documents(path)]


JSON_READERS: Readers = {".json": read_results, ".jsonl": read_results}


def read_rows(
    source: str,
    importer: str,
    read_result: ReadResult,
    readers: Readers = JSON_READERS,
    ends: tuple[str, ...] = (".json", ".jsonl"),
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The ``serving`` rows of a file, or of the files in a folder and below whose names end so; and what was left out.

    In a folder, what another tool wrote is left out. Raises ImportFormatError if a file cannot be read, a file named
    by itself is another tool's, or no row is left.
    """
    root = Path(source)
    if not root.exists():
        raise ImportFormatError(f"{source}: no such file or folder")
    rows: list[Row] = []
    left_out = []
    for file in _files(root, ends) if root.is_dir() else [root]:
        run_id = file.relative_to(root).with_suffix("").as_posix() if root.is_dir() else file.stem
        label = {"run_id": run_id, "folder": file.resolve().parent.name}
        for stage, where, content in _results(file, readers, alone=not root.is_dir()):
            row = _row(content, where, importer, read_result, alone=not root.is_dir())
            if isinstance(row, str):
                left_out.append(f"{where}: {row}")
            else:
                rows.append({**row, **label, "stage": str(stage)})
    if not rows:
        raise ImportFormatError("\n".join([f"{source}: no result for {importer} in it", *left_out]))
    return pd.DataFrame(rows), tuple(left_out)


def _files(root: Path, ends: tuple[str, ...]) -> list[Path]:
    files = [path for path in root.rglob("*") if plain_name(path).endswith(ends) and path.is_file()]
    return sorted(path for path in files if not plain_name(path).endswith(_SECOND_COPY))


def _results(file: Path, readers: Readers, *, alone: bool) -> Iterator[tuple[int, str, object]]:
    """Each result of a file: its place in it, the words that say where it stands, and what it holds.

    Alone, a list is that of its results; beside others it is a tool's summary of them.
    """
    documents = readers.get(Path(plain_name(file)).suffix, read_results)(file)
    if alone:
        documents = [record for document in documents for record in records_of(document)]
    for stage, content in enumerate(documents):
        yield stage, f"{file}, result {stage + 1}" if len(documents) > 1 else str(file), content


def _row(
    content: object, where: str, importer: str, read_result: ReadResult, *, alone: bool
) -> Row | str:
    """The row of a result, or why it is left out. Alone, what no tool known here wrote has its lacks named instead."""
    if isinstance(content, CutOff):
        return str(content)
    writer = _writer(content)
    if isinstance(content, dict) and (writer == importer or (alone and writer is None)):
        return read_result(content, where)
    if alone:
        check_writer(content, importer, where)
    return _OTHER.format(writer, importer) if writer else f"is no result for {importer}"


def check_writer(content: object, importer: str, where: str) -> None:
    """Raise ImportFormatError if a result is known to be another tool's, or has no named fields."""
    writer = _writer(content)
    if not isinstance(content, dict):
        raise ImportFormatError(f"{where}: must hold named fields, not {type(content).__name__}")
    if writer not in (importer, None):
        raise ImportFormatError(f"{where}: {_OTHER.format(writer, importer)}")


def _writer(content: object) -> str | None:
    """The importer that reads such a result; None for what no tool known here writes."""
    if not isinstance(content, dict):
        return None
    return next((name for name, signs in _SIGNS.items() if signs <= content.keys()), None)
