"""Results of ``python -m sglang.bench_serving --output-file``: a line, and a row, a run.

Newer versions (0.5.5, not 0.4.6) add what the server said of itself, ``server_info``: model, degree, limits. The
oldest lines lack the throughput of requests and of latencies most statistics. Source:
github.com/sgl-project/sglang, ``bench_serving.py``.
"""

import math
from collections.abc import Mapping
from typing import Any

from calibrate.importers.bench_counts import given, optional
from calibrate.importers.bench_result import bench_info, read_load, read_measured
from calibrate.importers.client_results import read_rows
from calibrate.importers.imported import Imported
from calibrate.importers.model_names import named_model
from calibrate.importers.one_engine import SPECULATIVE, split_sglang
from calibrate.importers.run_folder import Row, amount, imported_runs, section
from calibrate.importers.server import weight_type
from calibrate.importers.thresholds import AS_ASKED
from calibrate.records.schema import GREEDY

_IN_SERVER = {
    "tp": "tp_size",
    "max_num_seqs": "max_running_requests",
    "max_num_batched_tokens": "chunked_prefill_size",
    "kv_cache_tokens": "max_total_num_tokens",
    "block_size": "page_size",
}
_TRACE, _RANDOM = "trace", "random"
_NOTES = (
    "The client's own figures; where it lists its requests, percentiles it does not give and deviations of lengths "
    "come from those. itl_ms is its TPOT, the mean over requests of (end-to-end - TTFT)/(output - 1), not its ITL, "
    "which is a mean over stream chunks. Without the list, deviations of random lengths are those of the range that "
    "was asked for. max_num_batched_tokens is the size of a prefill chunk. Without the list, "
    "requests that failed are not counted."
)


def read(source: str, gpu: str) -> Imported:
    """Read a result file, or a folder of them. Raises ImportFormatError if a file or a field is missing or wrong."""
    serving, left_out = read_rows(source, "sglang-bench", _row)
    return imported_runs(serving, left_out, gpu, bench_info(serving, _NOTES))


def _row(content: dict[str, Any], where: str) -> Row | str:
    if optional(content, "completed", where) == 0:
        return "no request succeeded"
    if split := split_sglang(content.get("server_info")):
        return split
    info = section(content, "server_info")
    if given(content, "accept_length") or given(info, "speculative_algorithm"):
        return SPECULATIVE
    measured = read_measured(content, where, "e2e_latency")
    load: Row = {"load": ""}
    if content.get("request_rate") != _TRACE:
        load = read_load(content, where, measured, "poisson")
    return {
        **_server(content, info, where),
        **load,
        **_spread(content, where, measured),
        **measured,
        "sampling": GREEDY,
    }


def _spread(content: Mapping[str, Any], where: str, measured: Row) -> Row:
    """Deviations of the lengths that the client draws evenly from ratio·n to n, where their means are those of that."""
    ratio = optional(content, "random_range_ratio", where)
    if ratio is None or ratio > 1 or not str(content.get("dataset_name")).startswith(_RANDOM):
        return {}
    row: Row = {}
    for what in ("input", "output"):
        longest = optional(content, f"random_{what}_len", where)
        mean = measured.get(f"{what}_tokens_mean")
        if not longest or not isinstance(mean, float):
            continue
        asked = longest * (1.0 + ratio) / 2.0
        if abs(mean / asked - 1.0) < AS_ASKED:
            row[f"{what}_tokens_std"] = round(longest * (1.0 - ratio) / math.sqrt(12.0), 4)
    return row


def _server(content: Mapping[str, Any], info: Mapping[str, Any], where: str) -> Row:
    row: Row = named_model(str(info["model_path"])) if given(info, "model_path") else {}
    for column, name in _IN_SERVER.items():
        if given(info, name) and info[name] != -1:  # a limit of -1 is none
            row[column] = amount(info, name, f"{where}: server_info")
    backend = str(content.get("backend") or "").partition("-")[0]
    row |= weight_type(info.get("dtype"), info.get("quantization"))
    return {**row, "engine": f"sglang {info['version']}" if given(info, "version") else backend}
