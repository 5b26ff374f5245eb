"""``calibrate compare``: two configurations or two runs, side by side."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from calibrate.cli.console import JsonOption, number, percent, print_json, stdout, table

Side = Annotated[
    Path, typer.Argument(help="A hardware configuration file, or the folder of a run.", show_default=False)
]


def command(
    a: Side,
    b: Side,
    gpu: Annotated[str | None, typer.Option("--gpu", help="GPU, where a configuration holds several.")] = None,
    json: JsonOption = False,
) -> None:
    """Show what two configurations or two runs have in common and where they part."""
    (values_a, errors_a), (values_b, errors_b) = _load(a, gpu), _load(b, gpu)
    if json:
        print_json(
            {"a": str(a), "b": str(b), "values": _paired(values_a, values_b), "errors": _paired(errors_a, errors_b)}
        )
        return
    console = stdout()
    parameters = table("Parameters", ["parameter", "a", "b", "change"], ["a", "b", "change"])
    for name, (old, new) in _paired(values_a, values_b).items():
        change = f"{new / old - 1:+.1%}" if old and new is not None else "–"
        parameters.add_row(name, number(old), number(new), change, style="dim" if old == new else "")
    console.print(f"a  {a}\nb  {b}", markup=False, soft_wrap=True)
    console.print(parameters)
    if errors_a or errors_b:
        slices = table("Mean error after the fit", ["slice", "a", "b"], ["a", "b"])
        for label, (old, new) in _paired(errors_a, errors_b).items():
            slices.add_row(label, percent(old), percent(new))
        console.print(slices)


def _load(path: Path, gpu: str | None) -> tuple[dict[str, float], dict[str, float]]:
    """Values by key, and mean errors by slice (of a run)."""
    from calibrate.result import read_run
    from sim.hardware import load_hardware

    if not path.is_dir():
        return dict(load_hardware(path, gpu).values), {}
    result, _ = read_run(path)
    errors = {label: entry["mape"] for label, entry in result["metrics"]["after"].items()}
    errors |= {f"held out {name}": slices["all"]["mape"] for name, slices in result["metrics"]["held_out"].items()}
    return {p["name"]: p["value"] for p in result["parameters"]} | result["hardware"], errors


def _paired(a: Mapping[str, float], b: Mapping[str, float]) -> dict[str, tuple[float | None, float | None]]:
    return {name: (a.get(name), b.get(name)) for name in dict.fromkeys([*a, *b])}
