"""What a fit was asked: its campaigns, start, model and options; and how a result says so."""

import dataclasses
import datetime
import importlib.metadata
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from calibrate.campaign.campaign import Campaign
from calibrate.campaign.peaks import check_peaks
from calibrate.job.options import Options
from calibrate.job.priors import Prior
from calibrate.outcome.kernels import KernelEstimate
from calibrate.records.distribution import VERSION
from calibrate.records.errors import merge
from calibrate.trust.intervals import IntervalOptions
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What to fit and how, as :func:`calibrate.job.calibration.fit` was asked, its options checked.

    ``fixed`` holds parameters (at the start's value where it is None), ``freed`` would otherwise be held;
    ``estimates`` is what the campaigns' kernels say, ``lent`` what another GPU's servers said of engines,
    ``known`` what other GPUs say of parameters.
    """

    campaigns: Sequence[Campaign]
    hardware: Hardware
    model: LatencyModel
    options: Options
    fixed: Mapping[str, float | None]
    freed: Sequence[str]
    estimates: Sequence[KernelEstimate]
    checkpoint: Path | None
    command: str
    notes: Sequence[str]
    progress: Callable[[str], None]
    lent: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    known: Mapping[str, Prior] = dataclasses.field(default_factory=dict)
    began: float = dataclasses.field(default_factory=time.perf_counter)

    @property
    def intervals(self) -> IntervalOptions:
        """Which intervals to make beside profiles."""
        return IntervalOptions(self.options.bootstrap, self.checkpoint, self.options.mcmc)

    @property
    def start(self) -> Hardware:
        """The configuration with the fixed values in it."""
        return self.hardware.with_values(
            {name: value for name, value in self.fixed.items() if value is not None}
        )

    @property
    def has_steps(self) -> bool:
        """Whether any campaign holds a good row of steps."""
        return any(len(campaign.steps) for campaign in self.campaigns)

    @property
    def has_dataset(self) -> bool:
        """Whether any campaign holds more steps than memory should."""
        return any(campaign.dataset is not None for campaign in self.campaigns)

    @property
    def has_serving(self) -> bool:
        """Whether any campaign holds a good row of serving results."""
        return any(len(campaign.serving) for campaign in self.campaigns)

    @property
    def problems(self) -> list[str]:
        """The notes on the start, and what is wrong with its peaks and with the campaigns."""
        return [
            *self.notes,
            *map(str, check_peaks(self.hardware)),
            *(str(problem) for campaign in self.campaigns for problem in merge(campaign.problems)),
        ]


def header(task: Task, *, serving: bool = False) -> dict[str, Any]:
    """The fields of a result that say what was fitted, when and with what; without ``serving`` no row of it is used."""
    files = [file for campaign in task.campaigns for file in campaign.files]
    return {
        "gpu": task.hardware.gpu,
        "latency_model": task.model.name,
        "seed": task.options.seed,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "duration_s": round(time.perf_counter() - task.began, 3),
        "command": task.command,
        "software": _software(),
        "peaks": {key: task.hardware.positive(key) for key in ("TFlopsPeak", "BwPeakTBs")},
        "data": tuple(
            file if serving or file.table != "serving" else dataclasses.replace(file, used=0)
            for file in files
        ),
    }


def _software() -> dict[str, str]:
    names = ("numpy", "scipy", "lmfit")
    return {
        "python": platform.python_version(),
        "calibrate": VERSION,
        **{name: importlib.metadata.version(name) for name in names},
    }
