"""Results of GuideLLM: one row of ``serving`` a benchmark of ``benchmarks.json`` or ``guidellm-results.json``.

Until version 0.3 a benchmark's strategy is under ``args`` and its ``request_totals`` beside ``metrics``; from 0.4 on
they are under ``config`` and in ``metrics``. What ran is in the folder's server log, or for the user to say. A
throughput benchmark sends all its requests at once, so it is a closed load of as many (or of the client's limit, where
that is less). Latencies and lengths are of the successful requests. Source: github.com/vllm-project/guidellm 0.2 to
0.6.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calibrate.importers.client_results import check_writer, read_results
from calibrate.importers.imported import Imported
from calibrate.importers.run_folder import (
    Row,
    amount,
    entries,
    field,
    folder_label,
    imported_runs,
    read_runs,
    section,
)
from calibrate.importers.server import read_server, with_cached
from calibrate.records.errors import ImportFormatError
from sim.units import MS_PER_S

_RESULTS = ("guidellm-results.json", "benchmarks.json")
_OPEN_LOADS = {"constant": "constant", "async": "constant", "poisson": "poisson"}
_CLOSED_LOADS = {"synchronous", "concurrent", "throughput"}
_LATENCIES = {
    "ttft": ("time_to_first_token_ms", 1.0),
    "itl": ("inter_token_latency_ms", 1.0),
    "e2e": ("request_latency", MS_PER_S),
}
_STATISTICS = {
    "mean": "mean",
    "p50": "percentiles.p50",
    "p90": "percentiles.p90",
    "p99": "percentiles.p99",
}
_NOTES = (
    "Figures of the successful requests. output_tokens_per_s is their tokens over the benchmark's duration; "
    "cached_input_tokens_mean is the server's prefix cache hit rate at its end times the mean prompt."
)


def read(source: str, gpu: str) -> Imported:
    """Read a file, a run's folder, or a folder of them. Raises ImportFormatError if a file or a field is missing."""
    serving, left_out = read_runs(source, _RESULTS, "GuideLLM", _run)
    return imported_runs(serving, left_out, gpu, {"notes": _NOTES})


def _run(path: Path) -> tuple[list[Row], list[str]]:
    results, folder = read_results(path)[0], path.parent
    check_writer(results, "guidellm", str(path))
    arguments = section(results, "args")
    benchmarks = entries(results, "benchmarks", path)
    server = read_server(folder, arguments.get("model") or _model(benchmarks))
    cached = server.pop("prefix_hit_rate", None)
    label = folder_label(folder, Path(str(arguments.get("output_dir") or "")).name)
    common: Row = {"engine": "", **server, "folder": label, "run_id": folder.name}
    rows: list[Row] = []
    left_out = []
    for stage, benchmark in enumerate(benchmarks):
        if amount(benchmark, f"{_totals(benchmark)}.successful", path):
            row = {
                **common,
                "stage": str(stage),
                **_measured(benchmark, path),
                **_asked(benchmark, path),
            }
            rows.append(with_cached(row, cached))
        else:
            left_out.append(f"{folder.name}, benchmark {stage}: no request succeeded")
    return rows, left_out


def _model(benchmarks: Sequence[Any]) -> object:
    """What the first benchmark calls its model: under ``worker`` until 0.3, under ``config.backend`` from 0.4 on."""
    first = benchmarks[0] if benchmarks else None
    return section(first, "worker").get("backend_model") or section(first, "config.backend").get(
        "model"
    )


def _totals(benchmark: Any) -> str:
    return "request_totals" if section(benchmark, "request_totals") else "metrics.request_totals"


def _asked(benchmark: Any, path: Path) -> Row:
    place = "args.strategy" if section(benchmark, "args.strategy") else "config.strategy"
    strategy = str(field(benchmark, f"{place}.type_", path))
    if strategy in _OPEN_LOADS:
        return {
            "load": _OPEN_LOADS[strategy],
            "request_rate": amount(benchmark, f"{place}.rate", path),
        }
    if strategy not in _CLOSED_LOADS:
        known = ", ".join((*_OPEN_LOADS, *sorted(_CLOSED_LOADS)))
        raise ImportFormatError(f"{path}: the strategy {strategy!r} is not known (known: {known})")
    if strategy == "synchronous":
        return {"load": "closed", "concurrency": 1.0}
    requests = amount(benchmark, f"{_totals(benchmark)}.total", path)
    limits = [
        name
        for name in ("streams", "max_concurrency")
        if section(benchmark, place).get(name) is not None
    ]
    limit = min((amount(benchmark, f"{place}.{name}", path) for name in limits), default=requests)
    return {"load": "closed", "concurrency": min(requests, limit)}


def _measured(benchmark: Any, path: Path) -> Row:
    def successful(metric: str, statistic: str) -> float:
        return amount(benchmark, f"metrics.{metric}.successful.{statistic}", path)

    row: Row = {
        "num_requests": amount(benchmark, f"{_totals(benchmark)}.total", path),
        "failed_requests": amount(benchmark, f"{_totals(benchmark)}.errored", path),
    }
    for column, metric in (("input", "prompt_token_count"), ("output", "output_token_count")):
        row[f"{column}_tokens_mean"] = successful(metric, "mean")
        row[f"{column}_tokens_std"] = round(successful(metric, "std_dev"), 4)
    for name, (metric, scale) in _LATENCIES.items():
        for column, statistic in _STATISTICS.items():
            row[f"{name}_ms_{column}"] = round(successful(metric, statistic) * scale, 4)
    duration = amount(benchmark, "duration", path)
    if duration > 0:
        row["output_tokens_per_s"] = successful("output_token_count", "total_sum") / duration
    row["requests_per_s"] = successful("requests_per_second", "mean")
    return row
