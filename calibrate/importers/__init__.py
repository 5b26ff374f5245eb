"""Importers: each turns one foreign format into the tables of a campaign."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from calibrate.config_writer import replace_bytes
from calibrate.errors import ImportFormatError
from calibrate.importers import (
    aiconfigurator,
    bench_data,
    forward_pass_metrics,
    guidellm,
    inference_perf,
    inferencemax,
    inferencemax_style,
    otel,
    splitwise,
)
from calibrate.importers.imported import Imported
from calibrate.importers.labels import fill_from_log, label
from calibrate.tables import compact
from calibrate.toml_text import toml_text
from sim.errors import nearest

_LARGEST_CSV = 100_000  # rows


@dataclasses.dataclass(frozen=True)
class Importer:
    """``read`` turns a source and a GPU into tables and what ``campaign.toml`` says of them."""

    read: Callable[[str, str], Imported]
    source: str
    summary: str


IMPORTERS = {
    "aiconfigurator": Importer(
        aiconfigurator.read,
        "package, or a folder laid out like the package's systems/data",
        "kernel latencies measured by NVIDIA, composed into engine steps",
    ),
    "bench-data": Importer(
        bench_data.read,
        "a folder with gemm/ and mha/, as --bench-data-path takes it",
        "GEMM and attention benchmarks of the roofline-v2 models, as kernel tables",
    ),
    "inference-perf": Importer(
        inference_perf.read,
        "a run's folder with results/ and exp-config.yaml, or a folder of them",
        "load points of a server, one a stage",
    ),
    "guidellm": Importer(
        guidellm.read,
        "a run's folder with guidellm-results.json and vllm.log or exp-config.yaml, or a folder of them",
        "load points of a server, one a benchmark of a sweep",
    ),
    "forward-pass-metrics": Importer(
        forward_pass_metrics.read,
        "a log (.jsonl, .jsonl.gz, .parquet) or a folder of them; needs --model and --tp",
        "engine steps as Dynamo, SGLang and vLLM report them",
    ),
    "inferencemax": Importer(
        inferencemax.read,
        "package, or its systems/silicon_sample.csv",
        "InferenceMAX's load points of dense models, in aiconfigurator-core",
    ),
    "inferencemax-style": Importer(
        inferencemax_style.read,
        "as for inferencemax, a colon and an engine: package:vllm-0.12.0",
        "load points of dense models that others measured as InferenceMAX does, one engine at a time",
    ),
    "otel": Importer(
        otel.read,
        "a traces.json, a run's folder with it and vllm.log or exp-config.yaml, or a folder of them",
        "OpenTelemetry request spans of a vLLM server, one row a stage of load",
    ),
    "splitwise": Importer(
        splitwise.read,
        "the perf_model.csv of the Splitwise simulator",
        "prompt and token times of Llama-2-70B and BLOOM",
    ),
}


def read_source(
    name: str, source: str, gpu: str, said: Mapping[str, object] | None = None, server_log: str | Path | None = None
) -> Imported:
    """Read ``source`` with the importer of that name.

    ``server_log``, the log of the vLLM server that ran, and then ``said`` (``model``, ``tp``, ``dtype``) fill
    columns that the source leaves open. Raises ImportFormatError for an unknown name, a bad source or log, or a model
    or degree that is said twice or never.
    """
    if name not in IMPORTERS:
        raise ImportFormatError(f"no importer {name!r} (there are {', '.join(IMPORTERS)}){nearest(name, IMPORTERS)}")
    imported = IMPORTERS[name].read(source, gpu)
    if server_log is not None:
        imported = fill_from_log(imported, Path(server_log))
    return label(imported, source, said or {})


def write_campaign(imported: Imported, folder: Path) -> list[Path]:
    """Write tables and ``campaign.toml`` into ``folder``, each file in one step, replacing those of their names.

    A table of more than 100,000 rows is written as Parquet, which reads and writes it ten times as fast.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files, replaced = {}, []
    for name, frame in imported.tables.items():
        end, other = (".parquet", ".csv") if len(frame) > _LARGEST_CSV else (".csv", ".parquet")
        files[f"{name}{end}"] = _table_bytes(compact(frame), end)
        replaced.append(folder / f"{name}{other}")
    files["campaign.toml"] = toml_text(imported.info).encode("utf-8")
    for name, content in files.items():
        replace_bytes(folder / name, content)
    for path in replaced:
        path.unlink(missing_ok=True)
    return [folder / name for name in files]


def _table_bytes(frame: pd.DataFrame, end: str) -> bytes:
    if end == ".parquet":
        return frame.to_parquet(index=False)
    return frame.to_csv(index=False, lineterminator="\n").encode("utf-8")
