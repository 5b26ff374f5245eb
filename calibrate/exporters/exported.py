"""What every exporter is given, and what it returns."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calibrate.campaign.campaign import Campaign, load_campaigns
from calibrate.exporters.step_times import Serving
from calibrate.fitting.objective import Dataset, build_dataset
from calibrate.outcome.result import FitResult
from calibrate.records.errors import CampaignError, ImportFormatError
from calibrate.records.reading.documents import yaml_value
from calibrate.trust import metrics
from sim.hardware import Hardware, canonical_gpu, find_gpu, gpu_specs
from sim.models.latency_model import PEAKS
from sim.models.roofline_v1.model import RooflineV1
from sim.text_files import ContentError
from sim.units import BYTES_PER_GIB

RETIRED_BLIS = "BLIS up to August 2026"
"""The versions that read hardware_config.json and trained_physics_coefficients; later ones refuse both."""

_TOO_LARGE = 1e300


@dataclasses.dataclass(frozen=True)
class Source:
    """What there is to export: a GPU's block; the campaigns by which some formats are fitted; a finished fit.

    ``run`` is that fit, with the intervals; its tables are not needed. ``serving`` says which models are served, for
    formats that describe those.
    """

    hardware: Hardware
    ground_truth: Path = Path("ground_truth")
    campaigns: tuple[str, ...] = ()
    run: FitResult | None = None
    serving: Serving = dataclasses.field(default_factory=Serving)

    @property
    def gpu(self) -> str:
        """The GPU's name."""
        return self.hardware.gpu

    @functools.cached_property
    def peaks(self) -> Hardware:
        """The block, completed by the registry's figures of that GPU."""
        spec = gpu_specs().get(canonical_gpu(self.gpu))
        known = spec.values if spec else {}
        values = {**known, **self.hardware.values}
        return dataclasses.replace(self.hardware, values=values)

    @property
    def has_campaigns(self) -> bool:
        """Whether there are campaigns to read: some were named, or the GPU has a folder of them."""
        root = self.ground_truth
        folders = [path.name for path in root.iterdir()] if root.is_dir() else []
        return bool(self.campaigns) or find_gpu(self.gpu, folders) is not None

    @functools.cached_property
    def measured(self) -> list[Campaign]:
        """The campaigns as they were measured, held against no peak."""
        return load_campaigns(self.ground_truth, self.gpu, self.campaigns)

    @functools.cached_property
    def data(self) -> Dataset:
        """The campaigns' steps. Raises CampaignError if one has an error, CalibrateError if there is no step."""
        loaded = load_campaigns(self.ground_truth, self.gpu, self.campaigns, self.peaks)
        problems = [problem for campaign in loaded for problem in campaign.problems]
        errors = [problem for problem in problems if problem.severity == "error"]
        if errors:
            raise CampaignError(
                errors, "`calibrate validate` lists everything; correct it or give other --campaign"
            )
        return build_dataset(loaded)


@dataclasses.dataclass(frozen=True)
class Exported:
    """The text of a file, or the contents of a folder's files by their path in it; and what the user should know."""

    text: str | Mapping[str, str | bytes]
    notes: tuple[str, ...] = ()


def own_error(hardware: Hardware, data: Dataset) -> float | None:
    """Mean error of roofline-v1 with this configuration, for comparison; None where it lacks what that model needs."""
    model = RooflineV1()
    required = {*PEAKS, *model.parameter_names} - model.defaults().keys()
    if not required <= set(hardware.values):
        return None
    predicted_us = model.predict_us(data.table, hardware)
    return metrics.errors(predicted_us, data.measured_us).mape


def held_out_name(split: str) -> str:
    """What a split of the steps leaves out, in words."""
    return "by run" if split == "folds" else f"one {split}"


def achieved_compute(hardware: Hardware) -> float:
    """Share of the peak that matrix products of prompts reach. Raises HardwareError if it is missing."""
    return hardware.positive("mfuPrefill") * hardware.values.get("mfuPrefillMultiplier", 1.0)


def achieved_bandwidth(hardware: Hardware) -> float:
    """Share of the peak bandwidth that decode steps reach. Raises HardwareError if it is missing."""
    return hardware.positive("BwEffConstant") * hardware.values.get("decodeBwFactor", 1.0)


def memory_bytes(hardware: Hardware) -> float:
    """The GPU's memory. Raises HardwareError if it is missing."""
    return hardware.positive("MemoryGiB") * BYTES_PER_GIB


def yaml_mapping(text: str, what: str) -> dict[str, Any]:
    """A YAML (or JSON) text that holds a mapping. Raises ImportFormatError for anything else."""
    try:
        content = yaml_value(text)
    except ContentError as error:
        raise ImportFormatError(f"not a readable {what}: {error}") from error
    if not isinstance(content, dict):
        raise ImportFormatError(f"not a {what}: it must hold named fields")
    return content


def numbers(content: Mapping[str, Any], names: Sequence[str], what: str) -> dict[str, float]:
    """The numbers under some names. Raises ImportFormatError for a missing one or another kind of value."""
    values = {}
    for name in names:
        value: Any = content.get(name)
        if not _is_number(value):
            raise ImportFormatError(
                f"not a {what}: {name} must be a number, got {str(value)[:60]!r}"
            )
        values[name] = float(value)
    return values


def _is_number(value: Any) -> bool:
    """Whether a value of a file is a number that we may count with, which NaN and infinity are not."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < _TOO_LARGE


def as_written(value: float) -> float | int:
    """A whole number as an integer, as people write it."""
    return int(value) if value == int(value) else value
