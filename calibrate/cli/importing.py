"""``calibrate import``: a foreign format becomes a campaign."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrate.cli.choices import IMPORT_FORMATS, complete_import_format, listed
from calibrate.cli.console import (
    GROUND_TRUTH,
    GpuOption,
    GroundTruthOption,
    JsonOption,
    print_json,
    stdout,
)

if TYPE_CHECKING:
    from rich.console import Console

    from calibrate.importers.imported import Imported


def command(
    format_name: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help=f"{listed(IMPORT_FORMATS)} (`calibrate show formats` describes them).",
            autocompletion=complete_import_format,
            show_default=False,
        ),
    ],
    source: Annotated[
        str,
        typer.Argument(
            help="What to read; for aiconfigurator, `package` is the installed one.",
            show_default=False,
        ),
    ],
    gpu: GpuOption,
    campaign: Annotated[
        str, typer.Option("--campaign", help="Name of the campaign to make.", show_default=False)
    ],
    model: Annotated[
        str | None, typer.Option("--model", help="Model, where the source does not say it.")
    ] = None,
    tp: Annotated[
        int | None, typer.Option("--tp", min=1, max=4096, help="TP degree, likewise.")
    ] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="Weight type, likewise.")] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency", min=1, max=1_000_000, help="Requests at once, or in a batch, likewise."
        ),
    ] = None,
    input_tokens: Annotated[
        int | None,
        typer.Option(
            "--input-tokens", min=1, max=100_000_000, help="Prompt tokens a request, likewise."
        ),
    ] = None,
    output_tokens: Annotated[
        int | None,
        typer.Option(
            "--output-tokens", min=1, max=100_000_000, help="Output tokens a request, likewise."
        ),
    ] = None,
    server_log: Annotated[
        Path | None,
        typer.Option(
            "--server-log",
            help="Log of the vLLM server that ran: fills what the source leaves open.",
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            "--models",
            help="aiconfigurator: models to compose, such as mixtral-8x7b,qwen3-32b:fp8, or 2026 for all; "
            "inferencemax and -style: 2026 for those beside dense ones, or all.",
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine", help="aiconfigurator: vllm (without further word), sglang or trtllm."
        ),
    ] = None,
    ep: Annotated[
        str | None,
        typer.Option("--ep", help="aiconfigurator: degrees of expert parallelism, such as 1,8."),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option("--every", help="llmservingsim: keep one in so many steps of mixed batches."),
    ] = None,
    partitioned: Annotated[
        bool,
        typer.Option(
            "--partitioned",
            help="forward-pass-metrics: into a data set of Parquet files; a large log is so anyway.",
        ),
    ] = False,
    dataset: Annotated[
        str,
        typer.Option(
            "--dataset", help="The same, there: s3://bucket/steps, or another URL.", metavar="URL"
        ),
    ] = "",
    ground_truth: GroundTruthOption = GROUND_TRUTH,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a campaign of that name.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Turn measurements in another tool's format into a campaign folder."""
    from calibrate.campaign.folders import check_campaign_name
    from calibrate.cli.importing_logs import LogToImport, import_log, is_large_log
    from calibrate.importers import read_source, refuse_present, write_campaign
    from sim.hardware import check_gpu_name

    folder = ground_truth / check_gpu_name(gpu) / check_campaign_name(campaign)
    if not force:
        refuse_present(folder)
    options = {
        "model": model,
        "tp": tp,
        "dtype": dtype,
        "concurrency": concurrency,
        "input_tokens_mean": input_tokens,
        "output_tokens_mean": output_tokens,
    }
    said = {name: value for name, value in options.items() if value is not None}
    options_given = {"models": models, "engine": engine, "ep": ep, "every": every}
    asked = {name: value for name, value in options_given.items() if value is not None}
    place = (
        "" if ground_truth == GROUND_TRUTH else f" --ground-truth {shlex.quote(str(ground_truth))}"
    )
    step = f"calibrate validate --gpu {gpu} --campaign {campaign}{place}"
    if partitioned or dataset or is_large_log(format_name, source):
        what = LogToImport(source, gpu, folder, dataset, said, server_log, asked)
        import_log(what, format_name, step, json=json)
        return
    imported = read_source(format_name, source, gpu, said, server_log, **asked)
    write_campaign(imported, folder, force=force)
    if json:
        print_json(
            {
                "folder": str(folder),
                "rows": {name: len(frame) for name, frame in imported.tables.items()},
                "left_out": list(imported.left_out),
                "warnings": list(imported.warnings),
                "next": step,
            }
        )
    else:
        _show(stdout(), imported, folder, step)


def _show(console: "Console", imported: "Imported", folder: Path, step: str) -> None:
    for name, frame in imported.tables.items():
        console.print(f"{len(frame):,} rows of {name} in {folder}", soft_wrap=True, markup=False)
    for text in imported.left_out:
        console.print(f"left out: {text}", markup=False)
    for text in imported.warnings:
        console.print(f"warning: {text}", markup=False)
    console.print(f"next: {step}", soft_wrap=True, markup=False)
