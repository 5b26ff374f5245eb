"""A folder in which the examples run as they would at the root of a clone."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]


def make_workplace(folder: Path) -> Path:
    """The folder, new, with the scripts of the gallery, the campaigns, and a copy of the configurations."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for source in (ROOT / "docs" / "gallery").iterdir():
        if source.is_file():
            shutil.copy(source, folder)
    for name in ("ground_truth", "tests"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "hardware_configs", folder / "hardware_configs")
    return folder
