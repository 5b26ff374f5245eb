"""OpenTelemetry request spans of a vLLM server (``--otlp-traces-endpoint``): one row of ``serving`` a stage of load.

``traces.json`` holds OTLP JSON documents, one after another, as the collector's file exporter writes them. vLLM makes
one span of each request, whose attributes are its lengths and its times in seconds, from its arrival at the engine.
Spans do not say what load made them: stages, and the kind of each, are told by when requests arrived and ended.
Source: github.com/vllm-project/vllm, ``vllm/tracing``.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from calibrate.importers.arrival_stages import load_of, stages
from calibrate.importers.client_results import check_writer
from calibrate.importers.imported import Imported
from calibrate.importers.request_detail import RequestDetail
from calibrate.importers.run_folder import (
    Row,
    entries,
    field,
    folder_label,
    imported_runs,
    marked,
    read_runs,
)
from calibrate.importers.server import read_server, with_cached
from calibrate.records.errors import ImportFormatError
from calibrate.records.reading.documents import CutOff, read_json_documents
from sim.units import NS_PER_S

_TRACES = "traces.json"
_LACKS = f"no OpenTelemetry run: neither it nor a folder in it holds {_TRACES}"
_IS_REQUEST = "gen_ai.usage.prompt_tokens"
_MODEL = "gen_ai.response.model"
_NUMBERS = {
    "input": _IS_REQUEST,
    "output": "gen_ai.usage.completion_tokens",
    "ttft": "gen_ai.latency.time_to_first_token",
    "e2e": "gen_ai.latency.e2e",
}
_NOTES = (
    "The engine's own times, from a request's arrival there; the client's are longer by the way to it. itl_ms is the "
    "mean over requests of (end-to-end − TTFT)/(output − 1). A stage begins after the engine stood idle for 3 s; load, "
    "concurrency and request_rate are told from when requests arrived and ended, not from what the client says. Spans "
    "that were lost on their way are missed: then a rate is higher than stated, or a stage parted in two."
)


def read(source: str, gpu: str) -> Imported:
    """Read a file of spans, a run's folder, or a folder of them. Raises ImportFormatError if one cannot be."""
    serving, left_out = read_runs(source, _find, _LACKS, _run)
    return imported_runs(serving, left_out, gpu, {"itl": "per-token", "notes": _NOTES})


def _find(root: Path) -> list[Path]:
    return marked(root, [_TRACES])


def _run(path: Path) -> tuple[list[Row], list[str]]:
    folder = path.parent
    requests, model, left_out = _requests(path)
    if requests.empty:
        raise ImportFormatError(
            f"{path}: no span of a request in it: none has the attribute {_IS_REQUEST}"
        )
    server = read_server(folder, model)
    cached = server.pop("prefix_hit_rate", None)
    common: Row = {
        "engine": "vllm",
        **server,
        "folder": folder_label(folder, None),
        "run_id": folder.name,
    }
    rows: list[Row] = []
    of_stage = stages(requests["start"].to_numpy(), requests["end"].to_numpy())
    for stage, found in requests.groupby(of_stage):
        finished = found.dropna()
        if finished.empty:
            left_out.append(f"{folder.name}, stage {stage}: no request finished")
            continue
        failed = len(found) - len(finished)
        row = {**common, "stage": str(stage), "num_requests": len(found), "failed_requests": failed}
        row |= {
            **load_of(found["start"].to_numpy(), found["end"].to_numpy()),
            **_measured(finished, len(found)),
        }
        rows.append(with_cached(row, cached))
    return rows, left_out


def _measured(requests: pd.DataFrame, sent: int) -> Row:
    ttft_s, e2e_s, inputs, outputs = (
        requests[name].to_numpy() for name in ("ttft", "e2e", "input", "output")
    )
    row = RequestDetail(ttft_s, e2e_s, inputs, outputs, sent).columns()
    duration_s = requests["end"].max() - requests["start"].min()
    if duration_s > 0:
        row["output_tokens_per_s"] = round(requests["output"].sum() / duration_s, 4)
        row["requests_per_s"] = round(len(requests) / duration_s, 5)
    return row


def _requests(path: Path) -> tuple[pd.DataFrame, object, list[str]]:
    """Each request's start and end, lengths and times (NaN where it did not finish), by start; and the model named.

    The last entry says what was left out.
    """
    rows, left_out, model = [], [], None
    for where, span in _spans(path):
        if isinstance(span, CutOff):
            left_out.append(f"{where}: {span}")
            continue
        said = _attributes(span, where)
        if _IS_REQUEST not in said:
            continue
        model = said.get(_MODEL, model)
        row = {name: _number(said, key, where) for name, key in _NUMBERS.items()}
        start_s, end_s = (
            _number(span, f"{which}TimeUnixNano", where) / NS_PER_S for which in ("start", "end")
        )
        if math.isnan(start_s) or not start_s <= end_s:
            raise ImportFormatError(
                f"{where}: startTimeUnixNano and endTimeUnixNano must be times, the second later"
            )
        rows.append({"start": start_s, "end": end_s, **row})
    table = pd.DataFrame(rows, columns=["start", "end", *_NUMBERS])
    return table.sort_values("start", ignore_index=True), model, left_out


def _spans(path: Path) -> Iterator[tuple[str, Mapping[str, Any] | CutOff]]:
    """Every span, with where it stands: the file and the line on which its document begins."""
    for line, document in read_json_documents(path):
        where = f"{path}:{line}"
        if isinstance(document, CutOff):
            yield where, document
            continue
        check_writer(document, "otel", where)
        for resource in entries(document, "resourceSpans", where):
            for scope in entries(resource, "scopeSpans", where):
                for span in entries(scope, "spans", where):
                    yield where, span if isinstance(span, Mapping) else {}


def _attributes(span: Mapping[str, Any], where: str) -> dict[str, object]:
    said: dict[str, object] = {}
    for entry in entries(span, "attributes", where) if "attributes" in span else ():
        value = field(entry, "value", where)
        said[str(field(entry, "key", where))] = (
            next(iter(value.values()), None) if isinstance(value, Mapping) else None
        )
    return said


def _number(said: Mapping[str, object], name: str, where: str) -> float:
    """The number of that name; NaN without it. Whole numbers are text in OTLP JSON."""
    value = said.get(name)
    if value is None:
        return math.nan
    try:
        found = float(str(value))
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise ImportFormatError(
            f"{where}: {name} must be a number of 0 or more, got {str(value)[:60]!r}"
        )
    return found
