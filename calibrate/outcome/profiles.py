"""Versioned profiles: a configuration as it held from one day on, with its provenance and for how long.

``profiles/<GPU>/<engine>/<date>/`` holds ``hardware_config.json``, which every tool reads, and ``profile.json``.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

from calibrate.outcome.result_json import dump_json, from_plain, to_plain
from calibrate.records.config_writer import merged_text
from calibrate.records.errors import CalibrateError
from calibrate.records.files import replace_text
from calibrate.records.folders import replaced_folder
from calibrate.records.interval import Interval
from calibrate.records.reading.documents import read_json
from sim.hardware import check_gpu_name

SCHEMA_VERSION = 1
PROFILE, CONFIGURATION = "profile.json", "hardware_config.json"
_UNNAMED = "unknown"
_NO_NAME = re.compile(r"[^A-Za-z0-9._+-]+")
_DATED = "[0-9]*"


@dataclasses.dataclass(frozen=True)
class ProfiledParameter:
    """A parameter's value, and how sure it is where that is known."""

    name: str
    value: float
    stderr: float | None = None
    ci90: Interval | None = None


@dataclasses.dataclass(frozen=True)
class Profile:
    """What ``profile.json`` holds. Times are ISO 8601, or the number of a step where a log has no times.

    ``valid_until`` is empty as long as it holds; ``confirmed_until`` is the last step that agreed with it. ``parent``
    is the calibration or profile it followed, ``why`` what was found. ``covariance`` is that of some parameters.
    """

    schema_version: int
    gpu: str
    engine: str
    latency_model: str
    created: str
    calibrate: str
    source: str
    parent: str
    why: str
    valid_from: str
    valid_until: str
    confirmed_until: str
    steps: int
    parameters: tuple[ProfiledParameter, ...]
    covariance: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)

    @property
    def values(self) -> dict[str, float]:
        """Every parameter's value."""
        return {one.name: one.value for one in self.parameters}


@dataclasses.dataclass(frozen=True)
class Found:
    """A profile and the folder in which it lies."""

    folder: Path
    profile: Profile

    @property
    def configuration(self) -> Path:
        """Its configuration, as every tool reads it."""
        return self.folder / CONFIGURATION

    @property
    def latency_model(self) -> str:
        """The latency model whose parameters it holds."""
        return self.profile.latency_model


def is_profile(folder: Path) -> bool:
    """Whether a folder is a profile, or holds dated ones."""
    return folder.is_dir() and _latest(folder) is not None


def find_profile(folder: Path) -> Found:
    """The profile in a folder, or the latest of those that it holds by date. Raises CalibrateError for none."""
    found = _latest(folder)
    if found is None:
        raise CalibrateError(
            f"{folder}: is neither a run ({folder / 'result.json'}) nor a profile ({folder / PROFILE}); give the "
            "folder of one, or a configuration file"
        )
    return Found(found, read_profile(found))


def read_profile(folder: Path) -> Profile:
    """``profile.json`` of a folder. Raises CalibrateError if it is missing or malformed."""
    path = folder / PROFILE
    content = read_json(path)
    version = content.get("schema_version") if isinstance(content, Mapping) else None
    if version != SCHEMA_VERSION:
        raise CalibrateError(
            f"{path}: schema_version = {version!r}: this is no profile of schema version {SCHEMA_VERSION}; publish it "
            "again with this version of calibrate"
        )
    return from_plain(Profile, content, str(path))


def write_profile(root: Path, profile: Profile, values: Mapping[str, float], date: str) -> Path:
    """Write a new profile as ``root/<GPU>/<engine>/<date>``, whole or not at all; return its folder."""
    folder = engine_folder(root, profile.gpu, profile.engine) / date
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replaced_folder(folder) as new:
        text = merged_text(new / CONFIGURATION, profile.gpu, values)
        replace_text(new / CONFIGURATION, text)
        replace_text(new / PROFILE, dump_json(to_plain(profile)))
    return folder


def update_profile(folder: Path, profile: Profile) -> None:
    """Write ``profile.json`` of a folder anew, in one step."""
    replace_text(folder / PROFILE, dump_json(to_plain(profile)))


def latest_profile(root: Path, gpu: str, engine: str) -> Found | None:
    """The newest profile of a GPU and engine; None where there is none."""
    found = _latest(engine_folder(root, gpu, engine))
    return None if found is None else Found(found, read_profile(found))


def engine_folder(root: Path, gpu: str, engine: str) -> Path:
    """Where the profiles of an engine lie; what no folder can be called is a dash."""
    name = _NO_NAME.sub("-", engine).strip(".-")
    return root / check_gpu_name(gpu) / (name or _UNNAMED)


def _latest(folder: Path) -> Path | None:
    if (folder / PROFILE).is_file():
        return folder
    dated = [path for path in folder.glob(_DATED) if (path / PROFILE).is_file()]
    return max(dated, key=lambda path: path.name, default=None)
