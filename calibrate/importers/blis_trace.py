"""BLIS's traces of a real server (TraceV2, as ``blis observe`` writes them): one row of ``serving`` a stage of load.

A trace is a header in YAML (``trace_version: 2``) and, of the same name beside it, a CSV with a row a request, times in
µs. Its header may name the server's model and degree; a log or configuration of the server beside it says more. What
load made the requests it does not say: stages, and the kind of each, are told by when requests were sent and ended.
Source: github.com/inference-sim/inference-sim, ``sim/workload/tracev2.go``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibrate.campaign.rows import column_of
from calibrate.importers.arrival_stages import load_of, stages
from calibrate.importers.imported import Imported
from calibrate.importers.request_detail import RequestDetail
from calibrate.importers.run_folder import (
    WARNING,
    Row,
    amount,
    folder_label,
    imported_runs,
    read_runs,
    read_yaml,
)
from calibrate.importers.server import read_server, with_cached
from calibrate.records.errors import ImportFormatError, UnreadableError
from calibrate.records.schema import Column
from calibrate.records.tables import read_whole_table
from sim.steps.batch import Floats
from sim.units import US_PER_S

_VERSION, _UNITS, _MEASURED = 2, ("microseconds", "us"), "real"
_HEADERS = (".yaml", ".yml")
_LACKS = "no trace of BLIS: no .yaml in it has a .csv of the same name beside it"
_TIMES = ("send_time_us", "first_chunk_time_us", "last_chunk_time_us")
_MEDIA = ("image_tokens", "audio_tokens", "video_tokens")
_COLUMNS = (
    *(Column(name, "count", required=True, largest=1e18) for name in _TIMES),
    *(
        Column(f"{what}_tokens", "count", required=True, largest=1e7)
        for what in ("input", "output")
    ),
    *(Column(name, "text", required=True) for name in ("status", "streaming")),
    *(Column(name, "count", largest=1e7) for name in ("server_input_tokens", *_MEDIA)),
    *(Column(name, "count", largest=1e7) for name in ("prefix_length", "round_index")),
    Column("model", "text"),
)
_IN_SERVER = {"tp": "tensor_parallel", "max_num_seqs": "max_num_seqs", "block_size": "block_size"}
_NOTES = (
    "Times are the client's, from sending a request on: they hold the way to the server. itl_ms is the mean over "
    "requests of (end-to-end − TTFT)/(output − 1). A stage begins after nothing was under way for 3 s; load, "
    "concurrency and request_rate are told from when requests were sent and ended, not from what the client says."
)


def read(source: str, gpu: str) -> Imported:
    """Read a trace by its header, or those of a folder. Raises ImportFormatError if a file or a field is wrong."""
    serving, left_out = read_runs(source, _find, _LACKS, _run)
    return imported_runs(serving, left_out, gpu, {"itl": "per-token", "notes": _NOTES})


def _find(root: Path) -> list[Path]:
    headers = (path for end in _HEADERS for path in root.rglob(f"*{end}"))
    return sorted(path for path in headers if path.with_suffix(".csv").is_file())


def _run(file: Path) -> tuple[list[Row], list[str]]:
    header = _header(file)
    requests = _requests(file.with_suffix(".csv"))
    common = _common(file, header, requests)
    cached = common.pop("prefix_hit_rate", None)
    warm = int(amount(header, "warm_up_requests", file)) if "warm_up_requests" in header else 0
    requests = requests.sort_values("send_time_us", kind="stable").iloc[warm:]
    counted, left_out = _counted(requests, file)
    rows: list[Row] = []
    of_stage = stages(_s(counted, "send_time_us"), _ends_s(counted))
    for stage, sent in counted.groupby(of_stage):
        finished = sent[_succeeded(sent)]
        if finished.empty:
            left_out.append(f"{file.name}, stage {stage}: no request succeeded")
            continue
        row = {**common, "stage": str(stage), **_measured(sent, finished)}
        shared = _shares_prompts(finished) and not isinstance(cached, float)
        rows.append(with_cached({**row, WARNING: _PREFIXES} if shared else row, cached))
    return rows, left_out


_PREFIXES = (
    "prompts share beginnings, and nothing says how much of them the cache held: put the server's vllm.log beside the "
    "trace, or give cached_input_tokens_mean"
)


def _requests(file: Path) -> pd.DataFrame:
    try:
        return read_whole_table(file, _COLUMNS).frame
    except UnreadableError as error:
        raise ImportFormatError(str(error)) from error


def _header(file: Path) -> Mapping[str, Any]:
    if file.suffix not in _HEADERS:
        raise ImportFormatError(f"{file}: give the header of the trace, its .yaml")
    header = read_yaml(file)
    wanted = {"trace_version": (_VERSION,), "time_unit": _UNITS, "mode": (_MEASURED,)}
    for name, allowed in wanted.items():
        if header.get(name) not in allowed:
            said = str(header.get(name))[:60]
            what = (
                "a trace that was generated holds no measurement" if name == "mode" else "unknown"
            )
            raise ImportFormatError(f"{file}: {name} must be {allowed[0]}, got {said!r}: {what}")
    return header


def _common(file: Path, header: Mapping[str, Any], requests: pd.DataFrame) -> Row:
    """What is the same for all rows of a trace; ``prefix_hit_rate`` where the server's log says it."""
    given = header.get("server")
    server = given if isinstance(given, Mapping) else {}
    models = set(requests.get("model", pd.Series(dtype=object))) - {""}
    if len(models) > 1:
        raise ImportFormatError(
            f"{file}: its requests went to several models ({', '.join(sorted(models))[:120]}): part them"
        )
    said = {
        column: int(amount(server, key, file))
        for column, key in _IN_SERVER.items()
        if key in server
    }
    return {
        "engine": str(server.get("type") or "vllm"),
        **{name: value for name, value in said.items() if value},
        **read_server(file.parent, next(iter(models), server.get("model"))),
        "folder": folder_label(file.parent, None),
        "run_id": file.stem,
    }


def _counted(requests: pd.DataFrame, file: Path) -> tuple[pd.DataFrame, list[str]]:
    """The requests whose times say what a server of text took, and how many others there are, in words."""
    streamed = requests["streaming"].str.lower().isin(["true", "1", "t"])
    media = requests.reindex(columns=list(_MEDIA)).fillna(0.0).sum(axis=1) > 0
    reasons = {
        "were not streamed: they have no time to first token": ~streamed,
        "hold images, audio or video, which no latency model counts": streamed & media,
    }
    left_out = [
        f"{file.name}: {int(rows.sum()):,} of {len(rows):,} requests {why}"
        for why, rows in reasons.items()
        if rows.any()
    ]
    return requests[streamed & ~media], left_out


def _succeeded(requests: pd.DataFrame) -> "pd.Series[bool]":
    sent, first, last = (requests[name] for name in _TIMES)
    in_order = (sent > 0) & (sent <= first) & (first <= last)
    return (requests["status"] == "ok") & (requests["output_tokens"] > 0) & in_order


def _measured(sent: pd.DataFrame, finished: pd.DataFrame) -> Row:
    sent_s, first_s, last_s = (_s(finished, name) for name in _TIMES)
    asked = finished["input_tokens"].to_numpy(np.float64)
    counted = column_of(finished, "server_input_tokens")
    prompts = np.where(counted > 0, counted, asked)
    outputs = finished["output_tokens"].to_numpy(np.float64)
    detail = RequestDetail(first_s - sent_s, last_s - sent_s, prompts, outputs, len(sent))
    duration_s = last_s.max() - sent_s.min()
    return {
        "num_requests": len(sent),
        "failed_requests": len(sent) - len(finished),
        **load_of(_s(sent, "send_time_us"), _ends_s(sent)),
        **detail.columns(),
        "output_tokens_per_s": round(outputs.sum() / duration_s, 4),
        "requests_per_s": round(len(finished) / duration_s, 5),
    }


def _shares_prompts(requests: pd.DataFrame) -> bool:
    columns = requests.reindex(columns=["prefix_length", "round_index"]).fillna(0.0)
    return bool((columns > 0).any(axis=None))


def _s(requests: pd.DataFrame, name: str) -> Floats:
    times_us: Floats = requests[name].to_numpy(dtype=np.float64)
    return times_us / US_PER_S


def _ends_s(requests: pd.DataFrame) -> Floats:
    """When each request ended; one that failed as it was sent."""
    ends_s: Floats = np.maximum(_s(requests, "send_time_us"), _s(requests, "last_chunk_time_us"))
    return ends_s
