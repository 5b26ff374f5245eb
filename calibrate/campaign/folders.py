"""Where a GPU's campaigns lie, and which of them are meant."""

import re
from collections.abc import Sequence
from pathlib import Path

from calibrate.campaign.info import CampaignInfo, read_info
from calibrate.records.errors import CalibrateError
from calibrate.records.folders import put_back_folders
from sim.errors import nearest
from sim.hardware import check_gpu_name, find_gpu, nearest_gpu

_CAMPAIGN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def folders_for(
    ground_truth: str | Path, gpu: str, names: Sequence[str], latency_models: Sequence[str]
) -> list[Path]:
    """The folders of the campaigns named, else of those for the latency models; of all where none is for them."""
    folders = campaign_folders(ground_truth, gpu, names)
    meant = [one for one in folders if names or _info(one).is_for(latency_models)]
    return meant or folders


def campaigns_for_others(
    ground_truth: str | Path, gpu: str, latency_models: Sequence[str]
) -> list[str]:
    """What is said of the campaigns that :func:`folders_for` leaves out."""
    folders = campaign_folders(ground_truth, gpu)
    known = ((folder, _info(folder)) for folder in folders)
    others = [(folder, info) for folder, info in known if not info.is_for(latency_models)]
    if len(others) == len(folders):
        return []
    return [
        f"{folder}: is for {' and '.join(info.latency_models)}, and left out: "
        f"give --latency-model {info.latency_models[0]}, or --campaign {folder.name} to use it all the same"
        for folder, info in others
    ]


def _info(folder: Path) -> CampaignInfo:
    return read_info(folder / "campaign.toml")[0]


def campaign_folders(ground_truth: str | Path, gpu: str, names: Sequence[str] = ()) -> list[Path]:
    """The folders of a GPU's campaigns, sorted by name. Raises CalibrateError with the nearest name."""
    check_gpu_name(gpu)
    root = Path(ground_truth)
    if not root.is_dir():
        raise CalibrateError(
            f"{root}: no such ground-truth folder. Give it with --ground-truth, "
            f"or make it: `calibrate init --gpu {gpu}`, with --shipped to try the shipped campaigns"
        )
    gpus = [path.name for path in _visible_folders(root)]
    found = find_gpu(gpu, gpus)
    if found is None:
        raise CalibrateError(
            f"{root}: no campaigns for GPU {gpu!r} (it has {', '.join(gpus) or 'none'}){nearest_gpu(gpu, gpus)}"
        )
    put_back_folders(root / found)
    folders = {path.name: path for path in _visible_folders(root / found)}
    for name in names:
        if name not in folders:
            raise CalibrateError(
                f"{root / found}: no campaign {name!r} (it has {', '.join(folders) or 'none'}){nearest(name, folders)}"
            )
    if not folders:
        raise CalibrateError(
            f"{root / found}: no campaign folder in it. Put one there, with a steps.csv"
        )
    return [folders[name] for name in names] if names else list(folders.values())


def _visible_folders(root: Path) -> list[Path]:
    """The folders in ``root`` by name; those that begin with a dot are in the making."""
    return sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")


def refuse_full_folder(folder: Path) -> None:
    """Raise CalibrateError for a campaign's folder that holds something, or is a file."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise CalibrateError(f"{folder}: is there already; give another --campaign")


def check_campaign_name(name: str) -> str:
    """Return ``name`` if it can be a campaign's folder. Raises CalibrateError otherwise."""
    if not _CAMPAIGN_NAME.fullmatch(name) or ".." in name:
        raise CalibrateError(
            f"{name!r} is not a campaign name: use letters, digits, '.', '_' and '-' only"
        )
    return name
