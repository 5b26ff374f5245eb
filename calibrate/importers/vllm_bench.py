"""Results of ``vllm bench serve --save-result`` (once ``benchmark_serving.py``): one row a run.

A file holds one run, or runs appended to it (``--append-result``), or a list of them (a sweep's summary). What the
client does not know of its server can be told it as ``--metadata tensor_parallel_size=4``; such pairs stand among the
result's fields, as do the server's options that ``vllm bench sweep serve`` varies. Source:
github.com/vllm-project/vllm 0.6 to 0.22, ``vllm/benchmarks/serve.py`` and ``sweep/serve.py``.
"""

from collections.abc import Mapping
from typing import Any

from calibrate.importers.bench_counts import given, optional
from calibrate.importers.bench_result import bench_info, read_load, read_measured
from calibrate.importers.client_results import read_rows
from calibrate.importers.imported import Imported
from calibrate.importers.model_names import named_model
from calibrate.importers.one_engine import SPECULATIVE, split_server
from calibrate.importers.run_folder import Row, field, imported_runs
from calibrate.importers.server import weight_type
from calibrate.records.errors import ImportFormatError
from calibrate.records.schema import GREEDY

_TP = ("tensor_parallel_size", "tensor_parallelism", "tensor_parallel", "tp_size", "tp")
_LIMITS = ("max_num_batched_tokens", "max_num_seqs", "kv_cache_tokens", "block_size")
_VERSION = ("version", "vllm_version", "engine_version")
_WARM_UP = -1
_NO_LONGER_GREEDY = "20260120"
_PROTOCOL = "openai"  # what was spoken, not who answered
_NOTES = (
    "The client's own figures; where it lists its requests, percentiles it was not asked for and deviations of lengths "
    "come from those. itl_ms is its TPOT, the mean over requests of (end-to-end - TTFT)/(output - 1), not its ITL, "
    "which is a mean over stream chunks."
)


def read(source: str, gpu: str) -> Imported:
    """Read a result file, or a folder of them. Raises ImportFormatError if a file or a field is missing or wrong."""
    serving, left_out = read_rows(source, "vllm-bench", _row)
    return imported_runs(serving, left_out, gpu, bench_info(serving, _NOTES))


def _row(content: dict[str, Any], where: str) -> Row | str:
    if optional(content, "completed", where) == 0:
        return "no request succeeded"
    if content.get("run_number") == _WARM_UP:
        return "a sweep's warm-up"
    if given(content, "ramp_up_strategy"):
        return "its rate of requests ramps up: no one load"
    if given(content, "spec_decode_acceptance_length"):
        return SPECULATIVE
    said = {name.replace("-", "_"): value for name, value in content.items()}
    if split := split_server(said):
        return split
    client_model = str(field(content, "model_id", where))
    burstiness = optional(content, "burstiness", where)
    measured = read_measured(content, where, "e2el")
    shape = 1.0 if burstiness is None else burstiness
    load = read_load(content, where, measured, "gamma", shape)
    server = {**_server(said, where), **_sampling(content)}
    return {**named_model(client_model), **server, **load, **measured}


def _server(said: Mapping[str, Any], where: str) -> Row:
    """Columns that ``--metadata`` gives."""
    row: Row = {}
    for column, names in (("tp", _TP), *((name, (name,)) for name in _LIMITS)):
        found = [name for name in names if given(said, name)]
        if found:
            row[column] = _count(said[found[0]], found[0], where)
    backend = str(said.get("backend") or said.get("endpoint_type") or "")
    versions = [f" {said[name]}" for name in _VERSION if given(said, name)]
    row |= weight_type(said.get("dtype"), said.get("quantization"))
    return {
        **row,
        "engine": "" if backend.startswith(_PROTOCOL) else backend + "".join(versions[:1]),
    }


def _sampling(content: Mapping[str, Any]) -> Row:
    """Greedy where the client asked for it of itself: it did so until pull request 32723 of January 2026."""
    day = str(content.get("date") or "")[:8]
    return {"sampling": GREEDY} if day.isdecimal() and day < _NO_LONGER_GREEDY else {}


def _count(value: object, name: str, where: str) -> int:
    if not str(value).isdecimal() or not int(str(value)):
        raise ImportFormatError(
            f"{where}: {name} must be a whole number of 1 or more, got {str(value)[:60]!r}"
        )
    return int(str(value))
