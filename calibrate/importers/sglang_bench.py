"""Results of ``python -m sglang.bench_serving --output-file``: a line, and a row, a run.

Newer versions (0.5.5, not 0.4.6) add what the server said of itself, ``server_info``: model, degree, limits. Source:
github.com/sgl-project/sglang, ``bench_serving.py``.
"""

from collections.abc import Mapping
from typing import Any

from calibrate.importers.bench_result import (
    bench_info,
    given,
    read_load,
    read_measured,
    split_server,
)
from calibrate.importers.client_results import read_rows
from calibrate.importers.imported import Imported
from calibrate.importers.model_names import named_model
from calibrate.importers.run_folder import Row, amount, imported_runs, section
from calibrate.importers.server import weight_type

_IN_SERVER = {
    "tp": "tp_size",
    "max_num_seqs": "max_running_requests",
    "max_num_batched_tokens": "chunked_prefill_size",
    "kv_cache_tokens": "max_total_num_tokens",
    "block_size": "page_size",
}
_TRACE = "trace"
_NOTES = (
    "The client's own figures; where it lists its requests, percentiles it does not give and deviations of lengths "
    "come from those. itl_ms is its TPOT, the mean over requests of (end-to-end - TTFT)/(output - 1), not its ITL, "
    "which is a mean over stream chunks. max_num_batched_tokens is the size of a prefill chunk. Without the list, "
    "requests that failed are not counted."
)


def read(source: str, gpu: str) -> Imported:
    """Read a result file, or a folder of them. Raises ImportFormatError if a file or a field is missing or wrong."""
    serving, left_out = read_rows(source, "sglang-bench", _row)
    return imported_runs(serving, left_out, gpu, bench_info(serving, _NOTES))


def _row(content: dict[str, Any], where: str) -> Row | str:
    info = section(content, "server_info")
    if not amount(content, "completed", where):
        return "no request succeeded"
    if given(content, "accept_length") or given(info, "speculative_algorithm"):
        return "it decoded speculatively: its time per token is not that of a step"
    if split := split_server(info):
        return split
    measured = read_measured(content, where, "e2e_latency")
    load: Row = {"load": ""}
    if content.get("request_rate") != _TRACE:
        load = read_load(content, where, measured, "poisson")
    return {**_server(content, info, where), **load, **measured}


def _server(content: Mapping[str, Any], info: Mapping[str, Any], where: str) -> Row:
    row: Row = named_model(str(info["model_path"])) if given(info, "model_path") else {}
    for column, name in _IN_SERVER.items():
        if given(info, name) and info[name] != -1:  # a limit of -1 is none
            row[column] = amount(info, name, f"{where}: server_info")
    backend = str(content.get("backend") or "").partition("-")[0]
    row |= weight_type(info.get("dtype"), info.get("quantization"))
    return {**row, "engine": f"sglang {info['version']}" if given(info, "version") else backend}
