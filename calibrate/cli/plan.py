"""``calibrate plan``: which points to measure next, and why."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calibrate.cli.console import (
    GROUND_TRUTH,
    BenchOption,
    CampaignOption,
    GpuOption,
    GroundTruthOption,
    JsonOption,
    ModelConfigOption,
    ModelOption,
    bench_table,
    config_file,
    name_numbers,
    number,
    print_json,
    split_names,
    stderr,
    table,
)
from calibrate.cli.hardware import first_hardware
from calibrate.cli.output import check_output, refuse_present, words_beside
from sim.units import S_PER_HOUR, S_PER_MIN, US_PER_MS

if TYPE_CHECKING:
    from collections.abc import Hashable

    from rich.console import Console

    from calibrate.campaign.campaign import Campaign
    from calibrate.planning.plan import Plan
    from sim.hardware import Hardware


_PARTS = {
    "num_prefill_requests": "sum_prefill_tokens",
    "num_decode_requests": "sum_decode_kv_tokens",
}

_Budget = Annotated[int, typer.Option("--budget", min=1, max=500, help="Points to measure.")]
_Seconds = Annotated[
    float | None, typer.Option("--seconds", min=1, help="Time to measure, at most.")
]
_Models = Annotated[
    list[str] | None,
    typer.Option("--models", help="Model, or several with commas; the campaigns' without it."),
]
_Tp = Annotated[list[str] | None, typer.Option("--tp", help="TP degrees; 1,2,4,8 without it.")]
_MaxBatch = Annotated[
    int, typer.Option("--max-batch", min=1, max=4096, help="Requests in a step, at most.")
]
_MaxTokens = Annotated[
    int,
    typer.Option("--max-tokens", min=32, max=131072, help="Prompt tokens in a step, at most."),
]
_Replicates = Annotated[
    int, typer.Option("--replicates", min=1, max=100, help="Rows of each point.")
]
_Spec = Annotated[
    list[str] | None,
    typer.Option("--spec", help="KEY=VALUE of a new GPU, such as TFlopsPeak=362."),
]
_Transfer = Annotated[
    bool,
    typer.Option("--transfer", help="Plan from what other GPUs say of this one; see transfer."),
]
_Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of a first plan's sets of values.")]
_Output = Annotated[Path, typer.Option("--output", "-o", help="Table of steps to fill in.")]
_Force = Annotated[bool, typer.Option("--force", help="Replace the output file.")]


def command(
    gpu: GpuOption,
    budget: _Budget = 24,
    seconds: _Seconds = None,
    models: _Models = None,
    tp: _Tp = None,
    max_batch: _MaxBatch = 256,
    max_tokens: _MaxTokens = 16384,
    replicates: _Replicates = 1,
    latency_model: ModelOption = "roofline-v1",
    ground_truth: GroundTruthOption = GROUND_TRUTH,
    campaign: CampaignOption = None,
    hardware_config: ModelConfigOption = None,
    bench_data_path: BenchOption = None,
    spec: _Spec = None,
    transfer: _Transfer = False,
    seed: _Seed = 0,
    output: _Output = Path("plan.csv"),
    force: _Force = False,
    json: JsonOption = False,
) -> None:
    """Choose the next points to measure: those that teach most about the parameters."""
    given = name_numbers(spec or [], "--spec")
    degrees = _degrees(tp or ["1,2,4,8"])
    from calibrate.planning.plan import plan
    from calibrate.records.files import replace_text
    from sim.architecture_files import load_architecture
    from sim.configuration import read_config

    check_output(output, json=json)
    refuse_present(output, force=force)
    mfu_table = bench_table(latency_model, bench_data_path, gpu)
    if hardware_config is not None:
        read_config(hardware_config)
    config = config_file(hardware_config, latency_model)
    hardware, notes = first_hardware(config, gpu, given, latency_model)
    known: dict[str, float] = {}
    if transfer:
        hardware, known = _from_others(hardware, latency_model, ground_truth, config)
    names = split_names(models or [])
    architectures = [load_architecture(name) for name in names]
    made = plan(
        _campaigns(ground_truth, hardware, campaign or [], latency_model),
        hardware,
        model=latency_model,
        mfu_table=mfu_table,
        architectures=list(dict.fromkeys(architectures)),
        tps=degrees,
        budget=budget,
        seconds=seconds,
        replicates=replicates,
        max_batch=max_batch,
        max_tokens=max_tokens,
        seed=seed,
        notes=[note.replace("; a block is added", "") for note in notes],
        known=known,
    )
    replace_text(output, made.steps.to_csv(index=False, lineterminator="\n"))
    if json:
        print_json({**made.to_dict(), "output": str(output)})
    else:
        fit = f"calibrate fit --gpu {made.gpu}"
        if bench_data_path is not None:
            fit += f" --latency-model {latency_model} --bench-data-path {bench_data_path}"
        if transfer:
            fit += f" --latency-model {latency_model} --transfer"
        console = words_beside(output)
        _show(console, made, budget)
        _show_next(console, fit, output, ground_truth / made.gpu)


def _from_others(
    start: "Hardware", latency_model: str, ground_truth: Path, config: Path
) -> "tuple[Hardware, dict[str, float]]":
    """The GPU with other GPUs' values where the configuration has none, and how far these may be off."""
    from calibrate.job.transfer import transfer_to, transferable_model

    with stderr().status("reading campaigns") as status:
        model = transferable_model(latency_model)
        answer = transfer_to(
            start, model, ground_truth, config=config, progress=status.update, alone=False
        )
    own = {name: start.values[name] for name in model.parameter_names if name in start.values}
    return answer.transferred.hardware.with_values(own), answer.spread()


def _degrees(options: list[str]) -> list[int]:
    degrees = []
    for text in split_names(options):
        if not text.isdecimal() or not 1 <= int(text) <= 4096:
            raise typer.BadParameter(
                f"{text!r}: give whole numbers of 1 or more, such as 1,2,4", param_hint="--tp"
            )
        degrees.append(int(text))
    return degrees


def _campaigns(
    ground_truth: Path, hardware: "Hardware", names: list[str], latency_model: str
) -> "list[Campaign]":
    """The GPU's campaigns; none where it has no folder yet, unless some were named."""
    from calibrate.campaign.campaign import load_campaigns
    from sim.hardware import find_gpu

    campaigns = [path for path in ground_truth.glob("*/*") if path.is_dir()]
    gpu = find_gpu(hardware.gpu, [path.parent.name for path in campaigns])
    if gpu is None and not names:
        return []
    return load_campaigns(ground_truth, gpu or hardware.gpu, names, hardware, [latency_model])


def _show(console: "Console", made: "Plan", budget: int) -> None:
    from rich.markup import escape
    from rich.padding import Padding

    _show_parameters(console, made)
    _show_points(console, made)
    count = len(made.points)
    points = _plural(count, "point")
    if count < budget:
        points += f" (of {budget})"
    beside = f" beside {made.prior_rows:,} measured ones" if made.prior_rows else ""
    console.print(
        f"{points}{beside}, {_plural(made.loads, 'model load')}, about {_duration(made.seconds)}. "
        f"The joint interval becomes [bold]{made.narrowing:.3g} times[/] narrower."
    )
    unseen = [p for p in made.parameters if p.status == "free" and p.after is None]
    unseen_notes = [f"{p.name} is not seen: it shows in {p.seen_in}." for p in unseen]
    for note in [*made.notes, *unseen_notes]:
        console.print(Padding(f"[yellow]![/] {escape(note)}", (0, 0, 0, 2)))
    console.print()


def _show_parameters(console: "Console", made: "Plan") -> None:
    title = f"{made.gpu} · {made.latency_model} · expected 90% half-widths"
    columns = ["parameter", "value", "now", "planned", "unit"]
    rows = table(title, columns, columns[1:4])
    free = [p for p in made.parameters if p.status == "free"]
    others = [p for p in made.parameters if p.status != "free"]
    for p in free:
        now = _half_width(p.now)
        after = _half_width(p.after)
        style = "" if p.after is not None else "yellow"
        rows.add_row(p.name, number(p.value), now, after, p.unit, style=style)
    for p in others:
        rows.add_row(p.name, number(p.value), "", p.status, p.unit, style="dim")
    console.print(rows)
    console.print()


def _show_points(console: "Console", made: "Plan") -> None:
    from rich.markup import escape

    rows = table("Points", ["requests × tokens each", "predicted", "teaches"], ["predicted"])
    previous = None
    for point in made.points.to_dict("records"):
        load = escape(_engine(point))
        if load != previous:
            if previous is not None:
                rows.add_section()
            rows.add_row(f"[bold]{load}[/]")
            previous = load
        predicted = f"{point['predicted_us'] / US_PER_MS:,.1f} ms"
        rows.add_row(f"  {_step(point)}", predicted, point["teaches"])
    console.print(rows)
    console.print()


def _engine(point: "dict[Hashable, Any]") -> str:
    """What is started for a point: model, weights that are not in 16 bits, GPUs, and how many share the experts."""
    stored = "" if point["dtype"] in ("bf16", "fp16") else f" {point['dtype']}"
    shared = f", ep {point['ep']}" if point.get("ep", 1) > 1 else ""
    return f"{point['model']}{stored}, tp {point['tp']}{shared}"


def _show_next(console: "Console", fit: str, output: Path, campaigns: Path) -> None:
    console.print(f"{'plan':<14} {output}", soft_wrap=True, markup=False)
    place = campaigns / "<campaign>" / "steps.csv"
    console.print(
        f"{'then':<14} fill in latency_us, put it at {place}", soft_wrap=True, markup=False
    )
    console.print(f"{'':<14} {fit}", soft_wrap=True, markup=False)


def _step(point: "dict[Hashable, Any]") -> str:
    parts = []
    for requests, tokens in _PARTS.items():
        count = point[requests]
        if count:
            parts.append(f"{count:,} × {point[tokens] // count:,}")
    return f"{point['phase']:<8} {' + '.join(parts)}"


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _half_width(value: float | None) -> str:
    if value is None:
        return "not seen"
    return f"± {value:.0%}" if value >= 0.0995 else f"± {value:.1%}"


def _duration(seconds: float) -> str:
    minutes = max(round(seconds / S_PER_MIN), 2)
    return f"{seconds / S_PER_HOUR:.1f} hours" if minutes >= 90 else f"{minutes} minutes"
