"""``calibrate predict``: step times from a configuration."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calibrate.cli.console import (
    BenchOption,
    EngineOption,
    GpuOption,
    JsonOption,
    ModelConfigOption,
    ModelOption,
    bench_table,
    print_json,
    stderr,
)
from calibrate.cli.hardware import engine_hardware, read_hardware
from calibrate.cli.output import check_output

if TYPE_CHECKING:
    from collections.abc import Hashable

    import pandas as pd


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
    engine: EngineOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="CSV to write; standard output without it."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Add the column predicted_us to a table of steps."""
    from calibrate.campaign.step_rows import read_steps
    from calibrate.records.errors import CampaignError
    from calibrate.records.files import replace_text
    from calibrate.records.schema import STEPS_TO_PREDICT, TABLES
    from calibrate.records.tables import compact, read_table
    from sim.models.registry import latency_model as find_model

    if output is not None:
        check_output(output, json=json)
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
    if engine is not None:
        hardware = engine_hardware(hardware, engine, [arch.name for arch in table.architectures])
    predicted = compact(rows.drop(columns="line")).assign(
        predicted_us=model.predict_us(table, hardware)
    )
    text = predicted.to_csv(index=False, lineterminator="\n")
    remarks = [text for arch in table.architectures for text in model.remarks(arch, hardware)]
    for remark in remarks:
        stderr().print(f"! {remark}", markup=False)
    if output is not None:
        replace_text(output, text)
    if json:
        print_json(
            {
                "gpu": hardware.gpu,
                "latency_model": latency_model,
                "remarks": remarks,
                "rows": len(predicted),
                "output": None if output is None else str(output),
                "steps": _plain_rows(predicted) if output is None else None,
            }
        )
    elif output is None:
        sys.stdout.write(text)


def _plain_rows(table: "pd.DataFrame") -> "list[dict[Hashable, Any]]":
    """Each row by column; a number that is not there is None."""
    cells = table.astype(object)
    return cells.where(cells.notna(), None).to_dict("records")
