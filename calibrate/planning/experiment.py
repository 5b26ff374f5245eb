"""What a plan knows before it chooses: what is measured, which values are plausible, and what each step would show."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.campaign.campaign import Campaign
from calibrate.campaign.physics import fastest_us
from calibrate.fitting.identifiability import Sensitivity, choose_free, sensitivity
from calibrate.fitting.objective import POINT, Dataset, build_dataset, leave_out_incomputable
from calibrate.planning.candidates import loads, point_seconds
from calibrate.planning.design import Candidates, Information, Noise
from calibrate.planning.thresholds import PRIOR_ABOVE, PRIOR_BELOW, SHARED
from calibrate.records.errors import CalibrateError
from calibrate.records.interval import Z90
from sim.architecture import Architecture
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.models.registry import PARAMETERS, parameter_in
from sim.steps.batch import Floats, StepTable

_SETS = 8  # sets of values over which a first campaign is averaged
_SPREAD = 1.5  # they lie between the guide's range divided and multiplied by this


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """What the design chooses from. ``steps`` has a row a candidate, with ``phase`` and ``predicted_us``.

    ``names`` are the free parameters, ``held`` says of the others why not; ``prior`` is known without any data.
    """

    steps: pd.DataFrame
    names: tuple[str, ...]
    held: Mapping[str, tuple[str, str]]
    candidates: Candidates
    prior: Information
    start: Information
    noise: Noise


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
) -> Experiment:
    """What the model says of candidate steps at the hardware's values or, without data, at plausible ones.

    Raises CalibrateError if every candidate is measured already.
    """
    sets = [hardware] if data else _plausible(model, hardware, seed)
    table = StepTable.from_columns(steps, {arch.name: arch for arch in architectures}.__getitem__)
    predicted = np.array([model.predict_us(table, one) for one in sets])
    left = _physical(table, hardware, predicted) & ~_is_measured(table, data)
    if not left.any():
        raise CalibrateError(
            "nothing left to measure: the campaigns hold every candidate. Give other --models or --tp"
        )
    steps = steps[left]
    table = table.take(left)
    predicted_us = predicted[:, left].mean(axis=0)
    seen = [_sensitivity(model, one, table) for one in sets]
    known = [sensitivity(model, hardware, data)] if data else []
    parts = (*seen, *known)
    weight = np.concatenate([part.weight for part in parts])
    everything = Sensitivity(seen[0].names, np.vstack([part.logs for part in parts]), weight)
    choice = choose_free(everything, model.parameters(hardware), [], [])
    columns = [everything.names.index(name) for name in choice.free]
    slices, slice_of, known_slice_of = _slices(table, data)
    noise = Noise(floor * SHARED**0.5, floor * (1 - SHARED) ** 0.5)
    free = [PARAMETERS[name] for name in choice.free]
    widths = np.array([p.extent(*p.widened(PRIOR_BELOW, PRIOR_ABOVE)) for p in free])
    prior = start = Information.prior(widths / (2 * Z90), slices, len(sets), noise)
    if data:
        own = np.sqrt(data.sigma**2 - noise.shared**2)
        start = prior.add(known[0].matrix[None][:, :, columns], known_slice_of, own)
    slopes = np.stack([part.matrix[:, columns] for part in seen])
    candidates = Candidates(
        slopes, slice_of, replicates * point_seconds(predicted_us), *loads(table)
    )
    steps = steps.assign(phase=table.phases, predicted_us=predicted_us)
    return Experiment(steps, choice.free, choice.held, candidates, prior, start, noise)


def measured(
    model: LatencyModel, campaigns: Sequence[Campaign], floor: float
) -> tuple[Dataset | None, list[str]]:
    """What the campaigns hold, one row a point and every row alike in weight; and what was left out."""
    bad = sum(
        problem.severity == "error" for campaign in campaigns for problem in campaign.problems
    )
    found = f"The campaigns have {bad} error{'s' if bad > 1 else ''}"
    notes = [f"{found}; `calibrate validate` names them. Their good rows count."] if bad else []
    if not any(len(campaign.steps) for campaign in campaigns):
        return None, [
            *notes,
            f"No measured step yet: planned for {_SETS} sets of values all over the guide's range.",
        ]
    data, left_out = leave_out_incomputable(model, build_dataset(campaigns, floor))
    data = data.take(~data.frame.duplicated(POINT).to_numpy())
    return dataclasses.replace(data, weight=np.ones(len(data))), notes + left_out


def _plausible(model: LatencyModel, hardware: Hardware, seed: int) -> list[Hardware]:
    """Configurations spread over the guide's range and somewhat more, by a Latin hypercube."""
    given = model.parameters(hardware)
    known = [parameter_in(model, name) for name in model.parameter_names]
    names = [
        p.name for p in known if p.tied_to is None and not (p.zero == "off" and given[p.name] == 0)
    ]
    rng = np.random.default_rng(seed)
    ranks = rng.permuted(np.tile(np.arange(_SETS), (len(names), 1)), axis=1)
    share = (ranks + rng.random(ranks.shape)) / _SETS
    found = (PARAMETERS[name] for name in names)
    values = np.array(
        [p.between(*p.widened(_SPREAD, _SPREAD), row) for p, row in zip(found, share, strict=True)]
    )
    return [
        hardware.with_values(dict(zip(names, column.tolist(), strict=True))) for column in values.T
    ]


def _physical(table: StepTable, hardware: Hardware, predicted: Floats) -> NDArray[np.bool_]:
    """Rows that the model does not predict faster than the peaks allow, for most sets of values."""
    possible: NDArray[np.bool_] = np.median(predicted, axis=0) >= fastest_us(table, hardware)
    return possible


def _is_measured(table: StepTable, data: Dataset | None) -> NDArray[np.bool_]:
    known = set(_keys(data.table)) if data else set()
    return np.array([key in known for key in _keys(table)])


def _keys(table: StepTable) -> list[tuple[object, ...]]:
    columns = (table.arch_index.tolist(), table.tp.tolist(), *table.moments.tolist())
    return [(table.architectures[arch], *rest) for arch, *rest in zip(*columns, strict=True)]


def _sensitivity(model: LatencyModel, hardware: Hardware, table: StepTable) -> Sensitivity:
    ones = np.ones(len(table))
    return sensitivity(
        model, hardware, Dataset(table, ones, ones, ones, pd.DataFrame(index=range(len(table))))
    )


def _slices(
    table: StepTable, data: Dataset | None
) -> tuple[int, NDArray[np.intp], NDArray[np.intp]]:
    """How many slices of phase, model and tp there are, and each row's: of the candidates, and of the data."""
    labels = [
        (phase, one.architectures[arch], tp)
        for one in (table, *([data.table] if data else []))
        for phase, arch, tp in zip(
            one.phases.tolist(), one.arch_index.tolist(), one.tp.tolist(), strict=True
        )
    ]
    position = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    number = np.array([position[label] for label in labels], dtype=np.intp)
    return len(position), number[: len(table)], number[len(table) :]
