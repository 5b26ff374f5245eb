"""Results of GuideLLM: one row of ``serving`` a benchmark of ``benchmarks.json``, or whatever its user called it.

Until version 0.3 a benchmark's strategy is under ``args`` and its ``request_totals`` beside ``metrics``; from 0.4 on
they are under ``config`` and in ``metrics``. What ran is in the folder's server log, or for the user to say. A
throughput benchmark sends all its requests at once, so it is a closed load of as many (or of the client's limit, where
that is less). Latencies and lengths are of the successful requests. Its CSV says too little. Source:
github.com/vllm-project/guidellm 0.2 to 0.6.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calibrate.importers.client_results import check_writer, read_results
from calibrate.importers.imported import Imported
from calibrate.importers.log_beside import log_beside
from calibrate.importers.run_folder import (
    Row,
    amount,
    entries,
    field,
    folder_label,
    imported_runs,
    marked,
    possible,
    read_runs,
    section,
)
from calibrate.importers.server import read_server, with_cached
from calibrate.records.errors import ImportFormatError
from sim.units import MS_PER_S

_RESULTS = ("guidellm-results.json", "benchmarks.json")
_LACKS = (
    "no GuideLLM run: neither it nor a folder in it holds a result in JSON, such as benchmarks.json"
)
_OPEN_LOADS = {"constant": "constant", "async": "constant", "poisson": "poisson"}
_CLOSED_LOADS = {"synchronous", "concurrent", "throughput"}
_EDGES = ("warmup_duration", "cooldown_duration")
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
    "Figures of the successful requests. output_tokens_per_s is their tokens over the benchmark's duration; of a "
    "benchmark without its warm-up or cool-down it is the client's own mean, for requests that overlap the ends of "
    "that window are counted whole. "
    "cached_input_tokens_mean is the server's prefix cache hit rate at its end times the mean prompt."
)


def read(source: str, gpu: str) -> Imported:
    """Read a file, a run's folder, or a folder of them. Raises ImportFormatError if a file or a field is missing."""
    serving, left_out = read_runs(source, _find, _LACKS, _run)
    return imported_runs(serving, left_out, gpu, {"notes": _NOTES})


def _find(root: Path) -> list[Path]:
    """Results of the usual names, one a folder; and, of others, JSON files in folders without such, else CSV files."""
    usual = marked(root, _RESULTS)
    folders = {path.parent for path in usual}
    for end in ("json", "csv"):
        files = [path for at in (f"*.{end}", f"*/*.{end}") for path in root.glob(at)]
        if found := [*usual, *sorted(path for path in files if path.parent not in folders)]:
            return found
    return []


def _run(path: Path) -> tuple[list[Row], list[str]]:
    if path.suffix == ".csv":
        raise ImportFormatError(f"{path}: is a CSV; give the benchmarks.json of the same run")
    results, folder = read_results(path)[0], path.parent
    check_writer(results, "guidellm", str(path))
    arguments = section(results, "args")
    benchmarks = entries(results, "benchmarks", path)
    model = arguments.get("model") or _model(benchmarks)
    server = read_server(folder, model, log_beside(path))
    cached = server.pop("prefix_hit_rate", None)
    label = folder_label(folder, Path(str(arguments.get("output_dir") or "")).name)
    run_id = folder.name if path.name in _RESULTS else f"{folder.name}/{path.stem}"
    common: Row = {"engine": "", **server, "folder": label, "run_id": run_id}
    rows: list[Row] = []
    left_out = []
    for stage, benchmark in enumerate(benchmarks):
        where = f"{run_id}, benchmark {stage}"
        try:
            row = _row(benchmark, path)
        except ImportFormatError as error:
            left_out.append(f"{where}: {error}")
            continue
        if row:
            rows.append(with_cached({**common, "stage": str(stage), **row}, cached))
        else:
            left_out.append(f"{where}: no request succeeded")
    return rows, left_out


def _row(benchmark: Any, path: Path) -> Row:
    """Load and figures of a benchmark; empty where no request succeeded."""
    if not amount(benchmark, f"{_totals(benchmark)}.successful", path):
        return {}
    return possible({**_measured(benchmark, path), **_asked(benchmark, path)}, path)


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
        mean = section(benchmark, f"metrics.{metric}.successful").get("mean")
        if not mean and name != "e2e":  # the client did not stream
            continue
        for column, statistic in _STATISTICS.items():
            row[f"{name}_ms_{column}"] = round(successful(metric, statistic) * scale, 4)
    duration = amount(benchmark, "duration", path)
    if any(benchmark.get(edge) for edge in _EDGES):
        row["output_tokens_per_s"] = successful("output_tokens_per_second", "mean")
    elif duration > 0:
        row["output_tokens_per_s"] = successful("output_token_count", "total_sum") / duration
    row["requests_per_s"] = successful("requests_per_second", "mean")
    return row
