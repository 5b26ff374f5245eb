"""Reports of llm-d-benchmark, versions 0.1 and 0.2: one load point of one stack a file (YAML or JSON).

Every figure has its units beside it. Version 0.1 describes a host and its platform, 0.2 a stack of components of which
those of kind ``inference_engine`` serve. A stack of several engines, of data or pipeline parallelism, or one that parts
prompts from decodes, is no one engine, and is left out. Source: github.com/llm-d/llm-d-benchmark, ``benchmark_report``.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calibrate.importers.client_load import load_columns
from calibrate.importers.imported import Imported
from calibrate.importers.model_names import named_model
from calibrate.importers.run_folder import (
    Row,
    amount,
    field,
    imported_runs,
    number,
    possible,
    read_json,
    read_runs,
    read_yaml,
    section,
)
from calibrate.records.errors import ImportFormatError
from sim.units import MS_PER_S

_ENDS = ("*.yaml", "*.yml", "*.json")
_LACKS = "no report of llm-d-benchmark: no .yaml, .yml or .json file in it"
_VERSIONS = ("0.1", "0.2")
_MS = {
    **{"s": MS_PER_S, "ms": 1.0, "us": 1e-3, "ns": 1e-6},
    **{"s/token": MS_PER_S, "ms/token": 1.0, "us/token": 1e-3, "ns/token": 1e-6},
}
_STATISTICS = ("mean", "p50", "p90", "p99")
_LATENCIES = {
    "ttft": ("time_to_first_token",),
    "itl": ("time_per_output_token", "inter_token_latency"),
    "e2e": ("request_latency",),
}
_POISSON = ("inference-perf",)
"""Clients whose open loads are Poisson; of the others a report does not say."""

_NOTES = (
    "The client's own figures. itl_ms is time_per_output_token where a report has it, else inter_token_latency, which "
    "may be of stream chunks."
)
_FILE_LAYOUT = {
    "0.1": ("metrics.requests", "metrics.latency"),
    "0.2": (
        "results.request_performance.aggregate.requests",
        "results.request_performance.aggregate.latency",
    ),
}
"""Where requests and latencies stand, by version."""

_THROUGHPUT = {
    "0.1": "metrics.throughput",
    "0.2": "results.request_performance.aggregate.throughput",
}
_RATES = {
    "output_tokens_per_s": ("output_tokens_per_sec", "output_token_rate"),
    "requests_per_s": ("requests_per_sec", "request_rate", "requests_rate"),
}
"""A number in version 0.1, statistics in 0.2."""


def read(source: str, gpu: str) -> Imported:
    """Read a report, or those of a folder. Raises ImportFormatError if a file or a field is missing or wrong."""
    serving, left_out = read_runs(source, _find, _LACKS, _run)
    return imported_runs(serving, left_out, gpu, {"notes": _NOTES})


def _find(root: Path) -> list[Path]:
    return sorted(path for end in _ENDS for path in root.rglob(end))


def _run(file: Path) -> tuple[list[Row], list[str]]:
    content = read_json(file) if file.suffix == ".json" else read_yaml(file)
    version = str(content.get("version"))
    if version not in _VERSIONS:
        raise ImportFormatError(
            f"{file}: is no report of llm-d-benchmark of version {' or '.join(_VERSIONS)} (version: {version[:60]})"
        )
    served = _of_host(content, file) if version == "0.1" else _of_stack(content, file)
    if isinstance(served, str):
        return [], [f"{file}: {served}"]
    requests, latency = (section(content, path) for path in _FILE_LAYOUT[version])
    row = {**served, **_requests(requests, file), **_latency(latency, file)}
    row |= _throughput(content, version, file)
    row |= _load(content, version, row, file)
    label = {"run_id": file.stem, "folder": file.resolve().parent.name, "stage": "0"}
    return [possible({**row, **label}, file)], []


def _of_host(content: Mapping[str, Any], file: Path) -> Row | str:
    """The server of a report of version 0.1, or why it is no one engine."""
    host, platform = section(content, "scenario.host"), section(content, "scenario.platform")
    accelerators, engines = _parts(host, "accelerator", file), _parts(platform, "engine", file)
    kinds = {str(kind) for kind in _list(host, "type")}
    if kinds - {"replica"}:
        return "prompts and decodes are served apart"
    if max(len(accelerators), len(engines)) > 1:
        return f"{max(len(accelerators), len(engines))} engines behind one address"
    split = _split(accelerators[0], file) if accelerators else {}
    if isinstance(split, str):
        return split
    engine = engines[0] if engines else {}
    return {
        **named_model(str(field(content, "scenario.model.name", file))),
        **split,
        "engine": f"{engine.get('name') or ''} {engine.get('version') or ''}".strip(),
    }


def _of_stack(content: Mapping[str, Any], file: Path) -> Row | str:
    """The server of a report of version 0.2, or why it is no one engine."""
    stack = _parts(section(content, "scenario"), "stack", file)
    engines = [
        part for part in stack if section(part, "metadata").get("kind") == "inference_engine"
    ]
    if not engines:
        raise ImportFormatError(f"{file}: scenario.stack holds no inference_engine")
    if {str(section(one, "standardized").get("role") or "aggregate") for one in engines} - {
        "aggregate",
        "replica",
    }:
        return "prompts and decodes are served apart"
    if len(engines) > 1:
        return f"{len(engines)} engines behind one address"
    said = section(engines[0], "standardized")
    split = _split(section(said, "accelerator"), file)
    if isinstance(split, str):
        return split
    return {
        **named_model(str(field(said, "model.name", file))),
        **split,
        "engine": f"{said.get('tool') or ''} {said.get('tool_version') or ''}".strip(),
    }


def _split(accelerator: Mapping[str, Any], file: Path) -> Row | str:
    """The degree of an engine's GPUs, and of its experts; or in words what is not modelled of the split."""
    said = section(accelerator, "parallelism")
    for name in ("dp", "pp"):
        if said.get(name) is not None and amount(said, name, file) > 1:
            return f"{name} {said[name]}: {'data' if name == 'dp' else 'pipeline'} parallelism is not modelled"
    if said.get("tp") is None:
        return {}
    row: Row = {"tp": amount(said, "tp", file)}
    if said.get("ep") is not None and amount(said, "ep", file) > 1:
        row["ep"] = amount(said, "ep", file)
    return row


def _requests(said: Mapping[str, Any], file: Path) -> Row:
    row: Row = {"num_requests": amount(said, "total", file)}
    if said.get("failures") is not None:
        row["failed_requests"] = amount(said, "failures", file)
    for what in ("input", "output"):
        row[f"{what}_tokens_mean"] = amount(said, f"{what}_length.mean", file)
        spread = section(said, f"{what}_length").get("stddev")
        if spread is not None:
            row[f"{what}_tokens_std"] = amount(said, f"{what}_length.stddev", file)
    return row


def _latency(said: Mapping[str, Any], file: Path) -> Row:
    row: Row = {}
    for column, names in _LATENCIES.items():
        name = next((name for name in names if said.get(name)), None)
        if name is None:
            continue
        units = str(field(said, f"{name}.units", file))
        if units not in _MS:
            raise ImportFormatError(f"{file}: {name}.units must be a time, got {units[:60]!r}")
        for statistic in _STATISTICS:
            if section(said, name).get(statistic) is not None:
                value = amount(said, f"{name}.{statistic}", file)
                row[f"{column}_ms_{statistic}"] = value * _MS[units]
    if not row:
        raise ImportFormatError(f"{file}: no latency: time_to_first_token and others are missing")
    return row


def _throughput(content: Mapping[str, Any], version: str, file: Path) -> Row:
    said = section(content, _THROUGHPUT[version])
    row: Row = {}
    for column, names in _RATES.items():
        name = next((name for name in names if said.get(name) is not None), None)
        if name is not None:
            nested = isinstance(said[name], Mapping)
            row[column] = amount(said, f"{name}.mean" if nested else name, file)
    return row


def _load(content: Mapping[str, Any], version: str, row: Row, file: Path) -> Row:
    """The load, where a report says it: its rate, or how many requests at a time."""
    if version == "0.1":
        said = section(content, "scenario.load.args")
        tool = str(section(content, "scenario.load").get("name") or "")
        rate, limit = said.get("request_rate"), said.get("max_concurrency")
    else:
        said = section(content, "scenario.load.standardized")
        tool = str(said.get("tool") or "")
        rate, limit = said.get("rate_qps"), said.get("concurrency")
    per_second = _bound(rate, "the rate", file)
    at_once = _bound(limit, "the concurrency", file)
    if per_second is None and at_once is None:
        return {}
    bounded = None if at_once is None or math.isinf(at_once) else at_once
    arrivals = "poisson" if tool in _POISSON else ""
    return load_columns(row, math.inf if per_second is None else per_second, bounded, arrivals)


def _bound(value: Any, name: str, file: Path) -> float | None:
    """A number above 0, which may be infinite; None where it is not said."""
    if value is None:
        return None
    if isinstance(value, float) and math.isinf(value) and value > 0:
        return value
    if str(value).lower() in ("inf", ".inf"):
        return math.inf
    found = number({"value": value}, "value", file)
    if found <= 0:
        raise ImportFormatError(f"{file}: {name} must be above 0, got {found:g}")
    return found


def _parts(content: Mapping[str, Any], name: str, file: Path) -> Sequence[Mapping[str, Any]]:
    """The entries of a list, each of which says something of one accelerator, engine or component."""
    found = _list(content, name)
    odd = next((part for part in found if not isinstance(part, Mapping)), None)
    if odd is not None:
        raise ImportFormatError(
            f"{file}: {name}: {str(odd)[:60]!r} is no entry of names and values"
        )
    return found


def _list(content: Mapping[str, Any], name: str) -> Sequence[Any]:
    found = content.get(name)
    return found if isinstance(found, list) else []
