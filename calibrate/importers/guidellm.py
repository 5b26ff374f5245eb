"""Result folders of GuideLLM: one row of ``serving`` a benchmark of ``guidellm-results.json``.

A throughput benchmark sends all its requests at once, so it is a closed load of as many (or of the client's limit,
where that is less). Latencies and lengths are of the successful requests. Source: github.com/vllm-project/guidellm
0.6.
"""

from pathlib import Path
from typing import Any

from calibrate.errors import ImportFormatError
from calibrate.importers.imported import Imported
from calibrate.importers.run_folder import (
    Row,
    entries,
    field,
    folder_label,
    imported_runs,
    number,
    read_json,
    read_runs,
    section,
)
from calibrate.importers.server import read_server

_RESULTS = "guidellm-results.json"
_OPEN_LOADS = {"constant": "constant", "async": "constant", "poisson": "poisson"}
_CLOSED_LOADS = {"synchronous", "concurrent", "throughput"}
_LATENCIES = {
    "ttft": ("time_to_first_token_ms", 1.0),
    "itl": ("inter_token_latency_ms", 1.0),
    "e2e": ("request_latency", 1000.0),
}
_STATISTICS = {"mean": "mean", "p50": "percentiles.p50", "p90": "percentiles.p90", "p99": "percentiles.p99"}
_NOTES = (
    "Figures of the successful requests. output_tokens_per_s is their tokens over the benchmark's duration; "
    "cached_input_tokens_mean is the server's prefix cache hit rate at its end times the mean prompt."
)


def read(source: str, gpu: str) -> Imported:
    """Read a run's folder, or a folder of them. Raises ImportFormatError if a file or a field is missing."""
    serving, left_out = read_runs(source, _RESULTS, "GuideLLM", _run)
    return imported_runs(serving, left_out, gpu, {"notes": _NOTES})


def _run(folder: Path) -> tuple[list[Row], list[str]]:
    path = folder / _RESULTS
    results = read_json(path)
    arguments = section(results, "args")
    server = read_server(folder, arguments.get("model"))
    cached = server.pop("prefix_hit_rate", None)
    label = folder_label(folder, Path(str(arguments.get("output_dir") or "")).name)
    common: Row = {"engine": "", **server, "folder": label, "run_id": folder.name}
    rows: list[Row] = []
    left_out = []
    for stage, benchmark in enumerate(entries(results, "benchmarks", path)):
        if number(benchmark, "metrics.request_totals.successful", path):
            row = {**common, "stage": str(stage), **_measured(benchmark, path), **_asked(benchmark, path)}
            rows.append(_with_cached(row, cached))
        else:
            left_out.append(f"{folder.name}, benchmark {stage}: no request succeeded")
    return rows, left_out


def _asked(benchmark: Any, path: Path) -> Row:
    strategy = str(field(benchmark, "config.strategy.type_", path))
    if strategy in _OPEN_LOADS:
        return {"load": _OPEN_LOADS[strategy], "request_rate": number(benchmark, "config.strategy.rate", path)}
    if strategy not in _CLOSED_LOADS:
        known = ", ".join((*_OPEN_LOADS, *sorted(_CLOSED_LOADS)))
        raise ImportFormatError(f"{path}: the strategy {strategy!r} is not known (known: {known})")
    requests = number(benchmark, "metrics.request_totals.total", path)
    if section(benchmark, "config.strategy").get("max_concurrency") is None:
        return {"load": "closed", "concurrency": requests}
    limit = number(benchmark, "config.strategy.max_concurrency", path)
    return {"load": "closed", "concurrency": min(requests, limit)}


def _measured(benchmark: Any, path: Path) -> Row:
    def successful(metric: str, statistic: str) -> float:
        return number(benchmark, f"metrics.{metric}.successful.{statistic}", path)

    row: Row = {
        "num_requests": number(benchmark, "metrics.request_totals.total", path),
        "failed_requests": number(benchmark, "metrics.request_totals.errored", path),
    }
    for column, metric in (("input", "prompt_token_count"), ("output", "output_token_count")):
        row[f"{column}_tokens_mean"] = successful(metric, "mean")
        row[f"{column}_tokens_std"] = round(successful(metric, "std_dev"), 4)
    for name, (metric, scale) in _LATENCIES.items():
        for column, statistic in _STATISTICS.items():
            row[f"{name}_ms_{column}"] = round(successful(metric, statistic) * scale, 4)
    duration = number(benchmark, "duration", path)
    if duration > 0:
        row["output_tokens_per_s"] = successful("output_token_count", "total_sum") / duration
    row["requests_per_s"] = successful("requests_per_second", "mean")
    return row


def _with_cached(row: Row, hit_rate: object) -> Row:
    tokens = row["input_tokens_mean"]
    if not isinstance(hit_rate, float) or not isinstance(tokens, float):
        return row
    return {**row, "cached_input_tokens_mean": round(hit_rate * tokens, 1)}
