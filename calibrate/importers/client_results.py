"""Result files of serving benchmarks: where they lie, what a file holds one after another, and which tool wrote it."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from calibrate.importers.log_beside import with_server_log
from calibrate.importers.run_folder import Row, possible
from calibrate.records.errors import ImportFormatError
from calibrate.records.reading.content import plain_name, read_log_text
from calibrate.records.reading.documents import CutOff, read_json_documents, records_of

_SIGNS = {
    "guidellm": {"benchmarks"},
    "inference-perf": {"load_summary", "successes"},
    "forward-pass-metrics": {"wall_time"},
    "otel": {"resourceSpans"},
    "vllm-latency": {"avg_latency", "latencies"},
    "aiperf": {"request_latency", "request_throughput"},
    "sglang-bench": {"mean_e2e_latency_ms"},
    "inferencemax": {"median_ttft", "median_tpot"},
    "vllm-bench": {"completed", "request_throughput"},
}
"""Fields that every result of a tool has, by the importer that reads it; the first that fits counts."""
_STRIPPED = {"vllm-bench": {"num_prompts", "mean_ttft_ms"}}
"""Fields of results out of which somebody took others."""
_NOT_SERVED = {
    "sglang.bench_offline_throughput": {"successful_requests", "total_latency"},
    "sglang.bench_one_batch": {"prefill_latency", "overall_throughput"},
    "vllm bench throughput": {"elapsed_time", "tokens_per_second"},
}
"""Fields of results that no importer reads, by what wrote them: they time no request."""
_PRINTED = "Serving Benchmark Result"
_SAVE = (
    "run the client with --save-result (SGLang's: --output-file) and import the file that it writes"
)
_SUMMARY = "summary"
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

    A result that cannot be read, or that another holds already, is left out; in a folder so is a file that cannot be
    read, or that another tool wrote. A vLLM server's log beside a result fills what it leaves open. Raises
    ImportFormatError if a file named by itself cannot be read, or no row is left.
    """
    root = Path(source)
    if not root.exists():
        raise ImportFormatError(f"{source}: no such file or folder")
    rows: list[Row] = []
    left_out: list[str] = []
    known: dict[str, str] = {}
    alone = not root.is_dir()
    for file in [root] if alone else _files(root, ends):
        run_id = file.stem if alone else file.relative_to(root).with_suffix("").as_posix()
        label = {"run_id": run_id, "folder": file.resolve().parent.name}
        try:
            results = list(_results(file, readers))
        except ImportFormatError as error:
            if alone:
                raise
            left_out.append(str(error))
            continue
        for stage, where, content in results:
            row = _row(content, where, importer, read_result, alone=alone)
            if isinstance(row, dict):
                row = _filled(row, content, file, where, known)
            if isinstance(row, str):
                left_out.append(row)
            else:
                rows.append({**row, **label, "stage": str(stage)})
    if not rows:
        raise ImportFormatError("\n".join([f"{source}: no result for {importer} in it", *left_out]))
    return pd.DataFrame(rows), tuple(left_out)


def _files(root: Path, ends: tuple[str, ...]) -> list[Path]:
    """The files of a folder, those last that sum up others."""
    files = [path for path in root.rglob("*") if plain_name(path).endswith(ends) and path.is_file()]
    results = [path for path in files if not plain_name(path).endswith(_SECOND_COPY)]
    return sorted(results, key=lambda path: (path.stem == _SUMMARY, path))


def _results(file: Path, readers: Readers) -> Iterator[tuple[int, str, object]]:
    """Each result of a file: its place in it, the words that say where it stands, and what it holds."""
    try:
        documents = readers.get(Path(plain_name(file)).suffix, read_results)(file)
    except ImportFormatError as error:
        if _is_printed(file):
            raise ImportFormatError(
                f"{file}: is the table that the client prints; {_SAVE}"
            ) from error
        raise
    contents = [content for document in documents for content in records_of(document)]
    for stage, content in enumerate(contents):
        yield stage, f"{file}, result {stage + 1}" if len(contents) > 1 else str(file), content


def _is_printed(file: Path) -> bool:
    try:
        return _PRINTED in read_log_text(file)
    except ImportFormatError:
        return False


def _row(
    content: object, where: str, importer: str, read_result: ReadResult, *, alone: bool
) -> Row | str:
    """The row of a result, or why it is left out. Alone, what no tool known here wrote has its lacks named instead."""
    if isinstance(content, CutOff):
        return f"{where}: {content}"
    writer = _writer(content)
    if other := _not_served(content):
        return f"{where}: is of {other}, which times no request: no importer reads it"
    try:
        if isinstance(content, dict) and (writer == importer or (alone and writer is None)):
            row = read_result(content, where)
            return f"{where}: {row}" if isinstance(row, str) else possible(row, where)
        if alone:
            check_writer(content, importer, where)
    except ImportFormatError as error:
        return str(error) if where in str(error) else f"{where}: {error}"
    reason = _OTHER.format(writer, importer) if writer else f"is no result for {importer}"
    return f"{where}: {reason}"


def _filled(row: Row, content: object, file: Path, where: str, known: dict[str, str]) -> Row | str:
    """The row with what its server's log says; or why it is left out. ``known`` are the results read so far."""
    same = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    if same in known:
        return f"{where}: is again what {known[same]} holds"
    known[same] = where
    try:
        return with_server_log(row, file)
    except ImportFormatError as error:
        return f"{where}: {error}"


def check_writer(content: object, importer: str, where: str) -> None:
    """Raise ImportFormatError if a result is known to be another tool's, or has no named fields."""
    writer = _writer(content)
    if not isinstance(content, dict):
        raise ImportFormatError(f"{where}: must hold named fields, not {type(content).__name__}")
    if writer not in (importer, None):
        raise ImportFormatError(f"{where}: {_OTHER.format(writer, importer)}")


def _writer(content: object) -> str | None:
    """The importer that reads such a result; None for what no tool known here writes."""
    return _first(_SIGNS, content) or _first(_STRIPPED, content)


def _not_served(content: object) -> str | None:
    return _first(_NOT_SERVED, content)


def _first(signs: Mapping[str, set[str]], content: object) -> str | None:
    """The first name all of whose fields the content has."""
    if not isinstance(content, dict):
        return None
    return next((name for name, fields in signs.items() if fields <= content.keys()), None)
