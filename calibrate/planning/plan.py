"""The next measurements: from what is known of a GPU and what could be measured, the points that teach most."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from calibrate.campaign.inputs import CampaignsLike, HardwareLike, as_campaigns, as_hardware, gpu_of
from calibrate.fitting.objective import MODEL_FLOOR, Dataset
from calibrate.planning.candidates import COUNTS, candidate_steps, default_architectures
from calibrate.planning.design import Information, choose_points, taught
from calibrate.planning.experiment import Experiment, measured, set_up
from calibrate.planning.thresholds import HALVING_S, LARGEST_HALF_WIDTH, UNSEEN
from calibrate.records.errors import CalibrateError
from calibrate.records.interval import Z90
from sim.architecture import Architecture
from sim.database.table import MfuTable
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.models.registry import latency_model, parameter_in

Status = Literal["free", "tied", "inert"]


@dataclasses.dataclass(frozen=True)
class PlannedParameter:
    """A parameter before and after a plan: expected 90% half-widths as fractions of ``value``; None: not seen."""

    name: str
    value: float
    unit: str
    now: float | None
    after: float | None
    status: Status
    why: str
    seen_in: str


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
        names = [field.name for field in dataclasses.fields(self)]
        content = {name: getattr(self, name) for name in names if name != "steps"}
        content["parameters"] = [dataclasses.asdict(parameter) for parameter in self.parameters]
        content["points"] = self.points.to_dict("records")
        return content


def plan(
    campaigns: CampaignsLike,
    hardware: HardwareLike,
    *,
    model: str = "roofline-v1",
    mfu_table: MfuTable | None = None,
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
    known: Mapping[str, float] | None = None,
) -> Plan:
    """Choose the ``budget`` steps (within ``seconds``, where given) that teach most beside what is measured already.

    ``campaigns`` are one, several (or none: nothing is measured yet), or a frame of steps; ``hardware`` is a
    configuration, or the path of a file of them. With campaigns the design is made at ``hardware``'s values;
    without, over values all over the guide's range. ``architectures`` default to the campaigns' (else a small and a
    large model that fit). A point counts once however many ``replicates`` of it are measured: the model errs alike on
    them. ``notes`` on the start lead the plan's. ``known`` has standard deviations of ln θ by parameter, as other GPUs
    tell them: the design is then made at ``hardware``'s values, data or not.
    Raises CalibrateError if nothing fits or the budget holds no point, ArchitectureError for a model that cannot be
    computed. The same seed gives the same plan.
    """
    hardware = as_hardware(hardware, gpu_of(campaigns))
    several = as_campaigns(campaigns, hardware)
    _check(budget, seconds, replicates, max_batch, max_tokens)
    chosen = latency_model(model, mfu_table=mfu_table)
    data, data_notes = measured(chosen, several, floor, known or {})
    models = list(architectures) or _default_models(data, hardware, tps)
    for arch, tp in itertools.product(architectures, tps):
        arch.check_tp(tp)
    limits = [text for arch in models for text in chosen.remarks(arch, hardware)]
    models = list(dict.fromkeys(arch.with_ep(1) for arch in models))
    steps = candidate_steps(
        models,
        tps,
        hardware,
        max_batch=max_batch,
        max_tokens=max_tokens,
        shares_experts=chosen.shares_experts,
        counts_windows=chosen.counts_windows,
    )
    # Small matrices: threads would only wait for one another
    with threadpool_limits(limits=1, user_api="blas"):
        experiment = set_up(
            chosen,
            hardware,
            models,
            steps,
            data,
            replicates=replicates,
            seed=seed,
            floor=floor,
            known=known or {},
        )
        rows = _choose(experiment, budget, seconds)
        points = _points(experiment, rows)
        parameters, narrowing = _parameters(experiment, chosen, chosen.parameters(hardware), rows)
    return Plan(
        gpu=hardware.gpu,
        latency_model=chosen.name,
        parameters=parameters,
        points=points,
        steps=_rows_to_fill(points, replicates),
        seconds=round(experiment.candidates.seconds(rows), 1),
        loads=len(points[engine_columns(points)].drop_duplicates()),
        prior_rows=len(data) if data else 0,
        narrowing=narrowing,
        notes=(*notes, *data_notes, *limits),
    )


def engine_columns(points: pd.DataFrame) -> list[str]:
    """Columns that are the same for points of one engine, which is started once."""
    return [name for name in ("model", "tp", "dtype", "ep") if name in points]


def _default_models(
    data: Dataset | None, hardware: Hardware, tps: Sequence[int]
) -> list[Architecture]:
    """The campaigns' models; without any, a small and a large one."""
    return list(data.table.architectures) if data else default_architectures(hardware, tps)


def _check(
    budget: int, seconds: float | None, replicates: int, max_batch: int, max_tokens: int
) -> None:
    counts = {
        "budget": budget,
        "replicates": replicates,
        "max_batch": max_batch,
        "max_tokens": max_tokens,
    }
    for name, value in counts.items():
        if value < 1:
            raise CalibrateError(f"{name} must be 1 or more, got {value}")
    if seconds is not None and not 0 < seconds < float("inf"):
        raise CalibrateError(f"seconds must be positive, got {seconds:g}")


def _choose(experiment: Experiment, budget: int, seconds: float | None) -> NDArray[np.intp]:
    halvings = 2 * len(experiment.names)
    price_per_s = halvings * float(np.log(2)) / (seconds or HALVING_S)
    rows = choose_points(
        experiment.candidates,
        experiment.start,
        experiment.noise,
        budget,
        price_per_s,
        most_s=seconds or float("inf"),
    )
    if not len(rows):
        every_row = range(len(experiment.steps))
        quickest_s = min(experiment.candidates.seconds(np.array([row])) for row in every_row)
        raise CalibrateError(
            f"{seconds:g} s hold no point: the quickest takes {quickest_s:.0f} s, model loading included"
        )
    return rows


def _points(experiment: Experiment, rows: NDArray[np.intp]) -> pd.DataFrame:
    """The chosen steps in the order of measuring: by model and tp, so that each is loaded once."""
    teaches = taught(experiment.candidates, experiment.start, experiment.noise, rows)
    points = experiment.steps.iloc[rows]
    points = points.assign(
        seconds=experiment.candidates.point_s[rows],
        teaches=[experiment.names[i] for i in teaches],
        load=experiment.candidates.load_of[rows],
        order=points["phase"].map({"prefill": 0, "decode": 1, "mixed": 2}),
    )
    points = points.sort_values(["load", "order", *COUNTS], ignore_index=True)
    return points.drop(columns=["load", "order"])


def _rows_to_fill(points: pd.DataFrame, replicates: int) -> pd.DataFrame:
    """Rows of a steps table with an empty latency; a run is a model, tp, phase and batch."""
    tp = points["tp"].astype(str)
    prefills = points["num_prefill_requests"].astype(str)
    decodes = points["num_decode_requests"].astype(str)
    shared = "-ep" + points["ep"].astype(str) if "ep" in points else ""
    engine = points["model"] + "-tp" + tp + shared
    run = engine + "-" + points["phase"] + "-b" + prefills + "+" + decodes

    rows = points[[*engine_columns(points), *COUNTS]].assign(latency_us="", run_id=run)
    repeated = rows.index.repeat(replicates)
    return rows.loc[repeated].reset_index(drop=True)


def _parameters(
    experiment: Experiment, model: LatencyModel, values: dict[str, float], rows: NDArray[np.intp]
) -> tuple[tuple[PlannedParameter, ...], float]:
    """Every parameter before and after measuring some rows, and how far the joint interval narrows."""
    start = experiment.start
    slopes = experiment.candidates.slopes[:, rows]
    slice_of = experiment.candidates.slice_of[rows]
    end = start.add(slopes, slice_of, experiment.noise.own)

    now = _half_widths(experiment, start)
    after = _half_widths(experiment, end)
    parameters = []
    for name in model.parameter_names:
        parameter = parameter_in(model, name)
        status, why = _status(experiment, name)
        parameters.append(
            PlannedParameter(
                name=name,
                value=values[name],
                unit=parameter.unit,
                now=now.get(name),
                after=after.get(name),
                status=status,
                why=why,
                seen_in=parameter.seen_in,
            )
        )
    return tuple(parameters), start.joint_error() / end.joint_error()


def _status(experiment: Experiment, name: str) -> tuple[Status, str]:
    """Whether a plan can teach anything about a parameter, and why not."""
    if name not in experiment.held:
        return "free", ""
    held, why = experiment.held[name]
    return ("tied" if held == "tied" else "inert"), why


def _half_widths(experiment: Experiment, known: Information) -> dict[str, float]:
    """90% half-widths of ln θ by name, of the parameters that are seen or known from elsewhere."""
    prior_errors = experiment.prior.standard_errors()
    largest = np.minimum(UNSEEN * Z90 * prior_errors, LARGEST_HALF_WIDTH)
    half_widths = Z90 * known.standard_errors()

    limits = zip(experiment.names, half_widths, largest, strict=True)
    return {
        name: half_width
        for name, half_width, most in limits
        if half_width < most or name in experiment.known
    }
