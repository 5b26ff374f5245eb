"""The next measurements: from what is known of a GPU and what could be measured, the points that teach most."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from calibrate.campaign import Campaign
from calibrate.candidates import COUNTS, candidate_steps, default_architectures, loads, point_seconds
from calibrate.design import Candidates, Information, Noise, choose, taught
from calibrate.errors import CalibrateError
from calibrate.identifiability import Sensitivity, choose_free, sensitivity
from calibrate.objective import MODEL_FLOOR, POINT, Dataset, build_dataset, leave_out_incomputable
from calibrate.parameters import PARAMETERS
from calibrate.validation import dense_peaks
from sim.architecture import Architecture
from sim.batch import Floats, StepTable
from sim.hardware import Hardware
from sim.latency import LatencyModel, latency_model
from sim.work import minimum_work

_SETS = 8  # sets of values over which a first campaign is averaged
_SPREAD = 1.5  # they lie between the guide's range divided and multiplied by this
_PRIOR_BELOW, _PRIOR_ABOVE, _SMALLEST = 3.0, 5.0, 1e-3  # nine values in ten lie between a third and five times it
_SHARED = 0.5  # of the model's error, squared, that all rows of a slice (phase, model, tp) have in common
_Z90 = 1.6449  # 90% of a normal variable lie within so many standard deviations
_UNSEEN = 0.8  # a parameter is not seen whose error stays above this share of the prior's, or above its value
_HALVING_S = 14400.0  # four hours of measuring are worth a joint interval half as wide


@dataclasses.dataclass(frozen=True)
class PlannedParameter:
    """A parameter before and after a plan: expected 90% half-widths as fractions of ``value``; None: not seen."""

    name: str
    value: float
    unit: str
    now: float | None
    after: float | None
    status: Literal["free", "tied", "inert"]
    why: str


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Points to measure. ``steps`` are rows of the campaign's table, latencies empty; the other frame says why.

    ``points`` has one row a point: its columns of steps, ``phase``, ``predicted_us``, ``seconds`` and ``teaches``.
    ``narrowing`` is how many times narrower the joint interval (geometric mean over parameters) becomes.
    """

    gpu: str
    latency_model: str
    parameters: tuple[PlannedParameter, ...]
    points: pd.DataFrame
    steps: pd.DataFrame
    seconds: float
    loads: int
    prior_rows: int
    narrowing: float
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain values, for JSON."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "steps"}
        parameters = [dataclasses.asdict(parameter) for parameter in self.parameters]
        return {**plain, "parameters": parameters, "points": self.points.to_dict("records")}


def plan(
    campaigns: Sequence[Campaign],
    hardware: Hardware,
    *,
    model: str = "roofline-v1",
    architectures: Sequence[Architecture] = (),
    tps: Sequence[int] = (1, 2, 4, 8),
    budget: int = 24,
    seconds: float | None = None,
    replicates: int = 1,
    max_batch: int = 256,
    max_tokens: int = 16384,
    seed: int = 0,
    floor: float = MODEL_FLOOR,
    notes: Sequence[str] = (),
) -> Plan:
    """Choose the ``budget`` steps (within ``seconds``, where given) that teach most beside what is measured already.

    With campaigns the design is made at ``hardware``'s values; without, over values all over the guide's range.
    ``architectures`` default to the campaigns' (else a small and a large model that fit). A point counts once however
    many ``replicates`` of it are measured: the model errs alike on them. ``notes`` on the start lead the plan's. Raises CalibrateError if nothing fits or
    the budget holds no point, ArchitectureError for a model that cannot be computed.
    """
    _check(budget, seconds, replicates, max_batch, max_tokens)
    chosen_model = latency_model(model)
    data, found = _measured(chosen_model, campaigns, floor)
    sets = [hardware] if data else _plausible(chosen_model, hardware, seed)
    models = list(architectures) or (list(data.table.architectures) if data else default_architectures(hardware, tps))
    notes = [*notes, *found, *(text for arch in models for text in chosen_model.limits(arch))]
    steps = candidate_steps(models, tps, hardware, max_batch=max_batch, max_tokens=max_tokens)
    table = _table(steps, models)
    predicted = np.array([chosen_model.predict_us(table, one) for one in sets])
    left = _physical(table, hardware, predicted) & ~_is_measured(table, data)
    if not left.any():
        raise CalibrateError("nothing left to measure: the campaigns hold every candidate. Give other --models or --tp")
    steps, table, predicted_us = steps[left], table.take(left), predicted[:, left].mean(axis=0)
    experiment = _experiment(chosen_model, hardware, sets, table, replicates * point_seconds(predicted_us), data, floor)
    with threadpool_limits(limits=1, user_api="blas"):  # small matrices: threads would only wait for one another
        rows = _choose(experiment, budget, seconds)
        points = _points(experiment, steps.assign(phase=table.phases, predicted_us=predicted_us), rows)
        parameters, narrowing = _parameters(experiment, chosen_model.parameters(hardware), rows)
    return Plan(
        gpu=hardware.gpu,
        latency_model=chosen_model.name,
        parameters=parameters,
        points=points,
        steps=_rows_to_fill(points, replicates),
        seconds=round(experiment.candidates.seconds(rows), 1),
        loads=len(points[["model", "tp"]].drop_duplicates()),
        prior_rows=len(data) if data else 0,
        narrowing=narrowing,
        notes=tuple(notes),
    )


def _check(budget: int, seconds: float | None, replicates: int, max_batch: int, max_tokens: int) -> None:
    for name, value in (
        ("budget", budget),
        ("replicates", replicates),
        ("max_batch", max_batch),
        ("max_tokens", max_tokens),
    ):
        if value < 1:
            raise CalibrateError(f"{name} must be 1 or more, got {value}")
    if seconds is not None and not 0 < seconds < float("inf"):
        raise CalibrateError(f"seconds must be positive, got {seconds:g}")


def _measured(model: LatencyModel, campaigns: Sequence[Campaign], floor: float) -> tuple[Dataset | None, list[str]]:
    """What the campaigns hold, one row a point and every row alike in weight; and what was left out."""
    bad = sum(problem.severity == "error" for campaign in campaigns for problem in campaign.problems)
    notes = [f"The campaigns have {bad} errors; `calibrate validate` names them. Their good rows count."] if bad else []
    if not any(len(campaign.steps) for campaign in campaigns):
        return None, [*notes, f"No measured step yet: planned for {_SETS} sets of values all over the guide's range."]
    data, left_out = leave_out_incomputable(model, build_dataset(campaigns, floor))
    data = data.take(~data.frame.duplicated(POINT).to_numpy())
    return dataclasses.replace(data, weight=np.ones(len(data))), notes + left_out


def _plausible(model: LatencyModel, hardware: Hardware, seed: int) -> list[Hardware]:
    """Configurations spread over the guide's range and somewhat more, by a Latin hypercube."""
    names = [name for name in model.parameter_names if PARAMETERS[name].tied_to is None]
    rng = np.random.default_rng(seed)
    ranks = rng.permuted(np.tile(np.arange(_SETS), (len(names), 1)), axis=1)
    share = (ranks + rng.random(ranks.shape)) / _SETS
    low, high = _ranges(names, _SPREAD, _SPREAD)
    values = low[:, None] * (high / low)[:, None] ** share
    return [hardware.with_values(dict(zip(names, column.tolist(), strict=True))) for column in values.T]


def _ranges(names: Sequence[str], below: float, above: float) -> tuple[Floats, Floats]:
    """The guide's ranges, widened by two factors within the physical bounds."""
    known = [PARAMETERS[name] for name in names]
    low = np.array([max(p.lower, p.guide[0] / below, _SMALLEST) for p in known])
    return low, np.array([min(p.upper, p.guide[1] * above) for p in known])


def _table(steps: pd.DataFrame, models: Sequence[Architecture]) -> StepTable:
    return StepTable.from_columns(steps, {arch.name: arch for arch in models}.__getitem__)


def _physical(table: StepTable, hardware: Hardware, predicted: Floats) -> NDArray[np.bool_]:
    """Rows that the model does not predict faster than the peaks allow, for most sets of values."""
    possible: NDArray[np.bool_] = np.median(predicted, axis=0) >= minimum_work(table).floor_us(
        table, *dense_peaks(table, hardware)
    )
    return possible


def _is_measured(table: StepTable, data: Dataset | None) -> NDArray[np.bool_]:
    known = set(_keys(data.table)) if data else set()
    return np.array([key in known for key in _keys(table)])


def _keys(table: StepTable) -> list[tuple[object, ...]]:
    columns = (table.arch_index.tolist(), table.tp.tolist(), *table.moments.tolist())
    return [(table.architectures[arch], *rest) for arch, *rest in zip(*columns, strict=True)]


@dataclasses.dataclass(frozen=True, eq=False)
class _Experiment:
    """What the design needs: the free ``names``, what could be measured, and what is known without and with data."""

    names: tuple[str, ...]
    held: dict[str, tuple[str, str]]
    candidates: Candidates
    prior: Information
    start: Information
    noise: Noise


def _experiment(
    model: LatencyModel,
    hardware: Hardware,
    sets: Sequence[Hardware],
    table: StepTable,
    point_s: Floats,
    data: Dataset | None,
    floor: float,
) -> _Experiment:
    seen = [_sensitivity(model, one, table) for one in sets]
    measured = [sensitivity(model, hardware, data)] if data else []
    everything = Sensitivity(seen[0].names, np.vstack([part.matrix for part in (*seen, *measured)]))
    choice = choose_free(everything, model.parameters(hardware), [], [])
    columns = [everything.names.index(name) for name in choice.free]
    slices, slice_of, measured_slice_of = _slices(table, data)
    noise = Noise(floor * _SHARED**0.5, floor * (1 - _SHARED) ** 0.5)
    low, high = _ranges(choice.free, _PRIOR_BELOW, _PRIOR_ABOVE)
    prior = Information.prior(np.log(high / low) / (2 * _Z90), slices, len(sets), noise)
    start = prior
    if data:
        own = np.sqrt(data.sigma**2 - noise.shared**2)
        start = prior.add(measured[0].matrix[None][:, :, columns], measured_slice_of, own)
    load_of, load_s = loads(table)
    slopes = np.stack([part.matrix[:, columns] for part in seen])
    candidates = Candidates(slopes, slice_of, point_s, load_of, load_s)
    return _Experiment(choice.free, choice.held, candidates, prior, start, noise)


def _sensitivity(model: LatencyModel, hardware: Hardware, table: StepTable) -> Sensitivity:
    ones = np.ones(len(table))
    return sensitivity(model, hardware, Dataset(table, ones, ones, ones, pd.DataFrame(index=range(len(table)))))


def _slices(table: StepTable, data: Dataset | None) -> tuple[int, NDArray[np.intp], NDArray[np.intp]]:
    """How many slices of phase, model and tp there are, and each row's: of the candidates, and of the data."""
    labels = [
        (phase, one.architectures[arch], tp)
        for one in (table, *([data.table] if data else []))
        for phase, arch, tp in zip(one.phases.tolist(), one.arch_index.tolist(), one.tp.tolist(), strict=True)
    ]
    position = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    number = np.array([position[label] for label in labels], dtype=np.intp)
    return len(position), number[: len(table)], number[len(table) :]


def _choose(experiment: _Experiment, budget: int, seconds: float | None) -> NDArray[np.intp]:
    price = 2 * len(experiment.names) * float(np.log(2)) / (seconds or _HALVING_S)
    found = choose(
        experiment.candidates, experiment.start, experiment.noise, budget, price, seconds or float("inf")
    )
    if not len(found):
        quickest = min(experiment.candidates.seconds(np.array([row])) for row in range(len(experiment.candidates.point_s)))
        raise CalibrateError(f"{seconds:g} s hold no point: the quickest takes {quickest:.0f} s with its model's loading")
    return found


def _points(experiment: _Experiment, steps: pd.DataFrame, rows: NDArray[np.intp]) -> pd.DataFrame:
    """The chosen steps in the order of measuring: by model and tp, so that each is loaded once."""
    teaches = taught(experiment.candidates, experiment.start, experiment.noise, rows)
    points = steps.iloc[rows].assign(
        seconds=experiment.candidates.point_s[rows],
        teaches=[experiment.names[i] for i in teaches],
        load=experiment.candidates.load_of[rows],
        order=steps["phase"].iloc[rows].map({"prefill": 0, "decode": 1, "mixed": 2}),
    )
    points = points.sort_values(["load", "order", *COUNTS], ignore_index=True)
    return points.drop(columns=["load", "order"])


def _rows_to_fill(points: pd.DataFrame, replicates: int) -> pd.DataFrame:
    """Rows of a steps table with an empty latency; a run is a model, tp, phase and batch."""
    batch = points["num_prefill_requests"].astype(str) + "+" + points["num_decode_requests"].astype(str)
    run = points["model"] + "-tp" + points["tp"].astype(str) + "-" + points["phase"] + "-b" + batch
    rows = points[["model", "tp", "dtype", *COUNTS]].assign(latency_us="", run_id=run)
    return rows.loc[rows.index.repeat(replicates)].reset_index(drop=True)


def _parameters(
    experiment: _Experiment, values: dict[str, float], rows: NDArray[np.intp]
) -> tuple[tuple[PlannedParameter, ...], float]:
    """Every parameter before and after measuring some rows, and how far the joint interval narrows."""
    candidates, start = experiment.candidates, experiment.start
    end = start.add(candidates.slopes[:, rows], candidates.slice_of[rows], experiment.noise.own)
    now, after = _half_widths(experiment, start), _half_widths(experiment, end)
    parameters = []
    for name in (name for name in PARAMETERS if name in values):
        known = PARAMETERS[name]
        text, why = experiment.held.get(name, ("free", f"seen in {known.seen_in}"))
        status: Literal["free", "tied", "inert"] = "free" if text == "free" else "tied" if text == "tied" else "inert"
        parameters.append(
            PlannedParameter(name, values[name], known.unit, now.get(name), after.get(name), status, why)
        )
    return tuple(parameters), start.joint_error() / end.joint_error()


def _half_widths(experiment: _Experiment, known: Information) -> dict[str, float]:
    """90% half-widths of ln θ by name, of the parameters that are seen."""
    largest = np.minimum(_UNSEEN * _Z90 * experiment.prior.standard_errors(), 1.0)
    widths = _Z90 * known.standard_errors()
    return {name: float(w) for name, w, most in zip(experiment.names, widths, largest, strict=True) if w < most}
