"""``calibrate show``: what there is to name."""

from enum import StrEnum
from typing import Annotated

import typer

from calibrate.cli.console import JsonOption, number, stdout, table
from calibrate.cli.show_model import show_model
from calibrate.records.errors import CalibrateError

_WIDE = 120  # columns of a terminal with room for what is good to know


class Topic(StrEnum):
    """What can be listed."""

    gpus = "gpus"
    models = "models"
    parameters = "parameters"
    formats = "formats"
    model = "model"


def command(
    topic: Annotated[Topic, typer.Argument(help="What to show.", show_default=False)],
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="For model: a name, a folder with a config.json, or such a file.",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="For model: the weight type, such as fp8; else the model's own."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the known GPUs, models, parameters or formats; or describe one model."""
    if topic is Topic.model:
        if source is None:
            raise CalibrateError(
                "name the model: calibrate show model llama-3.1-8b, or a folder with a config.json"
            )
        show_model(source, dtype, json=json)
        return
    if source is not None or dtype is not None or json:
        raise CalibrateError(
            f"show {topic} takes nothing more; `calibrate show model NAME` describes a model"
        )
    {
        Topic.gpus: _gpus,
        Topic.models: _models,
        Topic.parameters: _parameters,
        Topic.formats: _formats,
    }[topic]()


def _gpus() -> None:
    from sim.hardware import gpu_specs

    console = stdout()
    columns = ["GPU", "TFLOP/s", "TB/s", "GiB", "also called"]
    rows = table("GPUs (dense 16-bit peaks)", columns, columns[1:4], columns[4:])
    for spec in gpu_specs().values():
        figures = (number(spec.values[key]) for key in ("TFlopsPeak", "BwPeakTBs", "MemoryGiB"))
        rows.add_row(spec.name, *figures, ", ".join(spec.aliases[:3]))
    console.print(rows)
    for spec in gpu_specs().values():
        console.print(f"\n{spec.name}: {spec.source}", markup=False)


def _models() -> None:
    from sim.architecture_files import architecture_names, load_architecture

    console = stdout()
    columns = ["model", "parameters", "layers", "hidden", "heads", "KV heads"]
    has_room = console.width >= _WIDE
    rows = table(
        "Models", [*columns, *(["also called"] if has_room else [])], columns[1:], ["also called"]
    )
    for name, aliases in architecture_names().items():
        arch = load_architecture(name)
        size = f"{arch.total_params / 1e9:.1f} B"
        cells = (str(n) for n in (arch.num_layers, arch.hidden_size, arch.num_heads, arch.kv_heads))
        rows.add_row(name, size, *cells, *([", ".join(aliases[:2])] if has_room else []))
    console.print(rows)


def _parameters() -> None:
    from sim.models.registry import PARAMETERS

    rows = table(
        "Parameters",
        ["parameter", "unit", "bounds", "guide", "meaning", "seen in"],
        wrap=["meaning", "seen in"],
    )
    for p in PARAMETERS.values():
        bounds, guide = (
            f"{number(low)} – {number(high)}" for low, high in ((p.lower, p.upper), p.guide)
        )
        rows.add_row(p.name, p.unit, bounds, guide, p.meaning, p.seen_in)
    stdout().print(rows)


def _formats() -> None:
    from calibrate.exporters import EXPORTERS
    from calibrate.importers import IMPORTERS

    console = stdout()
    rows = table(
        "Import formats", ["format", "source", "what it is"], wrap=["source", "what it is"]
    )
    for name, importer in IMPORTERS.items():
        rows.add_row(name, importer.source, importer.summary)
    console.print(rows)
    columns = ["format", "tool", "version", "last checked", "status", "what it is"]
    rows = table("Export formats", columns, wrap=["tool", "version", "status", "what it is"])
    for name, exporter in EXPORTERS.items():
        about = (exporter.tool, exporter.version, exporter.checked, exporter.status)
        rows.add_row(name, *about, exporter.summary)
    console.print(rows)
