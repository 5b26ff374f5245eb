"""The small places in which faults happen: configuration, campaigns, sources, and whether they are whole."""

import hashlib
import json
import shutil
from pathlib import Path

from calibrate.outcome.run_files import read_run
from sim import load_hardware
from sim.configuration import read_config
from tests.conftest import DATA, GUIDE_H100
from tests.synthetic import synthetic_steps, write_campaign

LOCK = ".hardware_config.json.lock"  # stays on purpose
TRUE_VALUES = {"mfuPrefill": 0.5, "BwEffConstant": 0.8, "TOverheadMicros": 80.0}
RUN_FILES = {"result.json", "predictions.csv", "report.html", "hardware_config.json"}
ROWS = 24


class BrokenError(Exception):
    """Something that is neither the old nor the new."""


def demand(holds: bool, what: str) -> None:
    if not holds:
        raise BrokenError(what)


def make_place(root: Path, gpus: tuple[str, ...] = ("H100",)) -> Path:
    """A folder with a configuration of some GPUs and one that nobody fits, and a synthetic campaign for each."""
    for number, gpu in enumerate(gpus):
        hardware = load_hardware({gpu: GUIDE_H100}, gpu=gpu).with_values(TRUE_VALUES)
        write_campaign(root / "ground_truth", gpu, synthetic_steps(hardware, ROWS, seed=number))
    blocks = dict.fromkeys(gpus, GUIDE_H100)
    other = {"L40S": {"TFlopsPeak": 362.05, "note": "keep me"}}
    (root / "hardware_config.json").write_text(json.dumps({**blocks, **other}, indent=4) + "\n")
    return root


def fit_arguments(root: Path, *more: object, gpu: str = "H100") -> list[object]:
    return [
        *("fit", "--gpu", gpu, "--ground-truth", root / "ground_truth"),
        *("--hardware-config", root / "hardware_config.json", "--out", root / "reports"),
        *("--starts", 1, *more),
    ]


def check_config(root: Path) -> None:
    config = read_config(root / "hardware_config.json")
    demand(config["L40S"]["note"] == "keep me", "the configuration lost another GPU's block")


def whole_runs(root: Path, gpu: str = "H100") -> list[Path]:
    """The runs of a GPU. Raises BrokenError for one that lacks something."""
    runs = sorted((root / "reports" / gpu).glob("[0-9]*"))
    for run in runs:
        missing = RUN_FILES - {path.name for path in run.iterdir()}
        demand(not missing, f"{run.name} lacks {', '.join(sorted(missing))}")
        read_run(run)
    return runs


def hidden(root: Path) -> list[str]:
    """What a killed process left: hidden files and folders, but for the configuration's lock."""
    return sorted(str(path.relative_to(root)) for path in root.rglob(".*") if path.name != LOCK)


def digest(folder: Path) -> str | None:
    """What tells a folder's files, names and bytes, from others; None where there is no folder."""
    if not folder.exists():
        return None
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    content = hashlib.sha256()
    for path in files:
        content.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return content.hexdigest()


def make_database(folder: Path, left_out: int) -> Path:
    """A benchmark database of the H100: of the tests' one a table a kernel, without the last rows of the GEMMs."""
    others = shutil.ignore_patterns("28-*", "32-*", "*-tp[28].csv")
    shutil.copytree(DATA / "mfu_database", folder, ignore=others)
    for path in sorted(folder.rglob("x100")):
        path.rename(path.with_name("h100"))
    table = folder / "gemm/h100/data.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[: len(lines) - left_out]))
    return folder
