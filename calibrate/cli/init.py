"""``calibrate init``: a campaign to fill in, or a GPU's shipped ones to try."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrate.cli.campaign_folder import check_campaign_folder
from calibrate.cli.console import (
    GROUND_TRUTH,
    GroundTruthOption,
    JsonOption,
    gpu_option,
    print_json,
    stdout,
)

if TYPE_CHECKING:
    from rich.console import Console

_CAMPAIGN = "first"
_FILL_IN = (
    "Add rows to steps.csv or serving.csv, and remove the one that you have no rows for. Then:"
)
_SPEC = " --spec TFlopsPeak=… --spec BwPeakTBs=…"

_Folder = Annotated[
    Path | None,
    typer.Argument(
        metavar="FOLDER",
        help="The campaign's folder, <ground truth>/<GPU>/<campaign>, in the place of the options.",
        show_default=False,
    ),
]
_Gpu = Annotated[str | None, gpu_option("GPU that was, or will be, measured.", show_default=False)]
_Campaign = Annotated[
    str | None,
    typer.Option(
        "--campaign", metavar="NAME", help=f"Name of the campaign; {_CAMPAIGN} without it."
    ),
]
_Shipped = Annotated[
    bool,
    typer.Option("--shipped", help="Copy the GPU's campaigns that come with calibrate, to try it."),
]


def command(
    folder: _Folder = None,
    gpu: _Gpu = None,
    campaign: _Campaign = None,
    ground_truth: GroundTruthOption = GROUND_TRUTH,
    shipped: _Shipped = False,
    json: JsonOption = False,
) -> None:
    """Make a campaign folder to fill in: tables with their headers, and a campaign.toml that explains its keys."""
    from calibrate.campaign.template import write_template

    if shipped and folder is not None:
        raise typer.BadParameter("copies to where the options say; give no FOLDER")
    if shipped:
        _copy_shipped(ground_truth, gpu, campaign, json)
        return
    if (folder is None) == (gpu is None) or (folder is not None and campaign is not None):
        raise typer.BadParameter("give --gpu GPU and, if you like, --campaign NAME; or FOLDER")
    asked = str(gpu), campaign or _CAMPAIGN
    place = _given(folder) if folder is not None else _asked(ground_truth, *asked)
    name = place.resolve().parent.name
    files = write_template(place, name)
    steps = _next_steps(place, name)
    if json:
        print_json({"folder": str(place), "files": _names(files), "next": steps})
    else:
        _show(stdout(), files, _FILL_IN, steps)


def _copy_shipped(ground_truth: Path, gpu: str | None, campaign: str | None, json: bool) -> None:
    """Copy a GPU's shipped campaigns and say where they are."""
    from calibrate.campaign.shipped import copy_shipped

    if gpu is None:
        raise typer.BadParameter("say of which GPU, with --gpu", param_hint="--shipped")
    folders = copy_shipped(ground_truth, gpu, [] if campaign is None else [campaign])
    place = folders[0].parent
    steps = [f"calibrate fit {_options(place.name, ground_truth)}"]
    if json:
        print_json({"folder": str(place), "files": _names(folders), "next": steps})
    else:
        _show(stdout(), folders, "Try them:", steps)


def _given(folder: Path) -> Path:
    """The folder that was named, with its GPU's: the working folder is none. Raises CalibrateError."""
    from calibrate.records.errors import CalibrateError
    from sim.hardware import check_gpu_name

    if folder.parent == Path():
        raise CalibrateError(
            f"{folder}: of which GPU? Give <ground truth>/<GPU>/<campaign>, or --gpu"
        )
    return check_campaign_folder(folder, check_gpu_name(folder.resolve().parent.name), "FOLDER")


def _asked(ground_truth: Path, gpu: str, campaign: str) -> Path:
    """The folder of the options. Raises CalibrateError and HardwareError for names that folders cannot have."""
    from calibrate.campaign.folders import check_campaign_name

    return ground_truth / _gpu_folder(ground_truth, gpu) / check_campaign_name(campaign)


def _gpu_folder(ground_truth: Path, gpu: str) -> str:
    """What the GPU's folder is called, or will be. Raises HardwareError for a name that it cannot have."""
    from sim.hardware import canonical_gpu, check_gpu_name, find_gpu

    check_gpu_name(gpu)
    present = [path.name for path in ground_truth.iterdir()] if ground_truth.is_dir() else []
    return find_gpu(gpu, present) or canonical_gpu(gpu)


def _next_steps(folder: Path, gpu: str) -> list[str]:
    """The commands that come next, for a person to complete where the GPU's peaks are not known."""
    from sim.hardware import canonical_gpu, gpu_specs

    spec = "" if canonical_gpu(gpu) in gpu_specs() else _SPEC
    options = f"{_options(gpu, folder.parent.parent, folder.name)}{spec}"
    return [f"calibrate {name} {options}" for name in ("validate", "fit")]


def _options(gpu: str, ground_truth: Path, campaign: str | None = None) -> str:
    """The options that name a campaign, or all of a GPU, as the next command takes them."""
    options = ["--gpu", shlex.quote(gpu)]
    options += [] if campaign is None else ["--campaign", campaign]
    is_usual = ground_truth == GROUND_TRUTH
    options += [] if is_usual else ["--ground-truth", shlex.quote(str(ground_truth))]
    return " ".join(options)


def _names(paths: Sequence[Path]) -> list[str]:
    return [str(path) for path in paths]


def _show(console: "Console", paths: Sequence[Path], words: str, steps: Sequence[str]) -> None:
    for path in paths:
        console.print(str(path), markup=False, soft_wrap=True)
    console.print(words)
    for step in steps:
        console.print(f"  {step}", markup=False, soft_wrap=True)
