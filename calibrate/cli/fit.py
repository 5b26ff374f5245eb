"""``calibrate fit``: from campaigns to an updated configuration and a report."""

import dataclasses
import functools
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calibrate.cli.choices import AUTO
from calibrate.cli.console import (
    GROUND_TRUTH,
    REPORTS,
    BenchOption,
    CampaignOption,
    GpuOption,
    GroundTruthOption,
    JsonOption,
    ModelConfigOption,
    bench_table,
    config_file,
    interval,
    name_numbers,
    number,
    percent,
    print_json,
    stderr,
    stdout,
    table,
)
from calibrate.cli.findings import show_findings, show_left_out
from calibrate.cli.fit_options import read_fit_options, with_fit_options
from calibrate.cli.hardware import engines_from, first_hardware
from calibrate.cli.prior import OtherGpus, other_gpus, show_priors
from calibrate.cli.selection import fit_best, show_candidates
from calibrate.cli.serving import hint_at_serving, show_serving
from calibrate.records.errors import merge

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from calibrate.campaign.campaign import Campaign
    from calibrate.job.publish import Published
    from calibrate.outcome.result import FitResult, Metrics

_SHOWN_WARNINGS = 12
_COLOURS = {"good": "green", "fair": "yellow", "poor": "red", "unknown": "dim"}


@with_fit_options
def command(
    gpu: GpuOption,
    ground_truth: GroundTruthOption = GROUND_TRUTH,
    campaign: CampaignOption = None,
    hardware_config: ModelConfigOption = None,
    bench_data_path: BenchOption = None,
    out: Annotated[
        Path, typer.Option("--out", help="Folder of reports.", metavar="FOLDER")
    ] = REPORTS,
    spec: Annotated[
        list[str] | None,
        typer.Option("--spec", help="KEY=VALUE of a new GPU, such as TFlopsPeak=362."),
    ] = None,
    engine_from: Annotated[
        str | None,
        typer.Option(
            "--engine-from",
            help="A GPU of the configuration, or another configuration's file: what it holds of engines is held here "
            "too, where no serving result says it.",
            metavar="GPU|FILE",
        ),
    ] = None,
    transfer: Annotated[
        bool,
        typer.Option(
            "--transfer",
            help="Start from other GPUs' values, and weigh them in: few rows of a new GPU then go far.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Fit and print; write nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write even a fit that is worse on held-out rows.")
    ] = False,
    json: JsonOption = False,
    **chosen: Any,
) -> None:
    """Fit a GPU's parameters to its campaigns; write the report and update the configuration."""
    options = read_fit_options(chosen)
    given = name_numbers(spec or [], "--spec")
    latency_model = options.latency_model
    from calibrate.records.workers import workers

    with (
        stderr().status("loading campaigns") as status,
        workers(options.jobs, options.scheduler),
    ):
        from calibrate.campaign.campaign import load_campaigns
        from calibrate.job.calibration import fit
        from calibrate.job.publish import publish
        from calibrate.records.config_writer import refuse_read_only
        from sim.models.registry import configured_models

        config = config_file(hardware_config, latency_model)
        if not dry_run:
            refuse_read_only(config)
        mfu_table = bench_table(latency_model, bench_data_path, gpu)
        start, notes = first_hardware(config, gpu, given, latency_model)
        lent = engines_from(engine_from, config, start.gpu) if engine_from else {}
        names = configured_models() if latency_model == AUTO else (latency_model,)
        campaigns = load_campaigns(ground_truth, gpu, campaign or [], start, names)
        others = OtherGpus(start)
        if transfer:
            others = other_gpus(start, options, campaigns, ground_truth, config, status.update)
        if not json:
            status.stop()
            _show_data(stdout(), campaigns)
            status.start()
        checkpoint = None if dry_run else out / start.gpu / ".bootstrap"
        fit_one = functools.partial(
            fit,
            campaigns,
            others.start,
            options,
            mfu_table=mfu_table,
            checkpoint=checkpoint,
            command=shlex.join(["calibrate", *sys.argv[1:]]),
            notes=[*notes, *others.notes],
            lent=lent,
            known=others.known,
            progress=status.update,
        )
        result, candidates = fit_best(lambda name: fit_one(latency_model=name), names)
        if not json:
            status.stop()
            if latency_model == AUTO:
                show_candidates(stdout(), candidates)
            _show(
                stdout(),
                result,
                {str(problem) for one in campaigns for problem in merge(one.problems)},
            )
            hint_at_serving(stdout(), result, campaigns)
            if not campaign:
                show_left_out(stdout(), ground_truth, gpu, names)
                stdout().print()
            status.start()
        status.update("drawing the report")
        published = publish(result, others.start, config, out, force=force, dry_run=dry_run)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    if json:
        paths = {
            key: None if path is None else str(path)
            for key, path in dataclasses.asdict(published).items()
        }
        print_json(
            {
                **result.to_dict(),
                "paths": paths,
                "candidates": [dataclasses.asdict(one) for one in candidates],
            }
        )
    else:
        _show_paths(stdout(), published)


def _show_data(console: "Console", campaigns: "Sequence[Campaign]") -> None:
    """What was found about the data, before anything is fitted to it."""
    for campaign in campaigns:
        if campaign.problems:
            show_findings(console, campaign, campaign.problems)
            console.print()


def _show(console: "Console", result: "FitResult", said: set[str]) -> None:
    parameters = table(
        f"{result.gpu} · {result.latency_model}",
        ["parameter", "old", "new", "90% interval", "unit", "status"],
        ["old", "new"],
        ["unit"],
    )
    for p in result.parameters:
        style = {"fitted": "", "at-bound": "yellow"}.get(p.status, "dim")
        parameters.add_row(
            p.name,
            number(p.start),
            number(p.value),
            interval(p.ci90),
            p.unit,
            p.status,
            style=style,
        )
    console.print(parameters)
    for p in result.parameters:
        if p.status == "inert":
            console.print(f"{p.name}: {p.why}.", style="dim", markup=False)
    show_priors(console, result)
    _show_kernels(console, result)
    if result.metrics.after:
        _show_errors(console, result)
    if result.serving is not None:
        show_serving(console, result.serving)
    console.print()
    _show_verdict(console, result, [text for text in result.warnings if text not in said])


def _show_errors(console: "Console", result: "FitResult") -> None:
    from rich.markup import escape

    console.print()
    held_out = result.metrics.held_out
    columns = ["before", "after", *(f"by {'run' if key == 'folds' else key}" for key in held_out)]
    slices = table(
        "Mean error of step times: before, after, and held out by run, by model, …",
        ["slice", "rows", *columns],
        ["rows", *columns],
        ["slice"],
    )
    for label, cells in _error_rows(result.metrics):
        slices.add_row(escape(label.replace(":", " ", 1)), *cells)
    console.print(slices)


def _error_rows(metrics: "Metrics") -> "Iterator[tuple[str, list[str]]]":
    """Every slice with its cells; after all rows that count, all with those that were set aside."""
    for label in metrics.after:
        yield label, _error_cells(metrics, label)
        if label == "all" and metrics.every_row is not None:
            yield "all, with rows set aside", _error_cells(metrics.every_row, label)


def _error_cells(metrics: "Metrics", label: str) -> list[str]:
    after = metrics.after[label]
    held = [
        percent(errors[label].mape) if label in errors else "–"
        for errors in metrics.held_out.values()
    ]
    return [f"{after.n:,}", percent(metrics.before[label].mape), percent(after.mape), *held]


def _show_kernels(console: "Console", result: "FitResult") -> None:
    if not result.kernels:
        return
    console.print()
    columns = ["kernels", "90% interval", "steps", "agree", "from"]
    shown = table("From kernels", ["parameter", *columns], ["kernels", "steps"], ["from"])
    for k in result.kernels:
        agree = {True: "yes", False: "no", None: "–"}[k.agrees]
        style = "yellow" if k.agrees is False else ""
        shown.add_row(
            k.parameter,
            number(k.value),
            interval(k.ci90),
            number(k.steps_value),
            agree,
            f"{k.from_} ({k.n})",
            style=style,
        )
    console.print(shown)


def _show_verdict(console: "Console", result: "FitResult", warnings: "Sequence[str]") -> None:
    from rich.markup import escape
    from rich.padding import Padding

    colour = _COLOURS[result.verdict.level]
    console.print(f"[bold {colour}]{result.verdict.level}[/]  {result.verdict.sentence}")
    for one in result.verdicts:
        light = f"[{_COLOURS[one.light]}]{one.light:<7}[/]"
        console.print(Padding(f"{light} [bold]on {one.name}[/]: {escape(one.text)}", (0, 0, 0, 2)))
    for text in warnings[:_SHOWN_WARNINGS]:
        console.print(Padding(f"[yellow]![/] {escape(text)}", (0, 0, 0, 2)))
    if len(warnings) > _SHOWN_WARNINGS:
        console.print(f"  … and {len(warnings) - _SHOWN_WARNINGS} more warnings in the report")
    console.print()


def _show_paths(console: "Console", published: "Published") -> None:
    if published.run is None:
        console.print("dry run: nothing was written")
        return
    for label, path in (
        ("report", published.report),
        ("configuration", published.config),
        ("its backup", published.backup),
    ):
        if path is not None:
            console.print(f"{label:<14} {path}", soft_wrap=True, markup=False)
