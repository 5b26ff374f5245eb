"""InferenceMAX's own results: ``agg_*.json`` of a run, lists of them, or the CSV of its site. One row a load point.

All times in these files are seconds. The client keeps ``conc`` requests in flight, sends ten times as many, and draws
lengths evenly between 0.8 and 1.0 of the nominal ``isl`` and ``osl``; the server has no prefix cache. Source:
github.com/SemiAnalysisAI/InferenceX, ``utils/process_result.py`` and ``benchmarks/`` (Apache-2.0).
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from calibrate.importers.bench_counts import given
from calibrate.importers.bench_result import read_load
from calibrate.importers.client_results import JSON_READERS, Readers, read_rows
from calibrate.importers.imported import Imported
from calibrate.importers.inferencex_csv import read_site_table
from calibrate.importers.model_names import named_model
from calibrate.importers.run_folder import Row, amount, field, imported_runs
from calibrate.records.errors import ImportFormatError
from calibrate.records.schema import GREEDY
from sim.architecture_files import load_architecture
from sim.hardware import canonical_gpu, gpu_specs
from sim.units import MS_PER_S

SHORTEST = 0.8  # of the nominal length
MEAN = (1.0 + SHORTEST) / 2.0
STD = (1.0 - SHORTEST) / math.sqrt(12.0)
REQUESTS_EACH = 10  # for each in flight

_TIMES = {"ttft": "ttft", "itl": "tpot", "e2e": "e2el"}
_STATISTICS = {"mean": "mean", "p50": "median", "p90": "p90", "p99": "p99"}
_ENGINES = {"trt": "tensorrt-llm", "trtllm": "tensorrt-llm"}
_VERSION = re.compile(r":v?(\d+\.\d+[\w.]*)")
_STEM = re.compile(r"[A-Za-z0-9]+")
_SPECULATIVE = "it decoded speculatively: its time per token is not that of a step"
_NOTES = (
    "Results of InferenceMAX (SemiAnalysis, github.com/SemiAnalysisAI/InferenceX), whose times are seconds. itl_ms is "
    "its TPOT, (end-to-end - TTFT)/(output - 1), per token. The client draws each length evenly between 0.8 and 1.0 of "
    "the nominal one and ignores end-of-sequence tokens, so the means here are 0.9 of isl and osl; it sends ten "
    "requests for each in flight. Its prompts are random: none is found in a prefix cache."
)


def read_results(source: str, gpu: str) -> Imported:
    """The load points on ``gpu`` in a file or a folder of them; those of other GPUs are left out and named.

    Raises ImportFormatError if a file cannot be read, a field is missing or wrong, or no row is left.
    """

    def row(content: dict[str, Any], where: str) -> Row | str:
        return _unusable(content, gpu) or _row(content, where)

    serving, left_out = read_rows(source, "inferencemax", row, _READERS, tuple(_READERS))
    return imported_runs(serving, left_out, gpu, {"itl": "per-token", "notes": _NOTES})


_READERS: Readers = {**JSON_READERS, ".csv": read_site_table}


def _row(content: dict[str, Any], where: str) -> Row | str:
    model = named_model(_model_name(content, where))
    known = str(model.get("model", ""))
    if known and (lacking := load_architecture(known).not_modelled):
        return f"{known} has {'; '.join(lacking)}: not modelled"
    measured = {
        **_lengths(content, where),
        **_latencies(content, where),
        **_throughput(content, where),
    }
    load = _load(content, where) if "conc" in content else _of_client(content, where, measured)
    server = _server(content, known, where)
    return {**model, **server, **load, **measured, "sampling": GREEDY}


def _model_name(content: dict[str, Any], where: str) -> str:
    name = "model" if given(content, "model") else "model_id"
    return str(field(content, name, where)).replace(" ", "-")


def _server(content: dict[str, Any], model: str, where: str) -> Row:
    framework = str(content.get("framework") or "")
    version = _VERSION.search(str(content.get("image") or ""))
    engine = _ENGINES.get(framework, framework) + (f" {version[1]}" if version else "")
    row: Row = {"engine": engine if framework else ""}
    if given(content, "tp"):
        row["tp"] = amount(content, "tp", where)
    if given(content, "precision"):
        row["dtype"] = _weights(str(content["precision"]).lower(), model)
    return row


def _weights(precision: str, model: str) -> str:
    """The weight type that a precision means; fp4 is that of the model's own file, else it stays open."""
    own = load_architecture(model).dtype if model else ""
    return own if precision == "fp4" and own == "mxfp4" else precision


def _load(content: dict[str, Any], where: str) -> Row:
    in_flight = amount(content, "conc", where)
    if not in_flight:
        raise ImportFormatError(f"{where}: conc must be 1 or more, got 0")
    sent = REQUESTS_EACH * in_flight
    return {"load": "closed", "concurrency": in_flight, "num_requests": sent}


def _of_client(content: dict[str, Any], where: str, measured: Row) -> Row:
    """The load of a client's result whose times were turned into seconds and that nobody aggregated."""
    sent: Row = {"num_requests": amount(content, "completed", where)}
    return {**sent, **read_load(content, where, {**sent, **measured}, "poisson")}


def _lengths(content: dict[str, Any], where: str) -> Row:
    """Lengths from the totals of a run, else from the nominal ones; open where neither is there."""
    row: Row = {}
    for what, nominal in (("input", "isl"), ("output", "osl")):
        total = f"total_{what}_tokens"
        if given(content, total) and given(content, "completed"):
            mean = amount(content, total, where) / amount(content, "completed", where)
            row[f"{what}_tokens_mean"] = mean
        elif given(content, nominal):
            row["cached_input_tokens_mean"] = 0
            tokens = amount(content, nominal, where)
            row[f"{what}_tokens_mean"] = round(MEAN * tokens, 1)
            row[f"{what}_tokens_std"] = round(STD * tokens, 1)
    return row


def _latencies(content: dict[str, Any], where: str) -> Row:
    row: Row = {}
    for what, name in _TIMES.items():
        for column, word in _STATISTICS.items():
            if given(content, f"{word}_{name}"):
                seconds = amount(content, f"{word}_{name}", where)
                row[f"{what}_ms_{column}"] = round(seconds * MS_PER_S, 4)
    return row


def _throughput(content: dict[str, Any], where: str) -> Row:
    row: Row = {}
    if given(content, "output_throughput"):
        row["output_tokens_per_s"] = amount(content, "output_throughput", where)
    elif given(content, "output_tput_per_gpu") and given(content, "tp"):
        per_gpu = amount(content, "output_tput_per_gpu", where)
        row["output_tokens_per_s"] = round(per_gpu * amount(content, "tp", where), 4)
    if given(content, "request_throughput"):
        row["requests_per_s"] = amount(content, "request_throughput", where)
    return row


def _unusable(content: Mapping[str, Any], gpu: str) -> str:
    """Why a result says nothing of the steps of one engine on ``gpu``; empty where it does."""
    hardware = str(content.get("hw") or "")
    if hardware and not _is_gpu(hardware, gpu):
        return f"was measured on {hardware}, not on {gpu}; import it with the --gpu that ran it"
    found = [
        words for name, is_so, words in _REASONS if is_so(str(content.get(name) or "").lower())
    ]
    return found[0] if found else ""


def _is_gpu(hardware: str, gpu: str) -> bool:
    """Whether a runner's name (``h200``, ``h200-nv_3``, ``b200_trt``) is that of ``gpu``."""
    stem = _STEM.match(hardware)
    said = canonical_gpu(stem[0] if stem else hardware).lower()
    known = canonical_gpu(gpu)
    return said == known.lower() or (known not in gpu_specs() and known.lower().startswith(said))


def _is_true(value: str) -> bool:
    return value in ("true", "1")


def _is_named(value: str) -> bool:
    return value not in ("", "none", "off", "false")


def _is_spread(value: str) -> bool:
    return value not in ("", "0", "1", "1.0")


_REASONS: tuple[tuple[str, Callable[[str], bool], str], ...] = (
    ("disagg", _is_true, "its server was disaggregated"),
    ("is_multinode", _is_true, "its server spanned several nodes"),
    ("dp_attention", _is_true, "its attention was data-parallel: the table is of one engine"),
    ("spec_decoding", _is_named, _SPECULATIVE),
    ("mtp", _is_named, _SPECULATIVE),
    ("ep", _is_spread, "its experts were spread over GPUs (ep above 1): the table cannot say it"),
)
"""By field: when it makes a result unusable, and the words for it."""
