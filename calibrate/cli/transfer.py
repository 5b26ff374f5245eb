"""``calibrate transfer``: values with intervals for a GPU that nobody measured."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrate.cli.choices import (
    KNOWN_GPUS,
    LATENCY_MODELS,
    complete_gpu,
    complete_latency_model,
    listed,
)
from calibrate.cli.console import (
    GROUND_TRUTH,
    GroundTruthOption,
    JsonOption,
    ModelConfigOption,
    config_file,
    interval,
    name_numbers,
    number,
    percent,
    print_json,
    split_names,
    stderr,
    stdout,
    table,
)
from calibrate.cli.hardware import first_hardware

if TYPE_CHECKING:
    from rich.console import Console

    from calibrate.job.transfer import Answer
    from sim.models.latency_model import LatencyModel

_To = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="GPU",
        help=f"The GPU without data: {', '.join(KNOWN_GPUS)} …, or one of your own with --spec.",
        autocompletion=complete_gpu,
        show_default=False,
    ),
]
_From = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        metavar="GPUS",
        help="GPUs with campaigns, with commas; all there are, shipped ones too, without it.",
    ),
]
_Spec = Annotated[
    list[str] | None,
    typer.Option("--spec", help="KEY=VALUE of a new GPU: TFlopsPeak, BwPeakTBs, IntraNodeBwGBps …"),
]
_Link = Annotated[
    str | None,
    typer.Option("--link", help="What joins its GPUs: NVLink, PCIe …; the registry's without it."),
]
_Generation = Annotated[
    str | None,
    typer.Option("--generation", help="Its architecture: Hopper, Blackwell …; likewise."),
]
_Model = Annotated[
    str,
    typer.Option(
        "--latency-model",
        help=f"Latency model: {listed(LATENCY_MODELS[:3])}.",
        metavar="NAME",
        autocompletion=complete_latency_model,
    ),
]


def command(
    to: _To,
    from_: _From = None,
    spec: _Spec = None,
    link: _Link = None,
    generation: _Generation = None,
    latency_model: _Model = "roofline-v3",
    ground_truth: GroundTruthOption = GROUND_TRUTH,
    hardware_config: ModelConfigOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print; write nothing.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace values that the configuration has of the GPU.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Give a GPU that nobody measured its values, with intervals, from the GPUs that were."""
    given = name_numbers(spec or [], "--spec")
    with stderr().status("reading campaigns") as status:
        from calibrate.job.transfer import transfer_to, transferable_model
        from calibrate.records.config_writer import refuse_read_only, write_config

        model = transferable_model(latency_model)
        config = config_file(hardware_config, latency_model)
        start, _ = first_hardware(config, to, given, latency_model)
        if not dry_run:
            refuse_read_only(config)
            _refuse_present(config, start.gpu, model, force=force)
        answer = transfer_to(
            start,
            model,
            ground_truth,
            split_names(from_ or []),
            config=config,
            link=link,
            generation=generation,
            progress=status.update,
        )
    backup = None
    if not dry_run:
        backup = write_config(config, start.gpu, answer.values, transferred=answer.block())
    if json:
        written = None if dry_run else str(config)
        paths = {"config": written, "backup": None if backup is None else str(backup)}
        print_json({**answer.to_dict(), "paths": paths})
        return
    _show(stdout(), answer)
    if not dry_run:
        _show_written(stdout(), answer, config, backup)


def _refuse_present(config: Path, gpu: str, model: "LatencyModel", *, force: bool) -> None:
    """Raise CalibrateError where the configuration has values of the GPU that no transfer wrote."""
    from calibrate.records.errors import CalibrateError
    from sim.configuration import TRANSFERRED, read_config
    from sim.hardware import find_gpu

    blocks = read_config(config) if config.exists() else {}
    block = blocks.get(find_gpu(gpu, blocks) or "", {})
    own = {key.lower() for key in block} & {name.lower() for name in model.parameter_names}
    if own and TRANSFERRED not in block and not force:
        raise CalibrateError(
            f"{config}: has values of {model.name} for {gpu}, which may be measured: --dry-run shows the transferred "
            "ones, --force writes them, another --hardware-config keeps both"
        )


def _show(console: "Console", answer: "Answer") -> None:
    from rich.padding import Padding

    found = answer.transferred
    console.print(_parameters(answer))
    console.print()
    console.print(f"{found.provenance[0].upper()}{found.provenance[1:]}.", markup=False)
    for one in sorted({held.link for held in answer.held_out}):
        console.print(_held_out(answer, one), markup=False)
    for note in answer.notes:
        console.print(Padding(f"! {note}", (0, 0, 0, 2)), markup=False, style="yellow")
    console.print()


def _parameters(answer: "Answer") -> object:
    found = answer.transferred
    title = (
        f"{found.hardware.gpu} · {found.latency_model} · {found.kind.link}, {found.kind.generation}"
    )
    rows = table(title, ["parameter", "value", "90% interval", "unit", "from"], ["value"])
    for one in found.parameters:
        sources = len(one.sources)
        from_ = f"{sources} GPU{'s' if sources > 1 else ''}" if sources else "the start"
        rows.add_row(
            one.name,
            number(one.value),
            interval(one.ci90),
            one.unit,
            from_,
            style="" if sources else "dim",
        )
    return rows


def _held_out(answer: "Answer", link: str) -> str:
    """How well the sources of a link were predicted, each from the others."""
    those = [one for one in answer.held_out if one.link == link]
    errors = ", ".join(f"{one.gpu} {percent(one.error)}" for one in those)
    return f"Held out in turn, steps of sources over {link} were predicted to: {errors}."


def _show_written(console: "Console", answer: "Answer", config: Path, backup: Path | None) -> None:
    gpu, model = answer.transferred.hardware.gpu, answer.transferred.latency_model
    lines = {"configuration": str(config)}
    if backup is not None:
        lines["its backup"] = str(backup)
    options = f"--gpu {gpu} --latency-model {model}"
    lines["then"] = f"calibrate plan {options}"
    lines[""] = f"calibrate fit {options} --transfer"
    for name, text in lines.items():
        console.print(f"{name:<14} {text}", soft_wrap=True, markup=False)
