"""``calibrate predict``: step times from a configuration."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from calibrate.cli.console import (
    BenchOption,
    GpuOption,
    ModelConfigOption,
    ModelOption,
    bench_table,
    stderr,
)
from calibrate.cli.hardware import read_hardware
from calibrate.cli.output import check_output


def command(
    steps: Annotated[
        Path,
        typer.Argument(
            help="A steps table (CSV or Parquet); latency_us is not needed.", show_default=False
        ),
    ],
    gpu: GpuOption,
    hardware_config: ModelConfigOption = None,
    latency_model: ModelOption = "roofline-v1",
    bench_data_path: BenchOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="CSV to write; standard output without it."),
    ] = None,
) -> None:
    """Add the column predicted_us to a table of steps."""
    from calibrate.campaign.step_rows import read_steps
    from calibrate.records.errors import CampaignError
    from calibrate.records.files import replace_text
    from calibrate.records.schema import STEPS_TO_PREDICT, TABLES
    from calibrate.records.tables import compact, read_table
    from sim.models.registry import latency_model as find_model

    model = find_model(latency_model, mfu_table=bench_table(latency_model, bench_data_path, gpu))
    hardware = read_hardware(hardware_config, gpu, latency_model)
    source = read_table(steps, STEPS_TO_PREDICT)
    requests = next(
        (path for path in steps.parent.glob("requests.*") if path.suffix in (".csv", ".parquet")),
        None,
    )
    rows, table, problems = read_steps(
        source, read_table(requests, TABLES["requests"]) if requests else None
    )
    bad = [problem for problem in (*source.problems, *problems) if problem.severity == "error"]
    if bad:
        raise CampaignError(bad)
    predicted = compact(rows.drop(columns="line")).assign(
        predicted_us=model.predict_us(table, hardware)
    )
    text = predicted.to_csv(index=False, lineterminator="\n")
    for limit in (text for arch in table.architectures for text in model.remarks(arch, hardware)):
        stderr().print(f"! {limit}", markup=False)
    if output is None:
        sys.stdout.write(text)
    else:
        check_output(output)
        replace_text(output, text)
