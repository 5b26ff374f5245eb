"""Result folders of inference-perf: one row of ``serving`` a stage, under the client's own figures.

``results/config.yaml`` is what the client did; ``profile.yaml`` only what it was asked to do, for the client passes
over keys that it does not know. Where ``ignore_eos`` is set the requested output length is the true one: the client
counts the tokens of re-tokenised text. Its load of type constant draws exponential gaps too, rescaled to the stage,
so both of its open loads are Poisson. Source: github.com/kubernetes-sigs/inference-perf.
"""

from pathlib import Path
from typing import Any

from calibrate.importers.imported import Imported
from calibrate.importers.run_folder import (
    Row,
    entries,
    field,
    folder_label,
    imported_runs,
    number,
    read_json,
    read_runs,
    read_yaml,
    section,
)
from calibrate.importers.server import read_server
from calibrate.records.errors import ImportFormatError
from sim.units import MS_PER_S

_CONFIG = "results/config.yaml"
_LATENCIES = {"ttft": "time_to_first_token", "itl": "inter_token_latency", "e2e": "request_latency"}
_STATISTICS = {"mean": "mean", "p50": "median", "p90": "p90", "p99": "p99"}
_NOTES = (
    "Inter-token latency and tokens a second are the client's own figures; output length is the requested one where "
    "the client ignored end-of-sequence tokens. Prompts come again after distinct_prompts requests: with prefix "
    "caching on, all of a prompt but its last block is cached from then on."
)


def read(source: str, gpu: str) -> Imported:
    """Read a run's folder, or a folder of them. Raises ImportFormatError if a file or a field is missing."""
    serving, left_out = read_runs(source, [_CONFIG], "inference-perf", _run)
    return imported_runs(serving, left_out, gpu, {"notes": _NOTES})


def _run(where: Path) -> tuple[list[Row], list[str]]:
    folder = where.parents[1]
    config = read_yaml(where)
    server = read_server(folder, field(config, "server.model_name", where))
    server.pop("prefix_hit_rate", None)
    written = section(config, "storage.local_storage")
    label = folder_label(folder, Path(str(written.get("path") or "")).parent.name)
    common: Row = {
        "engine": str(field(config, "server.type", where)),
        **server,
        "folder": label,
        "run_id": folder.name,
    }
    files = (folder / "results").glob("stage_*_lifecycle_metrics.json")
    paths = {int(digits): path for path in files if (digits := path.name.split("_")[1]).isdecimal()}
    if not paths:
        raise ImportFormatError(f"{folder / 'results'}: holds no stage_*_lifecycle_metrics.json")
    rows: list[Row] = []
    left_out = []
    for stage in sorted(paths):
        metrics = read_json(paths[stage])
        if number(metrics, "successes.count", paths[stage]):
            measured = _measured(metrics, paths[stage])
            rows.append({**common, "stage": str(stage), **_asked(config, stage, where), **measured})
        else:
            left_out.append(f"{folder.name}, stage {stage}: no request succeeded")
    return [_with_lengths(row, config, where) for row in rows], left_out


def _asked(config: dict[str, Any], stage: int, where: Path) -> Row:
    stages = entries(config, "load.stages", where)
    if stage >= len(stages):
        raise ImportFormatError(
            f"{where}: load.stages has no stage {stage}, of which there is a result"
        )
    asked = stages[stage]
    if isinstance(asked, dict) and asked.get("concurrency_level") is not None:
        return {"load": "closed", "concurrency": number(asked, "concurrency_level", where)}
    return {"load": "poisson", "request_rate": number(asked, "rate", where)}


def _measured(metrics: dict[str, Any], path: Path) -> Row:
    row: Row = {
        "num_requests": number(metrics, "load_summary.count", path),
        "failed_requests": number(metrics, "failures.count", path),
        "input_tokens_mean": number(metrics, "successes.prompt_len.mean", path),
        "output_tokens_mean": number(metrics, "successes.output_len.mean", path),
    }
    for name, key in _LATENCIES.items():
        for column, statistic in _STATISTICS.items():
            seconds = number(metrics, f"successes.latency.{key}.{statistic}", path)
            row[f"{name}_ms_{column}"] = round(seconds * MS_PER_S, 4)
    row["output_tokens_per_s"] = number(metrics, "successes.throughput.output_tokens_per_sec", path)
    row["requests_per_s"] = number(metrics, "successes.throughput.requests_per_sec", path)
    return row


def _with_lengths(row: Row, config: dict[str, Any], where: Path) -> Row:
    """The row with the output length that was asked for, where the server had to keep to it."""
    shared = section(config, "data.shared_prefix")
    asked = section(config, "data.output_distribution")
    if shared:
        prompts = number(shared, "num_groups", where) * number(
            shared, "num_prompts_per_group", where
        )
        row = {**row, "distinct_prompts": prompts}
    if not section(config, "server").get("ignore_eos"):
        return row
    if "output_len" in shared:
        return {
            **row,
            "output_tokens_mean": number(shared, "output_len", where),
            "output_tokens_std": 0.0,
        }
    return {**row, "output_tokens_mean": number(asked, "mean", where)} if "mean" in asked else row
