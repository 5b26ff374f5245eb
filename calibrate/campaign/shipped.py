"""The campaigns that come with the package: beside ``calibrate`` in a checkout, inside it where it is installed."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from calibrate.campaign.folders import campaign_folders, refuse_full_folder
from calibrate.records.folders import replaced_folder

_PACKAGE = Path(__file__).parents[1]
_NAME = "ground_truth"


def shipped_ground_truth() -> Path:
    """The folder of the shipped campaigns, by GPU."""
    inside = _PACKAGE / _NAME
    return inside if inside.is_dir() else _PACKAGE.parent / _NAME


def copy_shipped(ground_truth: Path, gpu: str, names: Sequence[str] = ()) -> list[Path]:
    """Copy a GPU's shipped campaigns, all or those named, into ``ground_truth``; return their folders there.

    Raises CalibrateError for a GPU or campaign that is not shipped, and for one that is there already.
    """
    sources = campaign_folders(shipped_ground_truth(), gpu, names)
    places = [ground_truth / source.parent.name / source.name for source in sources]
    for place in places:
        refuse_full_folder(place)
    for source, place in zip(sources, places, strict=True):
        with replaced_folder(place) as new:
            refuse_full_folder(place)
            shutil.copytree(source, new, dirs_exist_ok=True)
    return places
