"""One run of LLMServingSim's benchmark of vLLM: ``meta.json``, and the engine's time stamps of each request.

``requests.jsonl`` has a request a line: lengths, ``arrival_time`` (s, the client's clock), and ``queued_ts``,
``first_token_ts``, ``last_token_ts`` (s, the engine's clock). The clocks differ: times here are the engine's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibrate.importers.arrival_stages import load_of
from calibrate.importers.model_names import named_model
from calibrate.importers.request_detail import RequestDetail
from calibrate.importers.run_folder import Row, amount, entries, field, read_json, section
from calibrate.importers.server import weight_type
from calibrate.records.errors import ImportFormatError
from calibrate.records.reading.documents import CutOff, read_json_documents

_REQUESTS = "requests.jsonl"
_CONFIG = "config.json"
_FIELDS = ("input_toks", "output_toks", "queued_ts", "first_token_ts", "last_token_ts")
_LIMITS = {"max_num_seqs": "max_num_seqs", "max_num_batched_tokens": "max_num_batched_tokens"}
_CACHE = {"kv_cache_tokens": "num_kv_tokens", "block_size": "block_size"}


def run_hardware(folder: Path) -> str:
    """What a run's ``config.json``, beside it or above, calls its GPU; empty without one."""
    for place in (folder, folder.parent):
        if (place / _CONFIG).is_file():
            config = place / _CONFIG
            nodes = entries(read_json(config), "nodes", config)
            instances = [i for node in nodes for i in entries(node, "instances", config)]
            return str(field(instances[0], "hardware", config)) if instances else ""
    return ""


def read_run(meta: Path) -> Row | str:
    """The ``serving`` row of a run, by its ``meta.json``; or in words why there is none.

    Raises ImportFormatError if a file cannot be read, or a field is missing or wrong.
    """
    requests = meta.parent / _REQUESTS
    if not requests.is_file():
        return f"a run without {_REQUESTS}"
    content = read_json(meta)
    options = section(content, "engine_kwargs")
    replicas = amount(options, "data_parallel_size", meta) if "data_parallel_size" in options else 1
    if replicas > 1:
        return f"its server had {replicas:.0f} data-parallel replicas: the table is of one engine"
    return {
        **named_model(str(field(content, "model", meta))),
        **_server(content, options, meta),
        "run_id": _label(meta.parent),
        "stage": "0",
        **_measured(_table(requests), content, meta),
    }


def _label(folder: Path) -> str:
    """The name of a run's folder and of those above it that say what ran, as the benchmark lays them out."""
    parts = [part for part in folder.resolve().parts[-3:] if part != "vllm"]
    return "-".join(parts[-2:])


def _server(content: Mapping[str, Any], options: Mapping[str, Any], meta: Path) -> Row:
    row: Row = {
        "tp": amount(options, "tensor_parallel_size", f"{meta}: engine_kwargs"),
        "engine": f"vllm {field(content, 'vllm_version', meta)}",
        **weight_type(options.get("dtype"), options.get("quantization")),
    }
    for names, said in ((_LIMITS, options), (_CACHE, section(content, "kv_cache"))):
        for column, name in names.items():
            if said.get(name) is not None:
                row[column] = amount(said, name, meta)
    return row


def _table(path: Path) -> pd.DataFrame:
    """The requests by when they were queued. Raises ImportFormatError, with the line, for one whose times go back."""
    rows = []
    for line, document in read_json_documents(path):
        where = f"{path}:{line}"
        if isinstance(document, CutOff):
            raise ImportFormatError(
                f"{where}: is cut off: what is left is not the run. Copy it again, or leave it out"
            )
        if not isinstance(document, dict):
            raise ImportFormatError(f"{where}: must hold named fields")
        row = {name: amount(document, name, where) for name in _FIELDS}
        if not row["queued_ts"] <= row["first_token_ts"] <= row["last_token_ts"]:
            raise ImportFormatError(
                f"{where}: queued_ts, first_token_ts and last_token_ts must follow one another"
            )
        rows.append(row)
    if not rows:
        raise ImportFormatError(f"{path}: holds no request")
    return pd.DataFrame(rows).sort_values("queued_ts", ignore_index=True)


def _measured(requests: pd.DataFrame, content: Mapping[str, Any], meta: Path) -> Row:
    queued, first, last = (requests[name].to_numpy() for name in _FIELDS[2:])
    inputs, outputs = (requests[name].to_numpy() for name in _FIELDS[:2])
    sent = int(amount(content, "num_requests", meta)) if "num_requests" in content else len(queued)
    duration_s = float(np.max(last) - queued[0])
    row: Row = {"num_requests": sent, "failed_requests": max(sent - len(queued), 0)}
    row |= load_of(queued, last)
    row |= RequestDetail(first - queued, last - queued, inputs, outputs, sent).columns()
    if duration_s > 0:
        row["output_tokens_per_s"] = round(float(outputs.sum()) / duration_s, 4)
        row["requests_per_s"] = round(len(queued) / duration_s, 5)
    return row
