"""Importers: each turns one foreign format into the tables of a campaign.

In: engines' logs and clients' results. Out: a campaign's tables, written.
Uses: campaign and below.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from calibrate.campaign.campaign import TABLE_ENDS, load_campaign
from calibrate.importers import (
    aiconfigurator,
    aiperf,
    aisimulate,
    bench_data,
    blis_evaluation,
    blis_trace,
    forward_pass_metrics,
    guidellm,
    inference_perf,
    inferencemax,
    inferencemax_style,
    llm_d_benchmark,
    llmservingsim,
    otel,
    sglang_bench,
    sglang_log,
    splitwise,
    vllm_bench,
    vllm_latency,
)
from calibrate.importers.imported import Imported, check_text
from calibrate.importers.labels import NEEDS, SERVED, fill_from_log, labelled
from calibrate.records.errors import CalibrateError, ImportFormatError
from calibrate.records.files import replace_bytes
from calibrate.records.folders import replaced_folder
from calibrate.records.tables import compact
from calibrate.records.toml_text import toml_text
from sim.errors import nearest

_LARGEST_CSV = 100_000  # rows


@dataclasses.dataclass(frozen=True)
class Importer:
    """``read`` turns a source and a GPU into tables and what ``campaign.toml`` says of them.

    ``options`` are what else it can be told. Columns of ``needs`` that the source leaves open are for the user to say;
    ``complete`` then makes the rows whole.
    """

    read: Callable[..., Imported]
    source: str
    summary: str
    options: tuple[str, ...] = ()
    needs: tuple[str, ...] = NEEDS
    complete: Callable[[Imported], Imported] | None = None


IMPORTERS = {
    "aiconfigurator": Importer(
        aiconfigurator.read,
        "package, or a folder laid out like the package's systems/data",
        "kernel latencies measured by NVIDIA, composed into engine steps",
        ("models", "engine", "ep"),
    ),
    "bench-data": Importer(
        bench_data.read,
        "a folder with gemm/ and mha/, as --bench-data-path takes it",
        "GEMM and attention benchmarks of the roofline-v2 models, as kernel tables",
    ),
    "inference-perf": Importer(
        inference_perf.read,
        "a run's folder (results/ or reports-<time>/, with exp-config.yaml; else needs --tp), or a folder of them",
        "load points of a server, one a stage",
        needs=SERVED,
    ),
    "guidellm": Importer(
        guidellm.read,
        "a result in JSON, a run's folder (with vllm.log or exp-config.yaml; else needs --tp), or a folder of them",
        "load points of a server, one a benchmark of a sweep",
        needs=SERVED,
    ),
    "forward-pass-metrics": Importer(
        forward_pass_metrics.read,
        "a log (.jsonl, .jsonl.gz, .parquet) or a folder of them; needs --model and --tp",
        "engine steps as Dynamo, SGLang and vLLM report them",
    ),
    "aisimulate": Importer(
        aisimulate.read,
        "a fpm_forward_perf.parquet, or a folder that holds such, as systems/ does",
        "engine steps as AISimulate and Dynamo's collector keep them",
    ),
    "blis-evaluation": Importer(
        blis_evaluation.read,
        "an EvaluationRun in YAML, or a folder of them; needs --model and --tp",
        "load points of a server, one a concurrency",
        needs=SERVED,
    ),
    "blis-trace": Importer(
        blis_trace.read,
        "the header (.yaml) of a TraceV2 with its .csv beside it, or a folder of them",
        "requests of a real server as blis observe keeps them, one row a stage of load",
        needs=SERVED,
    ),
    "llm-d-benchmark": Importer(
        llm_d_benchmark.read,
        "a benchmark report (version 0.1 or 0.2) in YAML or JSON, or a folder of them",
        "load points of a server, one a report",
        needs=SERVED,
    ),
    "inferencemax": Importer(
        inferencemax.read,
        "package, or its systems/silicon_sample.csv; an agg_*.json of a run, a folder of them, or the site's CSV",
        "InferenceMAX's load points: in aiconfigurator-core, or its own results",
        ("models",),
        needs=inferencemax.NEEDS,
    ),
    "inferencemax-style": Importer(
        inferencemax_style.read,
        "as for inferencemax, a colon and an engine, or all: package:vllm-0.12.0",
        "load points that others measured as InferenceMAX does",
        ("models",),
    ),
    "llmservingsim": Importer(
        llmservingsim.read,
        "a folder of LLMServingSim's profiles (meta.yaml) or runs (meta.json), or one that holds such folders",
        "profiled layers of vLLM, composed into engine steps with mixed batches, and runs of its servers",
        ("every",),
    ),
    "otel": Importer(
        otel.read,
        "a traces.json, a run's folder with it and vllm.log or exp-config.yaml, or a folder of them",
        "OpenTelemetry request spans of a vLLM server, one row a stage of load",
    ),
    "vllm-bench": Importer(
        vllm_bench.read,
        "a result of vllm bench serve, or a folder of them; needs --tp where --metadata does not say it",
        "load points of a server, one a run",
        needs=SERVED,
    ),
    "vllm-latency": Importer(
        vllm_latency.read,
        "a result of vllm bench latency; needs --model, --tp, --concurrency, --input-tokens and --output-tokens",
        "end-to-end times of static batches",
        needs=vllm_latency.NEEDS,
        complete=vllm_latency.of_batches,
    ),
    "sglang-bench": Importer(
        sglang_bench.read,
        "a result of sglang.bench_serving, or a folder of them; needs --model and --tp if it has no server_info",
        "load points of a server, one a run",
        needs=SERVED,
    ),
    "sglang-log": Importer(
        sglang_log.read,
        "a log of an SGLang server run with --decode-log-interval 1, or a folder of them",
        "decode steps, one a line of the log",
    ),
    "aiperf": Importer(
        aiperf.read,
        "a JSON or CSV export of AIPerf or GenAI-Perf, or a folder of them; needs --tp",
        "load points of a server, one a run",
        needs=SERVED,
    ),
    "splitwise": Importer(
        splitwise.read,
        "the perf_model.csv of the Splitwise simulator",
        "prompt and token times of Llama-2-70B and BLOOM",
    ),
}


def read_source(
    name: str,
    source: str,
    gpu: str,
    said: Mapping[str, object] | None = None,
    server_log: str | Path | None = None,
    **options: str,
) -> Imported:
    """Read ``source`` with the importer of that name.

    ``server_log``, the log of the vLLM server that ran, and then ``said``, by column (:data:`OPTIONS`), fill rows that
    leave a column open. ``options`` go to the importer. Raises ImportFormatError for an unknown name or option, a bad
    source or log, a value that is not a row's own, or a column that nobody says.
    """
    if name not in IMPORTERS:
        raise ImportFormatError(
            f"no importer {name!r} (there are {', '.join(IMPORTERS)}){nearest(name, IMPORTERS)}"
        )
    importer = IMPORTERS[name]
    foreign = [option for option in options if option not in importer.options]
    if foreign:
        raise ImportFormatError(f"{name} takes no --{foreign[0]}: leave it out")
    with np.errstate(over="ignore"):  # what is infinite is refused where the tables are read back
        imported = importer.read(source, gpu, **options)
    imported = completed(imported, source, importer.needs, said or {}, server_log)
    return importer.complete(imported) if importer.complete else imported


def completed(
    imported: Imported,
    source: str,
    needs: Sequence[str],
    said: Mapping[str, object],
    server_log: str | Path | None = None,
) -> Imported:
    """What a source leaves open filled in by a server's log and then by its user; raises as :func:`read_source`."""
    if server_log is not None:
        imported = fill_from_log(imported, Path(server_log))
    imported = labelled(imported, source, said, needs)
    check_text(imported, source)
    return imported


def refuse_present(folder: Path) -> None:
    """Raise CalibrateError for a campaign that is there."""
    if folder.exists():
        raise CalibrateError(
            f"{folder}: is there already; give another --campaign, or --force to replace its tables"
        )


def write_campaign(imported: Imported, folder: Path, *, force: bool = True) -> list[Path]:
    """Write tables and ``campaign.toml`` into ``folder``, all or nothing; other files of the folder stay.

    A table of more than 100,000 rows is written as Parquet, which reads and writes it ten times as fast. Raises
    CalibrateError for a folder that is there, unless ``force``, and for a file that cannot be written or read back.
    """
    with replaced_folder(folder) as new:
        if not force:
            refuse_present(folder)
        names = [_write_table(new, name, frame) for name, frame in imported.tables.items()]
        replace_bytes(new / "campaign.toml", toml_text(imported.info).encode("utf-8"))
        _check_readable(new, imported, folder)
    return [folder / name for name in [*names, "campaign.toml"]]


def _write_table(folder: Path, name: str, frame: pd.DataFrame) -> str:
    """Write a table in place of one of that name; return the file's name."""
    end = ".parquet" if len(frame) > _LARGEST_CSV else ".csv"
    for other in TABLE_ENDS:
        (folder / f"{name}{other}").unlink(missing_ok=True)
    replace_bytes(folder / f"{name}{end}", _table_bytes(compact(frame), end))
    return f"{name}{end}"


def _check_readable(new: Path, imported: Imported, folder: Path) -> None:
    """Raise CalibrateError unless the campaign loads with as many rows as were written."""
    rows = {file.table: file.rows for file in load_campaign(new, folder.parent.name).files}
    for name, frame in imported.tables.items():
        if rows.get(name) != len(frame):
            raise CalibrateError(
                f"{folder / name}: {len(frame):,} rows were written and {rows.get(name, 0):,} read back; "
                f"{folder} is as it was. Is the disk sound?"
            )


def _table_bytes(frame: pd.DataFrame, end: str) -> bytes:
    if end == ".parquet":
        return frame.to_parquet(index=False)
    return frame.to_csv(index=False, lineterminator="\n").encode("utf-8")
