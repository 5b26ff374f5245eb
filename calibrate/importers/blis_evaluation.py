"""BLIS's evaluation runs (blis-schemas ``spec/evaluation``): a served benchmark, one point a concurrency.

A run is a YAML with ``kind: EvaluationRun``. It names its scenario and harness, but neither model nor degree, and does
not say whether a latency is a mean: its harness does, so it is taken as one. A point that lacks its lengths has them
filled by --input-tokens and --output-tokens.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calibrate.importers.imported import Imported
from calibrate.importers.run_folder import (
    Row,
    amount,
    entries,
    field,
    imported_runs,
    possible,
    read_runs,
    read_yaml,
)
from calibrate.records.errors import ImportFormatError

_KIND = "EvaluationRun"
_ENDS = ("*.yaml", "*.yml")
_LACKS = "no evaluation run: no .yaml or .yml file in it"
_FIGURES = {
    "num_requests": "completed_requests",
    "input_tokens_mean": "mean_isl",
    "output_tokens_mean": "mean_osl",
    "ttft_ms_mean": "ttft_ms",
    "itl_ms_mean": "itl_ms",
    "e2e_ms_mean": "e2e_ms",
    "output_tokens_per_s": "output_tokens_per_sec",
}
_LATENCIES = ("ttft_ms_mean", "itl_ms_mean", "e2e_ms_mean")
_NOTES = "Latencies are the harness's own, taken as means."


def read(source: str, gpu: str) -> Imported:
    """Read a run, or those of a folder. Raises ImportFormatError if a file or a field is missing or wrong."""
    serving, left_out = read_runs(source, _find, _LACKS, _run)
    return imported_runs(serving, left_out, gpu, {"notes": _NOTES})


def _find(root: Path) -> list[Path]:
    return sorted(path for end in _ENDS for path in root.rglob(end))


def _run(file: Path) -> tuple[list[Row], list[str]]:
    content = read_yaml(file)
    if content.get("kind") != _KIND:
        raise ImportFormatError(
            f"{file}: kind must be {_KIND}, got {str(content.get('kind'))[:60]!r}"
        )
    common = {
        "engine": f"vllm {field(content, 'engine_version', file)}",
        "run_id": str(field(content, "name", file)),
        "folder": file.resolve().parent.name,
        "load": "closed",
    }
    rows: list[Row] = []
    left_out = []
    for stage, point in enumerate(entries(content, "points", file)):
        where = f"{file}, point {stage + 1}"
        try:
            row = _point(point, where)
        except ImportFormatError as error:
            left_out.append(str(error))
            continue
        rows.append({**common, "stage": str(stage), **row})
    return rows, left_out


def _point(point: Any, where: str) -> Row:
    if not isinstance(point, Mapping):
        raise ImportFormatError(f"{where}: must hold named fields")
    concurrency = amount(point, "concurrency", where)
    if concurrency < 1:
        raise ImportFormatError(f"{where}: concurrency must be 1 or more, got {concurrency:g}")
    row: Row = {"concurrency": concurrency}
    for column, name in _FIGURES.items():
        if point.get(name) is not None:
            row[column] = amount(point, name, where)
    if not any(column in row for column in _LATENCIES):
        raise ImportFormatError(f"{where}: has no latency: neither ttft_ms, itl_ms nor e2e_ms")
    return possible({**row, **_cached(point, row, where)}, where)


def _cached(point: Mapping[str, Any], row: Row, where: str) -> Row:
    """Tokens of a prompt that the cache held, where the point says both their share and the prompt."""
    length = row.get("input_tokens_mean")
    if point.get("prefix_cache_hit_rate") is None or not isinstance(length, float):
        return {}
    share = amount(point, "prefix_cache_hit_rate", where)
    if share > 1.0:
        raise ImportFormatError(
            f"{where}: prefix_cache_hit_rate must be from 0 to 1, got {share:g}"
        )
    return {"cached_input_tokens_mean": share * length}
