"""``calibrate export``: what is known of a GPU, for another tool."""

from pathlib import Path
from typing import Annotated

import typer

from calibrate.cli.console import (
    GROUND_TRUTH,
    HARDWARE_CONFIG,
    CampaignOption,
    ConfigOption,
    GpuOption,
    GroundTruthOption,
    stdout,
)


def command(
    format_name: Annotated[
        str, typer.Argument(metavar="FORMAT", help="bench-data … (see `calibrate show exports`).", show_default=False)
    ],
    gpu: GpuOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write into.", show_default=False)],
    ground_truth: GroundTruthOption = GROUND_TRUTH,
    campaign: CampaignOption = None,
    hardware_config: ConfigOption = HARDWARE_CONFIG,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")] = False,
) -> None:
    """Write a GPU's measurements in the format of another tool."""
    from calibrate.campaign import load_campaigns
    from calibrate.errors import CalibrateError
    from calibrate.exporters import find_exporter
    from calibrate.start import starting_hardware

    exporter = find_exporter(format_name)
    if output.exists() and not output.is_dir():
        raise CalibrateError(f"{output}: is a file; give a folder with --output")
    if output.is_dir() and any(output.iterdir()) and not force:
        raise CalibrateError(f"{output}: is not empty; give another --output, or --force to replace files in it")
    hardware, _ = starting_hardware(hardware_config, gpu)
    files = exporter.write(load_campaigns(ground_truth, gpu, campaign or [], hardware), hardware, output)
    stdout().print(f"{len(files):,} files in {output}", soft_wrap=True, markup=False)
