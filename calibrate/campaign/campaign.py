"""Campaigns: folders ``ground_truth/<GPU>/<campaign>/`` with a ``campaign.toml`` and measured tables."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from calibrate.campaign.dataset import Loaded, StepsDataset, load_dataset
from calibrate.campaign.folders import check_campaign_name, folders_for
from calibrate.campaign.info import CampaignInfo, read_info
from calibrate.campaign.physics import KERNELS, check_kernels_physics
from calibrate.campaign.quality import check_degrees, check_duplicates, check_replicates
from calibrate.campaign.serving_physics import check_serving_physics
from calibrate.campaign.serving_rates import check_serving_rates
from calibrate.campaign.serving_rules import check_serving
from calibrate.campaign.step_checks import checked_steps
from calibrate.campaign.step_rows import NO_STEPS, load_model
from calibrate.campaign.validation import check_labels
from calibrate.records.errors import Problem
from calibrate.records.folders import identity
from calibrate.records.reading.places import is_url
from calibrate.records.schema import SPREAD, TABLES
from calibrate.records.tables import Table, check_table, read_table
from sim.hardware import Hardware
from sim.steps.batch import StepTable

TABLE_ENDS = (".csv", ".csv.gz", ".csv.zst", ".parquet")


@dataclasses.dataclass(frozen=True)
class DataFile:
    """One table of a campaign and how much of it was used."""

    campaign: str
    table: str
    rows: int
    used: int
    dropped: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Campaign:
    """One benchmark run. ``steps`` has the good rows only, in step with ``table``; ``line`` counts from 1.

    ``serving`` has the good rows of that table, overloaded ones too (see :mod:`calibrate.campaign.serving_rules`), and
    ``kernels`` those of every kernel table, by its name, with their ``line``. Where ``dataset`` is given it holds more
    steps than memory should: ``steps`` and ``table`` are a part that stands for them.
    """

    name: str
    gpu: str
    folder: Path
    info: CampaignInfo
    steps: pd.DataFrame
    table: StepTable
    files: tuple[DataFile, ...]
    problems: tuple[Problem, ...]
    serving: pd.DataFrame = dataclasses.field(default_factory=pd.DataFrame)
    kernels: Mapping[str, pd.DataFrame] = dataclasses.field(default_factory=dict)
    dataset: StepsDataset | None = None

    @classmethod
    def from_frame(
        cls,
        steps: pd.DataFrame,
        gpu: str,
        *,
        kind: Literal["measured", "kernel-composed", "synthetic"] = "measured",
        name: str = "frame",
        hardware: Hardware | None = None,
    ) -> "Campaign":
        """A campaign of measured steps, a row each, with the columns of a ``steps`` table; rows count from line 2.

        ``hardware`` gives the peaks against which a step can be faster than physics. What is wrong with rows is in
        ``problems`` of the result. Raises CalibrateError for a name that no campaign can have.
        """
        table = check_table(Path(f"steps of {name}"), steps, TABLES["steps"])
        folder = Path(check_campaign_name(name))
        return _checked(
            folder, gpu, CampaignInfo(kind=kind), {"steps": table}, list(table.problems), hardware
        )


def load_campaigns(
    ground_truth: str | Path,
    gpu: str,
    names: Sequence[str] = (),
    hardware: Hardware | None = None,
    latency_models: Sequence[str] = (),
) -> list[Campaign]:
    """Load every campaign of a GPU (or those named), each with all that is wrong with it in ``problems``.

    ``hardware`` gives the peaks against which a step can be faster than physics; without it that check is left
    out. Without ``names`` a campaign that names latency models is left out unless ``latency_models`` are
    among them (:func:`folders_for`). Raises CalibrateError if the GPU or a campaign has no folder.
    """
    folders = folders_for(ground_truth, gpu, names, latency_models)
    return [load_campaign(folder, gpu, hardware) for folder in folders]


def load_campaign(folder: Path, gpu: str, hardware: Hardware | None = None) -> Campaign:
    """Load one campaign folder; what is wrong with it is in ``problems`` of the result.

    A folder that an import replaces meanwhile is loaded again: no table of the old one stands beside one of the new.
    """
    while True:
        began = identity(folder)
        with np.errstate(over="ignore"):  # what is infinite is compared like any other value
            campaign = _loaded(folder, gpu, hardware)
        if identity(folder) == began:
            return campaign


def _loaded(folder: Path, gpu: str, hardware: Hardware | None) -> Campaign:
    info, problems = read_info(folder / "campaign.toml")
    tables, found = _read_tables(folder)
    problems += found
    place = _dataset_place(folder, info)
    if place and not {"steps", "requests"}.isdisjoint(tables):
        problems.append(_beside_dataset(folder, place, tables))
    if not tables and not place:
        problems.append(
            Problem(
                "error",
                str(folder),
                "holds no table",
                f"Add one of: {', '.join(f'{t}.csv' for t in TABLES)}",
            )
        )
    return _checked(folder, gpu, info, tables, problems, hardware, place)


def _dataset_place(folder: Path, info: CampaignInfo) -> str:
    """Where the steps lie as a data set; empty where they do not."""
    if info.dataset:
        return info.dataset if is_url(info.dataset) else str(folder / info.dataset)
    beside = folder / "steps"
    return str(beside) if beside.is_dir() else ""


def _beside_dataset(folder: Path, place: str, tables: Mapping[str, Table]) -> Problem:
    name = "steps" if "steps" in tables else "requests"
    fix = "Keep one of the two"
    if name == "requests":
        fix = "Give sum_prefill_qk_pairs in the steps, and remove the table"
    return Problem(
        "error", str(folder), f"its table {name} stands beside the data set {place}", fix
    )


def _checked(
    folder: Path,
    gpu: str,
    info: CampaignInfo,
    tables: dict[str, Table],
    problems: list[Problem],
    hardware: Hardware | None,
    place: str = "",
) -> Campaign:
    """A campaign of the good rows of some tables."""
    runs, serving, found = (
        _read_serving(tables["serving"], hardware)
        if "serving" in tables
        else (pd.DataFrame(), pd.DataFrame(), [])
    )
    loaded = (
        load_dataset(place, folder, runs, hardware)
        if place
        else _load_steps(tables, runs, hardware)
    )
    problems = [*problems, *found, *loaded.problems]
    used = {"steps": loaded.used, "serving": len(serving)}
    kernels = {}
    for name in (name for name in KERNELS if name in tables):
        kernels[name], found = _check_kernels(name, tables[name], hardware)
        used[name] = len(kernels[name])
        problems += found
    files = tuple(
        DataFile(folder.name, name, t.rows_in_file, kept, t.rows_in_file - kept, t.sha256)
        for name, t in tables.items()
        for kept in [used.get(name, len(t.frame))]
    )
    if place:
        dropped = loaded.rows - loaded.used
        one = DataFile(folder.name, "steps", loaded.rows, loaded.used, dropped, loaded.digest)
        files = (one, *files)
    return Campaign(
        name=folder.name,
        gpu=gpu,
        folder=folder,
        info=info,
        steps=loaded.steps,
        table=loaded.table,
        files=files,
        problems=tuple(problems),
        serving=serving,
        kernels=kernels,
        dataset=loaded.dataset,
    )


def _load_steps(
    tables: Mapping[str, Table], runs: pd.DataFrame, hardware: Hardware | None
) -> Loaded:
    """The good steps of a table; those that a serving run belies left out."""
    if "steps" not in tables:
        return Loaded(pd.DataFrame(), NO_STEPS, None, 0, 0, "", ())
    source = tables["steps"]
    steps, table, problems = checked_steps(source, tables.get("requests"), runs, hardware)
    found = tuple(problems)
    return Loaded(steps, table, None, source.rows_in_file, len(steps), source.sha256, found)


def _read_tables(folder: Path) -> tuple[dict[str, Table], list[Problem]]:
    tables: dict[str, Table] = {}
    problems: list[Problem] = []
    for name, columns in TABLES.items():
        present = [path for end in TABLE_ENDS if (path := folder / f"{name}{end}").exists()]
        if len(present) > 1:
            problems.append(
                Problem(
                    "error",
                    str(present[0]),
                    f"stands beside {present[1].name}",
                    "Keep one of the two",
                )
            )
        if present:
            tables[name] = read_table(present[0], columns)
            problems += tables[name].problems
    return tables, problems


def _read_serving(
    source: Table, hardware: Hardware | None
) -> tuple[pd.DataFrame, pd.DataFrame, list[Problem]]:
    """The rows of a ``serving`` table whose labels are known (with their ``line``), the good ones, every problem."""
    file = str(source.file)
    frame = source.frame.assign(line=source.lines)
    if not len(frame) or not {"model", "tp"} <= set(frame):
        return frame.iloc[:0], frame.iloc[:0], []
    load = functools.partial(load_model, Path(source.file).parent)
    runs, problems = check_labels(file, frame, load)
    problems += check_degrees(file, runs, load)
    possible, found = check_serving_rates(file, runs)
    problems += found
    if hardware is not None:
        allowed, found = check_serving_physics(file, runs, load, hardware)
        possible &= allowed
        problems += found
    serving = runs[possible].reset_index(drop=True)
    problems += check_duplicates(file, serving, "model")
    return runs, serving, [*problems, *check_serving(file, runs)]


def _check_kernels(
    name: str, source: Table, hardware: Hardware | None
) -> tuple[pd.DataFrame, list[Problem]]:
    """The good rows of a kernel table (with their ``line``), and every problem."""
    file = str(source.file)
    frame = source.frame.assign(line=source.lines)
    required = {column.name for column in TABLES[name] if column.required}
    if not len(frame) or not required <= set(frame):
        return frame.iloc[:0], []
    problems: list[Problem] = []
    if hardware is not None:
        possible, problems = check_kernels_physics(file, name, frame, hardware)
        frame = frame[possible].reset_index(drop=True)
    point = frame[
        [
            column.name
            for column in TABLES[name]
            if column.name in frame and column.name not in SPREAD
        ]
    ]
    problems += [
        *check_duplicates(file, frame, "latency_us"),
        *check_replicates(file, frame, point),
    ]
    return frame, problems
