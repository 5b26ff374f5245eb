"""``calibrate bench``: measure this machine and keep it as a campaign."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrate.cli.campaign_folder import check_campaign_folder
from calibrate.cli.console import (
    GROUND_TRUTH,
    GpuOption,
    JsonOption,
    number,
    print_json,
    split_names,
    stderr,
    stdout,
    table,
)
from calibrate.cli.progress import progress_bars

if TYPE_CHECKING:
    from rich.console import Console

    from calibrate.bench.benchmark import Outcome
    from calibrate.bench.stages import Asked
    from calibrate.bench.timing import Sampling


_Part = Annotated[
    str,
    typer.Argument(
        metavar="PART",
        help="specs, memory, gemm, attention, moe, mla, allreduce, collectives, steps or all.",
        show_default=False,
    ),
]
_Out = Annotated[
    Path | None,
    typer.Option("--out", help="Campaign folder; ground_truth/<GPU>/pytorch-<version> without it."),
]
_Device = Annotated[
    str | None, typer.Option("--device", help="cuda or cpu; the GPU if there is one.")
]
_Models = Annotated[
    list[str] | None,
    typer.Option(
        "--models", help="Models of gemm, moe, mla and steps, with commas; may be repeated."
    ),
]
_Points = Annotated[
    Path | None,
    typer.Option("--points", help="Steps to measure, as `calibrate plan` writes them."),
]
_Dtype = Annotated[
    str | None,
    typer.Option("--dtype", help="bf16, fp16 or fp32; bf16 on a GPU, fp32 on a processor."),
]
_Minutes = Annotated[
    float | None, typer.Option("--minutes", min=0.1, help="Time to measure, at most.")
]
_Small = Annotated[
    bool, typer.Option("--small", help="Small sizes and tiny models, for a processor.")
]
_Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Threads on a processor; PyTorch's choice without it."),
]
_MaxNoise = Annotated[
    float,
    typer.Option(
        "--max-noise",
        min=0.0,
        help="Relative standard error in % at which a point has been sampled enough.",
    ),
]
_MinSamples = Annotated[
    int, typer.Option("--min-samples", min=2, help="Samples of a point, at the least.")
]
_MaxSamples = Annotated[
    int, typer.Option("--max-samples", min=2, help="Samples of a point, at most.")
]
_Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        min=0.0,
        help="Seconds after which no more samples of a point are begun; 0.1 to 3, by table, without it.",
        show_default=False,
    ),
]


def command(
    part: _Part,
    gpu: GpuOption,
    out: _Out = None,
    device: _Device = None,
    models: _Models = None,
    points: _Points = None,
    dtype: _Dtype = None,
    minutes: _Minutes = None,
    small: _Small = False,
    threads: _Threads = None,
    max_noise: _MaxNoise = 0.5,
    min_samples: _MinSamples = 10,
    max_samples: _MaxSamples = 1000,
    timeout: _Timeout = None,
    json: JsonOption = False,
) -> None:
    """Measure this machine's GPU or processor; a run that was stopped goes on where it stopped."""
    from calibrate.bench.benchmark import run_benchmark
    from calibrate.bench.device import import_torch, open_device, torch_dtype
    from calibrate.bench.stages import PARTS, Asked
    from calibrate.records.errors import CalibrateError
    from sim.errors import nearest

    if part not in PARTS:
        known = ", ".join(PARTS)
        raise CalibrateError(
            f"bench {part}: no such part (there are {known}){nearest(part, PARTS)}"
        )
    sampling = _sampling(max_noise, min_samples, max_samples, timeout)
    folder = _campaign_folder(out, gpu, str(import_torch().__version__))
    with stderr().status("opening the device"):
        opened = open_device(device, threads)
        chosen = dtype or ("bf16" if opened.kind == "cuda" else "fp32")
        torch_dtype(chosen)
    names = tuple(split_names(models or []))
    asked = Asked(part, gpu, folder, chosen, names, points, minutes, small, sampling=sampling)
    try:
        with progress_bars() as tell:
            outcome = run_benchmark(opened, asked, tell)
    except KeyboardInterrupt:
        raise CalibrateError(
            f"Interrupted. {folder} keeps what is measured; the same command goes on there."
        ) from None
    if json:
        print_json({**dataclasses.asdict(outcome), "folder": str(folder)})
    else:
        _show(stdout(), outcome, asked)


def _sampling(
    max_noise: float, min_samples: int, max_samples: int, timeout_s: float | None
) -> "Sampling":
    """When a point has been sampled enough, of options; ``max_noise`` is in %."""
    from calibrate.bench.timing import Sampling

    if max_samples < min_samples:
        raise typer.BadParameter(
            f"is below --min-samples {min_samples}", param_hint=f"--max-samples {max_samples}"
        )
    return Sampling(max_noise / 100.0, min_samples, max_samples, timeout_s)


def _campaign_folder(out: Path | None, gpu: str, torch_version: str) -> Path:
    """Where the campaign goes: a folder of the GPU's. Raises CalibrateError for a name it cannot have."""
    from sim.hardware import canonical_gpu, check_gpu_name

    check_gpu_name(gpu)
    release, _, _ = torch_version.partition("+")
    folder = out or GROUND_TRUTH / canonical_gpu(gpu) / f"pytorch-{release}"
    return check_campaign_folder(folder, gpu, "--out")


def _show(console: "Console", outcome: "Outcome", asked: "Asked") -> None:
    from rich.markup import escape
    from rich.padding import Padding

    device = escape(str(outcome.machine["device"]))
    facts = table(f"{asked.gpu} · {device}", ["fact", "value"], wrap=["value"])
    for name, fact in {**outcome.machine, **outcome.peaks}.items():
        text = number(fact) if isinstance(fact, float) else str(fact)
        facts.add_row(name, escape(text))
    console.print(facts)
    console.print(f"peaks: {escape(outcome.peaks_source)}")
    console.print()
    if outcome.rows:
        rows = table(f"{outcome.measured:,} points measured", ["table", "rows"], ["rows"])
        for name, count in outcome.rows.items():
            rows.add_row(name, f"{count:,}")
        console.print(rows)
        console.print()
    for note in outcome.notes:
        console.print(Padding(f"[yellow]![/] {escape(note)}", (0, 0, 0, 2)))
    console.print(f"campaign  {outcome.folder}", soft_wrap=True, markup=False)
    console.print(f"next      {_next_command(outcome, asked)}", soft_wrap=True, markup=False)


def _next_command(outcome: "Outcome", asked: "Asked") -> str:
    from sim.hardware import canonical_gpu, gpu_specs

    folder = outcome.folder
    ground_truth = folder.parent.parent
    command = (
        f"calibrate fit --gpu {asked.gpu} --ground-truth {ground_truth} --campaign {folder.name}"
    )
    if canonical_gpu(asked.gpu) in gpu_specs():
        return command
    specs = [f" --spec {key}={value:.6g}" for key, value in outcome.peaks.items()]
    return command + "".join(specs)
