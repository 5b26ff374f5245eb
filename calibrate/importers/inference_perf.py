"""Result folders of inference-perf: one row of ``serving`` a stage, under the client's own figures.

The stages lie in ``results/`` of a run's folder or, as the client itself names it, in ``reports-<time>/``; beside them
``config.yaml`` is what the client did. ``profile.yaml`` is only what it was asked to do, for the client passes over
keys that it does not know. Where ``ignore_eos`` is set the requested output length is the true one: the client counts
the tokens of re-tokenised text. Its load of type constant draws exponential gaps too, rescaled to the stage, so both
of its open loads are Poisson. Source: github.com/kubernetes-sigs/inference-perf.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calibrate.importers.imported import Imported
from calibrate.importers.inference_perf_config import asked_lengths, asked_load
from calibrate.importers.log_beside import log_beside
from calibrate.importers.run_folder import (
    Row,
    amount,
    field,
    folder_label,
    imported_runs,
    possible,
    read_json,
    read_runs,
    read_yaml,
    section,
)
from calibrate.importers.server import read_server
from calibrate.records.errors import ImportFormatError
from sim.units import MS_PER_S

_CONFIG, _RESULTS = "config.yaml", "results"
_STAGES = "stage_*_lifecycle_metrics.json"
_STAGE = re.compile(r"stage_(\d+)_lifecycle_metrics\.json")
_LACKS = (
    f"no inference-perf run: neither it nor a folder in it holds {_STAGES} or {_RESULTS}/{_CONFIG}"
)
_LATENCIES = {"ttft": "time_to_first_token", "itl": "inter_token_latency", "e2e": "request_latency"}
_STATISTICS = {"mean": "mean", "p50": "median", "p90": "p90", "p99": "p99"}
_LENGTHS = {"input": ("prompt_len", "prompt_tokens"), "output": ("output_len", "output_tokens")}
_NOTES = (
    "Inter-token latency and tokens a second are the client's own figures; output length is the requested one where "
    "the client ignored end-of-sequence tokens. Prompts come again after distinct_prompts requests: with prefix "
    "caching on, all of a prompt but its last block is cached from then on."
)


def read(source: str, gpu: str) -> Imported:
    """Read a run's folder, or a folder of them. Raises ImportFormatError if a file or a field is missing."""
    serving, left_out = read_runs(source, _find, _LACKS, _run)
    return imported_runs(serving, left_out, gpu, {"notes": _NOTES})


def _find(root: Path) -> list[Path]:
    """The folders of results in a folder, and in a run's folder or a folder of such."""
    places = [root, *root.glob("*/"), *root.glob(f"*/{_RESULTS}/")]
    return sorted({place for place in places if _holds_results(place)})


def _holds_results(folder: Path) -> bool:
    is_empty_run = folder.name == _RESULTS and (folder / _CONFIG).exists()
    return is_empty_run or any(folder.glob(_STAGES))


def _run(given: Path) -> tuple[list[Row], list[str]]:
    """The rows of a folder of results, of which a stage or the configuration may be given by itself."""
    results = given if given.is_dir() else given.parent
    nested = results.name == _RESULTS
    folder = results.parent if nested else results
    config_file = results / _CONFIG
    config = read_yaml(config_file) if config_file.exists() else {}
    written = Path(str(section(config, "storage.local_storage").get("path") or ""))
    label = folder_label(folder, written.parent.name if nested else written.name)
    common = {**_common(folder, config, config_file), "folder": label}
    paths = _stages(results, given)
    rows: list[Row] = []
    left_out = []
    for stage in sorted(paths):
        where = f"{folder.name}, stage {stage}"
        try:
            row = _row(config, config_file, stage, paths[stage])
        except ImportFormatError as error:
            left_out.append(f"{where}: {error}")
            continue
        if row:
            rows.append({**common, "stage": str(stage), **row})
        else:
            left_out.append(f"{where}: no request succeeded")
    return rows, left_out


def _common(folder: Path, config: Mapping[str, Any], where: Path) -> Row:
    """What is the same of all stages of a run; of one without its configuration the engine is not known."""
    model = field(config, "server.model_name", where) if config else ""
    log = log_beside(folder / _CONFIG) or log_beside(where)
    server = read_server(folder, model, log)
    server.pop("prefix_hit_rate", None)
    engine = str(field(config, "server.type", where)) if config else ""
    return {"engine": engine, **server, "run_id": folder.name}


def _stages(results: Path, given: Path) -> dict[int, Path]:
    files = [given] if _STAGE.fullmatch(given.name) else list(results.glob(_STAGES))
    found = {int(match[1]): path for path in files if (match := _STAGE.fullmatch(path.name))}
    if not found:
        raise ImportFormatError(f"{results}: holds no {_STAGES}")
    return found


def _row(config: Mapping[str, Any], where: Path, stage: int, path: Path) -> Row:
    """Load and figures of a stage; empty where no request succeeded."""
    metrics = read_json(path)
    if not amount(metrics, "successes.count", path):
        return {}
    load = asked_load(config, stage, where, section(metrics, "load_summary"), path)
    row = {**load, **_measured(metrics, path), **asked_lengths(config, where)}
    return possible(row, path)


def _measured(metrics: Mapping[str, Any], path: Path) -> Row:
    row: Row = {
        "num_requests": amount(metrics, "load_summary.count", path),
        "failed_requests": amount(metrics, "failures.count", path),
        **_lengths(metrics, path),
    }
    latency = section(metrics, "successes.latency")
    for name, key in _LATENCIES.items():
        if latency.get(key) is None and name != "e2e":  # the client did not stream
            continue
        for column, statistic in _STATISTICS.items():
            seconds = amount(metrics, f"successes.latency.{key}.{statistic}", path)
            row[f"{name}_ms_{column}"] = round(seconds * MS_PER_S, 4)
    row["output_tokens_per_s"] = amount(metrics, "successes.throughput.output_tokens_per_sec", path)
    row["requests_per_s"] = amount(metrics, "successes.throughput.requests_per_sec", path)
    return row


def _lengths(metrics: Mapping[str, Any], path: Path) -> Row:
    """Mean lengths, and what of prompts the server found in its cache where the client asked it."""
    successes = section(metrics, "successes")
    row: Row = {}
    for what, names in _LENGTHS.items():
        name = next((name for name in names if successes.get(name) is not None), names[0])
        row[f"{what}_tokens_mean"] = amount(metrics, f"successes.{name}.mean", path)
    if section(successes, "prompt_tokens").get("cached") is not None:
        cached = amount(metrics, "successes.prompt_tokens.cached", path)
        requests = amount(metrics, "successes.count", path)
        row["cached_input_tokens_mean"] = round(cached / requests, 1)
    return row
