"""The GPUs that a transfer takes from: those with steps for a latency model, each fitted to them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from calibrate.campaign.campaign import Campaign, load_campaigns
from calibrate.campaign.folders import campaign_folders
from calibrate.campaign.info import read_info
from calibrate.campaign.shipped import shipped_ground_truth
from calibrate.fitting.covariance import Covariance, sandwich_by_slice
from calibrate.fitting.draw import draw_rows
from calibrate.fitting.objective import Dataset, build_dataset, computable_rows
from calibrate.fitting.problem import Problem
from calibrate.job.options import Options
from calibrate.job.solution import NothingToFitError, Question, Solution, solve
from calibrate.parameters.start import guide_hardware
from calibrate.records.errors import CalibrateError
from calibrate.transfer.kind import kind_of
from calibrate.transfer.measured import Measured
from calibrate.trust.metrics import errors
from sim.configuration import SPECIFICATIONS, read_block, read_config
from sim.hardware import LINK_PEAK, canonical_gpu, find_gpu, gpu_specs
from sim.models.latency_model import PEAKS, LatencyModel

_DEFAULTS = Options(starts=1)


class SilentSourceError(CalibrateError):
    """A GPU whose campaigns tell a transfer nothing."""


@dataclasses.dataclass(frozen=True)
class Place:
    """A GPU that was measured, and the ground truth in which its campaigns lie."""

    gpu: str
    ground_truth: Path


def places(ground_truth: Path, model: LatencyModel) -> list[Place]:
    """The GPUs with a campaign for the latency model: those of ``ground_truth``, then the shipped ones it lacks."""
    found: dict[str, Place] = {}
    for root in (ground_truth, shipped_ground_truth()):
        folders = sorted(root.iterdir()) if root.is_dir() else []
        for folder in folders:
            if _has_steps(folder, model):
                found.setdefault(canonical_gpu(folder.name), Place(folder.name, root))
    return list(found.values())


def chosen_places(names: Sequence[str], ground_truth: Path, model: LatencyModel) -> list[Place]:
    """The GPUs named, each once; all of :func:`places` where none is. Raises CalibrateError for one without steps."""
    known = {place.gpu: place for place in places(ground_truth, model)}
    if not names:
        return list(known.values())
    chosen = []
    for name in names:
        found = find_gpu(name, known)
        if found is None:
            raise CalibrateError(
                f"--from {name}: no campaign of that GPU holds steps for {model.name} (there are those of "
                f"{', '.join(known)}): measure it, or leave it out"
            )
        chosen.append(found)
    return [known[gpu] for gpu in dict.fromkeys(chosen)]


def measure(
    place: Place, model: LatencyModel, config: Path | None = None, options: Options = _DEFAULTS
) -> Measured:
    """One GPU's values as its campaigns have them, with the standard errors that hold where the model is at fault.

    Its peaks are those of its block in ``config``, else the registry's. Raises SilentSourceError where they are not
    known, or its steps tell nothing.
    """
    peaks = _peaks(place.gpu, config)
    if not {*PEAKS, LINK_PEAK} <= peaks.keys():
        raise SilentSourceError(
            f"{place.gpu}: its peaks are neither in {config} nor in the registry"
        )
    start, _ = guide_hardware(place.gpu, peaks, model.name)
    campaigns = load_campaigns(place.ground_truth, place.gpu, (), start, (model.name,))
    data = _steps(place, campaigns, model, options.seed)
    problem = Problem(model, start, data, (), options.loss)
    solution = _solved(place, problem, options)
    stderr = _standard_errors(solution).stderr
    if not stderr:
        raise SilentSourceError(f"{place.gpu}: its rows do not tell how far off its values are")
    predicted_us = model.predict_us(data.table, solution.hardware)
    return Measured(
        start=start,
        hardware=solution.hardware,
        kind=kind_of(start)[0],
        data=data,
        stderr=stderr,
        error=errors(predicted_us, data.measured_us).mape,
        misfit=_misfit(predicted_us, data),
    )


def _peaks(gpu: str, config: Path | None) -> dict[str, float]:
    """A GPU's peaks as far as the registry or the configuration knows them; the latter goes first."""
    spec = gpu_specs().get(canonical_gpu(gpu))
    registered = dict(spec.values) if spec else {}
    blocks = read_config(config) if config is not None and config.exists() else {}
    name = find_gpu(gpu, blocks)
    values = read_block(blocks[name], name, str(config)) if name else {}
    stated = {key: values[key] for key in (*PEAKS, *SPECIFICATIONS) if key in values}
    return {**registered, **stated}


def _steps(place: Place, campaigns: Sequence[Campaign], model: LatencyModel, seed: int) -> Dataset:
    """The good rows that the model can compute. Raises SilentSourceError where there is none."""
    if any(len(campaign.steps) for campaign in campaigns):
        data, _ = computable_rows(model, build_dataset(campaigns))
        if len(data):
            return draw_rows(data, seed)[0]
    raise SilentSourceError(
        f"{place.gpu}: no good row of its steps is one that {model.name} computes"
    )


def _solved(place: Place, problem: Problem, options: Options) -> Solution:
    try:
        return solve(problem, Question(starts=options.starts, seed=options.seed))
    except NothingToFitError as error:
        raise SilentSourceError(f"{place.gpu}: {error}") from error


def _standard_errors(solution: Solution) -> Covariance:
    """By slice, which is how a model errs; by run where the slices are too few."""
    _, by_slice = sandwich_by_slice(solution.solved, solution.inside)
    return by_slice if by_slice.stderr else solution.joint


def _misfit(predicted_us: np.ndarray, data: Dataset) -> float:
    return float(np.sqrt(np.mean(np.log(predicted_us / data.measured_us) ** 2)))


def _has_steps(folder: Path, model: LatencyModel) -> bool:
    """Whether a GPU's folder has steps that are meant for the model."""
    if not folder.is_dir() or folder.name.startswith("."):
        return False
    return any(
        any(campaign.glob("steps.*"))
        and read_info(campaign / "campaign.toml")[0].is_for([model.name])
        for campaign in campaign_folders(folder.parent, folder.name)
    )
