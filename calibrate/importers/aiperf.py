"""Results of AIPerf (``profile_export_aiperf.json``) and of GenAI-Perf before it (``profile_export_genai_perf.json``).

Both state a metric as ``{"unit", "avg", "p50", "p90", "p99", "std" …}``, inter-token latency per token, as the table
means it. Their CSV twins hold the same metrics without the run's configuration: neither model nor load. Sources:
github.com/ai-dynamo/aiperf 0.2 to 0.13, github.com/triton-inference-server/perf_analyzer (genai-perf 0.0.16).
"""

from collections.abc import Mapping
from typing import Any

from calibrate.importers.aiperf_config import read_load, read_models
from calibrate.importers.aiperf_csv import read_csv_metrics
from calibrate.importers.client_results import JSON_READERS, read_rows
from calibrate.importers.imported import Imported
from calibrate.importers.model_names import named_model
from calibrate.importers.run_folder import Row, amount, field, imported_runs, section
from calibrate.records.errors import ImportFormatError
from sim.units import MS_PER_S, NS_PER_S, US_PER_MS

_ENDS = ("_aiperf.json", "_genai_perf.json", "_aiperf.csv", "_genai_perf.csv")
_LATENCIES = {"ttft": "time_to_first_token", "itl": "inter_token_latency", "e2e": "request_latency"}
_STATISTICS = {"mean": "avg", "p50": "p50", "p90": "p90", "p99": "p99"}
_LENGTHS = {"mean": "avg", "std": "std"}
_RATES = {
    "output_tokens_per_s": "output_token_throughput",
    "requests_per_s": "request_throughput",
}
_MS = {
    "ns": MS_PER_S / NS_PER_S,
    **dict.fromkeys(("us", "µs"), 1.0 / US_PER_MS),
    "ms": 1.0,
    **dict.fromkeys(("s", "sec", "seconds"), MS_PER_S),
}
_NOTES = (
    "The client's own figures: its inter-token latency is (end-to-end - TTFT)/(output - 1), per token. Without "
    "streaming there is no time to first token."
)


def read(source: str, gpu: str) -> Imported:
    """Read a JSON or CSV export, or a folder of runs. Raises ImportFormatError if a file or a field is wrong.

    A CSV export beside its JSON twin is passed over.
    """
    readers = {**JSON_READERS, ".csv": read_csv_metrics}
    serving, left_out = read_rows(source, "aiperf", _row, readers, _ENDS)
    return imported_runs(serving, left_out, gpu, {"itl": "per-token", "notes": _NOTES})


def _row(content: dict[str, Any], where: str) -> Row | str:
    if content.get("was_cancelled") or content.get("is_complete") is False:
        return "the run was cancelled or broke off"
    row = _measured(content, where)
    config = section(content, "input_config")
    models = read_models(config)
    if len(models) > 1:
        return f"it served {len(models)} models: {', '.join(models)}"
    named = named_model(models[0]) if models else {}
    return {**named, **read_load(config, where, row), **row, "engine": ""}


def _measured(content: Mapping[str, Any], where: str) -> Row:
    row: Row = {}
    if "request_count" in content:
        failed = (
            amount(content, "error_request_count.avg", where)
            if "error_request_count" in content
            else 0.0
        )
        row |= {
            "num_requests": amount(content, "request_count.avg", where) + failed,
            "failed_requests": failed,
        }
    for what in ("input", "output"):
        metric = f"{what}_sequence_length"
        if metric in content:
            row |= _statistics(content, where, metric, f"{what}_tokens", _LENGTHS)
    streamed = "inter_token_latency" in content
    for what, metric in _LATENCIES.items():
        if metric in content and (streamed or what == "e2e"):
            row |= _statistics(
                content,
                where,
                metric,
                f"{what}_ms",
                _STATISTICS,
                _ms_per_unit(content, where, metric),
            )
    for column, metric in _RATES.items():
        if metric in content:
            row[column] = amount(content, f"{metric}.avg", where)
    return row


def _statistics(
    content: Mapping[str, Any],
    where: str,
    metric: str,
    column: str,
    names: Mapping[str, str],
    scale: float = 1.0,
) -> Row:
    """A metric's mean, which must be there, and those of the others that are."""
    amount(content, f"{metric}.avg", where)
    row: Row = {}
    for end, name in names.items():
        if section(content, metric).get(name) is not None:
            row[f"{column}_{end}"] = round(amount(content, f"{metric}.{name}", where) * scale, 4)
    return row


def _ms_per_unit(content: Mapping[str, Any], where: str, metric: str) -> float:
    unit = str(field(content, f"{metric}.unit", where))
    if unit not in _MS:
        raise ImportFormatError(
            f"{where}: {metric}.unit must be one of {', '.join(_MS)}, got {unit[:60]!r}"
        )
    return _MS[unit]
