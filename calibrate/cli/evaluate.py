"""``calibrate evaluate``: how far off a configuration is on campaigns, nothing fitted."""

import collections
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrate.cli.console import (
    GROUND_TRUTH,
    SERVING_NAMES,
    BenchOption,
    CampaignOption,
    EngineOption,
    GpuOption,
    GroundTruthOption,
    JsonOption,
    ModelConfigOption,
    ModelOption,
    bench_table,
    percent,
    print_json,
    stderr,
    table,
)
from calibrate.cli.findings import show_left_out
from calibrate.cli.hardware import engine_hardware, read_hardware
from calibrate.cli.output import check_output, words_beside

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console
    from rich.table import Table

    from calibrate.outcome.evaluation import Evaluation, ServingEvaluation
    from calibrate.trust.metrics import Errors

_EXIT_ABOVE = 3
_COLUMNS = ("rows", "mean", "median", "90th pct.", "bias")


def _percentage(value: float | None) -> float | None:
    if value is not None and not 0 <= value < math.inf:  # a range in typer lets nan through
        raise typer.BadParameter(f"{value:g}: give a percentage of 0 or more, such as 15")
    return value


def command(
    gpu: GpuOption,
    hardware_config: ModelConfigOption = None,
    latency_model: ModelOption = "roofline-v1",
    ground_truth: GroundTruthOption = GROUND_TRUTH,
    campaign: CampaignOption = None,
    bench_data_path: BenchOption = None,
    engine: EngineOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="CSV of every step and serving figure, measured and predicted, to write.",
        ),
    ] = None,
    fail_above: Annotated[
        float | None,
        typer.Option(
            "--fail-above",
            callback=_percentage,
            help="Exit with 3 if the mean error of steps, TTFT, ITL or end-to-end time is above so many percent.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Say how far off a configuration is on campaigns, steps and serving results; nothing is fitted."""
    with stderr().status("loading campaigns") as status:
        from calibrate.campaign.campaign import load_campaigns
        from calibrate.outcome.evaluation import evaluate
        from calibrate.serving.points import served_models

        if output is not None:
            check_output(output, json=json)
        mfu_table = bench_table(latency_model, bench_data_path, gpu)
        known = read_hardware(hardware_config, gpu, latency_model)
        campaigns = load_campaigns(ground_truth, gpu, campaign or [], known, [latency_model])
        hardware = engine_hardware(known, engine, served_models(campaigns, engine or ""))
        status.update("predicting steps and serving runs")
        evaluation = evaluate(
            campaigns, hardware, model=latency_model, mfu_table=mfu_table, engine=engine or ""
        )
    if output is not None:
        _write_rows(evaluation, output)
    if json:
        print_json(evaluation.to_dict())
    else:
        _show(words_beside(output), evaluation)
        if not campaign:
            show_left_out(words_beside(output), ground_truth, gpu, [latency_model])
    if fail_above is not None:
        _refuse_above(evaluation, fail_above)


def _write_rows(evaluation: "Evaluation", output: Path) -> None:
    from calibrate.records.files import replace_text

    replace_text(
        output, evaluation.rows.to_csv(index=False, lineterminator="\n", float_format="%.8g")
    )


def _refuse_above(evaluation: "Evaluation", limit: float) -> None:
    """Name every mean error above ``limit`` percent on standard error, and exit with 3 if there is one."""
    above = {
        name: 100.0 * one.mape
        for name, one in evaluation.overall.items()
        if 100.0 * one.mape > limit
    }
    for name, error in above.items():
        print(
            f"calibrate: the mean error of {SERVING_NAMES.get(name, name)} is {error:.2f}%, "
            f"{error - limit:.2f} points above --fail-above {limit:g}",
            file=sys.stderr,
        )
    if above:
        raise typer.Exit(_EXIT_ABOVE)


def _show(console: "Console", evaluation: "Evaluation") -> None:
    header = f"{evaluation.gpu} · {evaluation.latency_model} · {evaluation.hardware_config}"
    console.print(f"{header}, nothing fitted", markup=False, soft_wrap=True)
    if evaluation.steps:
        console.print()
        console.print(_steps_table(evaluation.steps))
    if evaluation.serving and evaluation.serving.errors:
        console.print()
        console.print(_serving_table(evaluation.serving))
    served = evaluation.serving
    notes = [
        *evaluation.notes,
        *(served.left_out if served else ()),
        *(served.assumptions if served else ()),
    ]
    if notes:
        console.print()
    for text in notes:
        console.print(f"! {text}", style="dim", markup=False)


def _steps_table(slices: "Mapping[str, Errors]") -> "Table":
    steps = table("Errors of step times", ["slice", *_COLUMNS], _COLUMNS, ["slice"])
    for label, one in _telling(slices).items():
        steps.add_row(*_cells(label.replace(":", " ", 1), one))
    return steps


def _serving_table(serving: "ServingEvaluation") -> "Table":
    """Every metric, then its slices."""
    served = table("Errors of serving runs, mean figures", ["", *_COLUMNS], _COLUMNS, [""])
    for metric, slices in serving.errors.items():
        for label, one in _telling(slices).items():
            is_all = label == "all"
            name = SERVING_NAMES[metric] if is_all else f"  {label.replace(':', ' ', 1)}"
            served.add_row(*_cells(name, one), style="" if is_all else "dim")
    return served


def _telling(slices: "Mapping[str, Errors]") -> "dict[str, Errors]":
    """The slices without those that are all the rows: the only model, TP, … there is."""
    labels = collections.Counter(label.partition(":")[0] for label in slices)
    return {
        label: one
        for label, one in slices.items()
        if label == "all" or labels[label.partition(":")[0]] > 1
    }


def _cells(label: str, one: "Errors") -> list[str]:
    from rich.markup import escape

    errors = (one.mape, one.median_ape, one.p90_ape)
    return [escape(label), f"{one.n:,}", *(percent(error) for error in errors), f"{one.bias:+.1%}"]
