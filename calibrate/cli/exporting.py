"""``calibrate export``: a GPU's parameters as the files of other tools."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrate.cli.console import (
    GROUND_TRUTH,
    HARDWARE_CONFIG,
    CampaignOption,
    ConfigOption,
    GpuOption,
    GroundTruthOption,
    stderr,
)
from calibrate.cli.output import words_beside

if TYPE_CHECKING:
    from calibrate.exporters.exported import Source

EXIT_BAD_INPUT = 1


def command(
    gpu: GpuOption,
    format_name: Annotated[
        str | None,
        typer.Argument(
            metavar="FORMAT",
            help="blis, genz … (see `calibrate show formats`).",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write.", show_default=False)
    ] = None,
    every: Annotated[
        Path | None,
        typer.Option("--all", help="Folder to write every format into.", show_default=False),
    ] = None,
    hardware_config: ConfigOption = HARDWARE_CONFIG,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", help="Folder of a run: its values, with intervals.", show_default=False
        ),
    ] = None,
    ground_truth: GroundTruthOption = GROUND_TRUTH,
    campaign: CampaignOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write a GPU's parameters in another tool's format; some are fitted anew, to that tool's model."""
    if (every is None) == (format_name is None or output is None) or (
        every and (format_name or output)
    ):
        raise typer.BadParameter("give FORMAT and -o FILE, or --all FOLDER")
    from calibrate.exporters import EXPORTERS

    source = _source(gpu, hardware_config, run, ground_truth, tuple(campaign or ()))
    if format_name is not None and output is not None:
        _write(format_name, source, output, force)
    elif every is not None:
        every.mkdir(parents=True, exist_ok=True)
        failed = [name for name in EXPORTERS if not _written(name, source, every, force)]
        if failed:
            raise typer.Exit(EXIT_BAD_INPUT)


def _source(
    gpu: str, config: Path, run: Path | None, ground_truth: Path, campaigns: tuple[str, ...]
) -> "Source":
    from calibrate.exporters.exported import Source
    from calibrate.outcome.run_files import read_result
    from calibrate.records.errors import CalibrateError
    from sim.configuration import load_hardware, read_config
    from sim.hardware import Hardware, canonical_gpu, check_gpu_name, find_gpu, gpu_specs

    check_gpu_name(gpu)
    if run is None:
        spec = gpu_specs().get(canonical_gpu(gpu))
        if spec is not None and find_gpu(gpu, read_config(config)) is None:
            return Source(
                Hardware(spec.name, spec.values, "the registry of peaks"), ground_truth, campaigns
            )
        return Source(load_hardware(config, gpu), ground_truth, campaigns)
    result = read_result(run)
    if find_gpu(gpu, [result.gpu]) is None:
        raise CalibrateError(f"{run}: is a run of {result.gpu}, not of {gpu}")
    hardware = Hardware(check_gpu_name(result.gpu), {**result.peaks, **result.values}, str(run))
    return Source(hardware, ground_truth, campaigns, result)


def _written(name: str, source: "Source", folder: Path, force: bool) -> bool:
    """Whether the format could be written; what stands in the way of one is no reason to leave out the others."""
    from calibrate.exporters import EXPORTERS
    from calibrate.records.errors import CalibrateError
    from sim.errors import SimError

    try:
        _write(name, source, folder / f"{name}{EXPORTERS[name].end}", force)
    except (CalibrateError, SimError) as error:
        stderr().print(f"! {name}: not written: {error}", markup=False, soft_wrap=True)
        return False
    return True


def _write(name: str, source: "Source", path: Path, force: bool) -> None:
    from calibrate.exporters import export, write_exported

    exported = export(name, source)
    console = words_beside(path)
    files = write_exported(exported, path, force=force)
    said = str(files[0]) if len(files) == 1 else f"{path} ({len(files):,} files)"
    console.print(f"{name}  {said}", markup=False, soft_wrap=True)
    for note in exported.notes:
        console.print(f"  {note}", markup=False)
