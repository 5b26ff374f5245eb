"""What a plan knows before it chooses: what is measured, which values are plausible, and what each step would show."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.campaign.campaign import Campaign
from calibrate.campaign.physics import fastest_us
from calibrate.fitting.identifiability import Sensitivity, choose_free, sensitivity
from calibrate.fitting.labels import POINT
from calibrate.fitting.objective import Dataset, build_dataset, leave_out_incomputable
from calibrate.planning.candidates import loads, point_seconds
from calibrate.planning.design import Candidates, Information, Noise
from calibrate.planning.plausible import SETS, plausible_sets, prior_sd
from calibrate.planning.thresholds import SHARED
from calibrate.records.errors import CalibrateError
from sim.architecture import Architecture
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.steps.batch import Floats, StepTable

_NOTHING: Mapping[str, float] = {}


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """What the design chooses from. ``steps`` has a row a candidate, with ``phase`` and ``predicted_us``.

    ``names`` are the free parameters, ``held`` says of the others why not; ``prior`` is known without any data,
    of the parameters ``known`` from elsewhere.
    """

    steps: pd.DataFrame
    names: tuple[str, ...]
    held: Mapping[str, tuple[str, str]]
    candidates: Candidates
    prior: Information
    start: Information
    noise: Noise
    known: frozenset[str] = frozenset()


def set_up(
    model: LatencyModel,
    hardware: Hardware,
    architectures: Sequence[Architecture],
    steps: pd.DataFrame,
    data: Dataset | None,
    *,
    replicates: int,
    seed: int,
    floor: float,
    known: Mapping[str, float] = _NOTHING,
) -> Experiment:
    """What the model says of candidate steps at the hardware's values or, without data, at plausible ones.

    ``known`` has standard deviations of ln θ by parameter, from elsewhere: the hardware's values are then plausible.
    Steps that are ``composed`` of kernels see no time of an engine.
    Raises CalibrateError if every candidate is measured already.
    """
    sets = [hardware] if data or known else plausible_sets(model, hardware, seed)
    by_name = {arch.name: arch for arch in architectures}
    table = StepTable.from_columns(
        steps, lambda name, dtype: by_name[name].with_dtype(dtype or by_name[name].dtype)
    )
    composed = steps["composed"].to_numpy() if "composed" in steps else np.zeros(len(steps), bool)
    predicted = np.array([model.predict_us(table, values) for values in sets])

    left = _left_to_measure(table, hardware, predicted, data)
    table = table.take(left)
    predicted_us = predicted[:, left].mean(axis=0)

    shown = [_sensitivity(model, values, table, composed[left]) for values in sets]
    of_data = sensitivity(model, hardware, data) if data else None
    everything = _together([*shown, of_data] if of_data else shown)
    choice = choose_free(everything, model.parameters(hardware), [], [])
    columns = [everything.names.index(name) for name in choice.free]

    noise = Noise(shared=floor * SHARED**0.5, own=floor * (1 - SHARED) ** 0.5)
    slices = _slices(table, data)
    prior = Information.prior(prior_sd(choice.free, known), slices.number, len(sets), noise)
    start = prior
    if data and of_data:
        own = np.sqrt(data.sigma**2 - noise.shared**2)
        start = prior.add(of_data.matrix[:, columns][None], slices.of_data, own)

    load_of, load_s = loads(table)
    return Experiment(
        steps=steps[left].assign(phase=table.phases, predicted_us=predicted_us),
        names=choice.free,
        held=choice.held,
        candidates=Candidates(
            slopes=np.stack([part.matrix[:, columns] for part in shown]),
            slice_of=slices.of_candidates,
            point_s=replicates * point_seconds(predicted_us),
            load_of=load_of,
            load_s=load_s,
        ),
        prior=prior,
        start=start,
        noise=noise,
        known=frozenset(known),
    )


def measured(
    model: LatencyModel,
    campaigns: Sequence[Campaign],
    floor: float,
    known: Mapping[str, float] = _NOTHING,
) -> tuple[Dataset | None, list[str]]:
    """What the campaigns hold, one row a point and every row alike in weight; and what was left out."""
    notes = _bad_rows(campaigns)
    if not any(len(campaign.steps) for campaign in campaigns):
        where = (
            "at other GPUs' values, as far as these may be off"
            if known
            else f"for {SETS} sets of values all over the guide's range"
        )
        return None, [*notes, f"No measured step yet: planned {where}."]

    data, left_out = leave_out_incomputable(model, build_dataset(campaigns, floor))
    repeated = data.frame.duplicated(POINT).to_numpy()
    data = data.take(~repeated)
    data = dataclasses.replace(data, weight=np.ones(len(data)))
    return data, notes + left_out


def _bad_rows(campaigns: Sequence[Campaign]) -> list[str]:
    """A note on the errors of the campaigns, if they have any."""
    problems = [problem for campaign in campaigns for problem in campaign.problems]
    bad = sum(problem.severity == "error" for problem in problems)
    if not bad:
        return []
    count = f"{bad} error{'s' if bad > 1 else ''}"
    return [f"The campaigns have {count}; `calibrate validate` names them. Their good rows count."]


def _left_to_measure(
    table: StepTable, hardware: Hardware, predicted: Floats, data: Dataset | None
) -> NDArray[np.bool_]:
    """Candidates that are plausible and not measured yet. Raises CalibrateError if there is none."""
    left = _physical(table, hardware, predicted) & ~_is_measured(table, data)
    if not left.any():
        raise CalibrateError(
            "nothing left to measure: the campaigns hold every candidate. Give other --models or --tp"
        )
    return left


def _physical(table: StepTable, hardware: Hardware, predicted: Floats) -> NDArray[np.bool_]:
    """Rows that the model does not predict faster than the peaks allow, for most sets of values."""
    typical_us = np.median(predicted, axis=0)
    possible: NDArray[np.bool_] = typical_us >= fastest_us(table, hardware)
    return possible


def _is_measured(table: StepTable, data: Dataset | None) -> NDArray[np.bool_]:
    known = set(_keys(data.table)) if data else set()
    return np.array([key in known for key in _keys(table)])


def _keys(table: StepTable) -> list[tuple[object, ...]]:
    """What tells one step from another, a key a row."""
    architectures = [table.architectures[arch] for arch in table.arch_index.tolist()]
    tps = table.tp.tolist()
    moments = table.moments.tolist()
    return list(zip(architectures, tps, *moments, strict=True))


def _sensitivity(
    model: LatencyModel, hardware: Hardware, table: StepTable, composed: NDArray[np.bool_]
) -> Sensitivity:
    """What steps would show that nobody has measured, each of the same weight."""
    ones = np.ones(len(table))
    labels = pd.DataFrame({"composed": composed})
    data = Dataset(table, measured_us=ones, sigma=ones, weight=ones, frame=labels)
    return sensitivity(model, hardware, data)


def _together(parts: Sequence[Sensitivity]) -> Sensitivity:
    """The rows of all parts, one part after the other."""
    logs = np.vstack([part.logs for part in parts])
    weight = np.concatenate([part.weight for part in parts])
    return Sensitivity(parts[0].names, logs, weight)


class _Slices(NamedTuple):
    """How many slices of phase, model and tp there are, and each row's: of the candidates, and of the data."""

    number: int
    of_candidates: NDArray[np.intp]
    of_data: NDArray[np.intp]


def _slices(table: StepTable, data: Dataset | None) -> _Slices:
    labels = _slice_labels(table)
    if data:
        labels += _slice_labels(data.table)
    distinct = dict.fromkeys(labels)
    position = {label: number for number, label in enumerate(distinct)}

    slice_of = np.array([position[label] for label in labels], dtype=np.intp)
    candidates = len(table)
    return _Slices(len(position), slice_of[:candidates], slice_of[candidates:])


def _slice_labels(table: StepTable) -> list[tuple[str, Architecture, int]]:
    architectures = [table.architectures[arch] for arch in table.arch_index.tolist()]
    phases = table.phases.tolist()
    tps = table.tp.tolist()
    return list(zip(phases, architectures, tps, strict=True))
