"""``calibrate show gpus|models|formats``: the registries as tables, or as JSON."""

import dataclasses
from typing import TYPE_CHECKING, Any

from calibrate.cli.console import number, print_json, stdout, table
from calibrate.cli.entries import print_entry, print_heads

if TYPE_CHECKING:
    from calibrate.exporters import Exporter
    from sim.hardware import GpuSpec

_EXPORT = "{:<22} {:<13} {}"
_WIDE = 120  # columns of a terminal with room for what is good to know


def show_gpus(*, json: bool) -> None:
    """The GPUs whose peaks are known."""
    from sim.hardware import gpu_specs

    specs = list(gpu_specs().values())
    if json:
        print_json({"gpus": [dataclasses.asdict(spec) for spec in specs]})
    else:
        _print_gpus(specs)


def _print_gpus(specs: "list[GpuSpec]") -> None:
    console = stdout()
    columns = ["GPU", "TFLOP/s", "TB/s", "GiB", "also called"]
    rows = table("GPUs (dense 16-bit peaks)", columns, columns[1:4], columns[4:])
    for spec in specs:
        figures = (number(spec.values[key]) for key in ("TFlopsPeak", "BwPeakTBs", "MemoryGiB"))
        rows.add_row(spec.name, *figures, ", ".join(spec.aliases[:3]))
    console.print(rows)
    for spec in specs:
        console.print(f"\n{spec.name}: {spec.source}", markup=False)


def show_models(*, json: bool) -> None:
    """The models whose architecture is known."""
    from sim.architecture_files import architecture_names

    described = [_model(name, aliases) for name, aliases in architecture_names().items()]
    if json:
        print_json({"models": described})
    else:
        _print_models(described)


def _model(name: str, aliases: "tuple[str, ...] | list[str]") -> dict[str, Any]:
    from sim.architecture_files import load_architecture

    arch = load_architecture(name)
    return {
        "name": name,
        "aliases": list(aliases),
        "total_params": arch.total_params,
        "num_layers": arch.num_layers,
        "hidden_size": arch.hidden_size,
        "num_heads": arch.num_heads,
        "kv_heads": arch.kv_heads,
    }


def _print_models(described: list[dict[str, Any]]) -> None:
    console = stdout()
    columns = ["model", "parameters", "layers", "hidden", "heads", "KV heads"]
    has_room = console.width >= _WIDE
    rows = table(
        "Models", [*columns, *(["also called"] if has_room else [])], columns[1:], ["also called"]
    )
    for one in described:
        size = f"{one['total_params'] / 1e9:.1f} B"
        sizes = ("num_layers", "hidden_size", "num_heads", "kv_heads")
        cells = (str(one[key]) for key in sizes)
        also = [", ".join(one["aliases"][:2])] if has_room else []
        rows.add_row(one["name"], size, *cells, *also)
    console.print(rows)


def show_formats(*, json: bool) -> None:
    """What can be imported and exported."""
    from calibrate.exporters import EXPORTERS
    from calibrate.importers import IMPORTERS

    imports = [
        {"name": name, "source": importer.source, "summary": importer.summary}
        for name, importer in IMPORTERS.items()
    ]
    exports = [_export_format(name, exporter) for name, exporter in EXPORTERS.items()]
    if json:
        print_json({"import": imports, "export": exports})
    else:
        _print_formats(imports, exports)


def _export_format(name: str, exporter: "Exporter") -> dict[str, str]:
    return {
        "name": name,
        "tool": exporter.tool,
        "version": exporter.version,
        "checked": exporter.checked,
        "status": exporter.status,
        "summary": exporter.summary,
    }


def _print_formats(imports: list[dict[str, str]], exports: list[dict[str, str]]) -> None:
    console = stdout()
    columns = ["format", "source", "what it is"]
    rows = table("Import formats", columns, wrap=columns[1:])
    for one in imports:
        rows.add_row(*one.values())
    console.print(rows)
    console.print("\nExport formats", style="bold")
    print_heads(console, _EXPORT.format("format", "last checked", "status"))
    for one in exports:
        facts = _EXPORT.format(one["name"], one["checked"], one["status"])
        print_entry(console, facts, f"{one['summary']}; for {one['tool']}, {one['version']}")
