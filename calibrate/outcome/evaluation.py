"""Errors of a configuration as it is: steps and serving results predicted, nothing fitted."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from calibrate.campaign.campaign import Campaign
from calibrate.campaign.inputs import CampaignsLike, HardwareLike, as_campaigns, as_hardware, gpu_of
from calibrate.campaign.peaks import check_peaks
from calibrate.fitting.objective import build_dataset, computable_rows
from calibrate.records.errors import CalibrateError
from calibrate.serving.figures import draw_enough
from calibrate.serving.points import METRICS, of_engine, usable_points
from calibrate.serving.summary import Served, figures_table, served_errors
from calibrate.trust.metrics import Errors, errors_by_slice
from sim.architecture import Architecture
from sim.database.table import MfuTable
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.models.registry import latency_model

_KINDS = ("model", "tp", "engine", "campaign")
_SCORED = ("steps", "serving")
_UNKNOWN_ENGINE = "unknown"
_NOT_OF_A_ROW = ["latency_std_us", "composed", "set_aside"]


@dataclasses.dataclass(frozen=True)
class ServingEvaluation:
    """Errors of the mean TTFT, ITL and end-to-end time of ``rows`` load points, by metric and slice.

    A metric that no row measured is not in ``errors``. ``left_out`` says which rows were not simulated and why,
    ``assumptions`` what the others do not say.
    """

    errors: Served
    rows: int
    left_out: tuple[str, ...]
    assumptions: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Errors as fractions: of every metric overall, and by slice in its ``slices``; None for one not measured."""
        metrics = {metric: _metric(self.errors.get(metric)) for metric in METRICS}
        notes = {"left_out": list(self.left_out), "assumptions": list(self.assumptions)}
        return {**metrics, "rows": self.rows, **notes}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """How far off a configuration is; all errors are fractions.

    ``steps`` has the errors of step times by slice: ``all``, ``phase:…``, ``model:…``, ``tp:…``, ``campaign:…``.
    ``steps`` and ``serving`` are None where there is nothing of the kind to predict; ``notes`` says what was left out.
    ``rows`` has one row a measured step (``kind`` is steps; ``measured_us``, ``predicted_us``), then one a load point
    and measured figure (serving; ``metric``, ``statistic``, ``measured_ms``, ``predicted_ms``), each with its labels.
    """

    gpu: str
    latency_model: str
    hardware_config: str
    steps: dict[str, Errors] | None
    serving: ServingEvaluation | None
    notes: tuple[str, ...]
    rows: pd.DataFrame

    @property
    def overall(self) -> dict[str, Errors]:
        """The errors over all rows: of ``steps``, ``ttft``, ``itl`` and ``e2e``, as far as they were measured."""
        served = self.serving.errors if self.serving else {}
        steps = {"steps": self.steps["all"]} if self.steps else {}
        return steps | {metric: slices["all"] for metric, slices in served.items()}

    def to_dict(self) -> dict[str, Any]:
        """What ``calibrate evaluate --json`` prints: everything but ``rows``."""
        return {
            "gpu": self.gpu,
            "latency_model": self.latency_model,
            "hardware_config": self.hardware_config,
            "steps": None
            if self.steps is None
            else {label: _plain(one) for label, one in self.steps.items()},
            "serving": None if self.serving is None else self.serving.to_dict(),
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        """The errors over all rows, a line each."""
        lines = [f"{name:<6} {_words(errors)}" for name, errors in self.overall.items()]
        return "\n".join(
            [f"Evaluation of {self.gpu}, {self.latency_model}, {self.hardware_config}", *lines]
        )


def evaluate(
    campaigns: CampaignsLike,
    hardware: HardwareLike,
    *,
    model: str = "roofline-v1",
    mfu_table: MfuTable | None = None,
    engine: str = "",
) -> Evaluation:
    """Predict the steps and serving results of campaigns with a configuration as it is, and say how far off it is.

    One campaign, several, or a frame of steps; a configuration, or the path of a file of them. Nothing is fitted.
    ``mfu_table`` is the database of a model that needs one. Where an ``engine`` is named, with or without its version,
    of serving results only those of it count; ``hardware`` has its terms.

    Bad rows of a campaign, overloaded load points and architectures that the model cannot compute are left out and
    named. Load points are simulated with requests drawn often enough that chance is small; the same input gives the
    same errors.
    Raises CalibrateError if no row is left, SimError for an unknown model, and HardwareError if the configuration
    lacks what the model needs.
    """
    hardware = as_hardware(hardware, gpu_of(campaigns))
    several = as_campaigns(campaigns, hardware)
    chosen = latency_model(model, mfu_table=mfu_table)
    steps = _score_steps(several, hardware, chosen)
    serving = _score_serving(several, hardware, chosen, engine)
    notes = [*_unused(several), *steps.notes]
    served = serving.evaluation.left_out if serving.evaluation else ()
    if not (len(steps.rows) or len(serving.rows)):
        raise CalibrateError(" ".join([_NOTHING, *notes, *served]))
    architectures = dict.fromkeys([*steps.architectures, *serving.architectures])
    limits = dict.fromkeys(
        text for architecture in architectures for text in chosen.remarks(architecture, hardware)
    )
    return Evaluation(
        gpu=hardware.gpu,
        latency_model=chosen.name,
        hardware_config=hardware.source,
        steps=steps.errors,
        serving=serving.evaluation,
        notes=(*notes, *limits, *map(str, check_peaks(hardware))),
        rows=_together({"steps": steps.rows, "serving": serving.rows}),
    )


_NOTHING = "no row to evaluate: the campaigns hold no good row of a steps or serving table that can be predicted."


@dataclasses.dataclass(frozen=True, eq=False)
class _Steps:
    """What became of the steps: errors, rows, what was left out, and of which architectures the rest is."""

    errors: dict[str, Errors] | None = None
    rows: pd.DataFrame = dataclasses.field(default_factory=pd.DataFrame)
    notes: Sequence[str] = ()
    architectures: Sequence[Architecture] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class _Serving:
    """What became of the serving results: errors, rows, and of which architectures they are."""

    evaluation: ServingEvaluation | None = None
    rows: pd.DataFrame = dataclasses.field(default_factory=pd.DataFrame)
    architectures: Sequence[Architecture] = ()


def _score_steps(campaigns: Sequence[Campaign], hardware: Hardware, model: LatencyModel) -> _Steps:
    if not any(len(campaign.steps) for campaign in campaigns):
        return _Steps()
    data, notes = computable_rows(model, build_dataset(campaigns))
    if not len(data):
        return _Steps(notes=notes)
    predicted_us = model.predict_us(data.table, hardware)
    rows = data.frame.drop(columns=_NOT_OF_A_ROW, errors="ignore").rename(
        columns={"latency_us": "measured_us"}
    )
    return _Steps(
        errors=errors_by_slice(predicted_us, data.frame),
        rows=rows.assign(predicted_us=predicted_us),
        notes=notes,
        architectures=data.table.architectures,
    )


def _score_serving(
    campaigns: Sequence[Campaign], hardware: Hardware, model: LatencyModel, engine: str
) -> _Serving:
    if not any(len(campaign.serving) for campaign in campaigns):
        return _Serving()
    points = usable_points(campaigns, hardware, model)
    if engine and len(points):
        points = of_engine(points, engine)
    if not len(points):
        return _Serving(ServingEvaluation({}, 0, points.left_out, ()))
    points = dataclasses.replace(
        points, frame=points.frame.replace({"engine": {"": _UNKNOWN_ENGINE}})
    )
    replay, _ = draw_enough(points, model, hardware)
    predicted_ms = replay.figures_ms(model, hardware)
    return _Serving(
        ServingEvaluation(
            errors=served_errors(predicted_ms, points, _KINDS),
            rows=len(points),
            left_out=points.left_out,
            assumptions=points.assumptions,
        ),
        rows=figures_table(points, {"predicted_ms": predicted_ms}),
        architectures=[point.arch for point in points.points],
    )


def _unused(campaigns: Iterable[Campaign]) -> list[str]:
    """How many rows of each table were bad, or made useless by others."""
    return [
        f"{campaign.name}: {file.dropped:,} of {file.rows:,} rows of {file.table} are not used; "
        "`calibrate validate` says why."
        for campaign in campaigns
        for file in campaign.files
        if file.table in _SCORED and file.dropped
    ]


def _together(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    kinds = [table.assign(kind=kind) for kind, table in tables.items() if len(table)]
    together = pd.concat(kinds, ignore_index=True)
    return together[["kind", *(name for name in together if name != "kind")]]


def _metric(slices: Mapping[str, Errors] | None) -> dict[str, Any] | None:
    if slices is None:
        return None
    plain = {label: _plain(errors) for label, errors in slices.items()}
    return {**plain.pop("all"), "slices": plain}


def _plain(errors: Errors) -> dict[str, float]:
    return {
        "n": errors.n,
        "mape": errors.mape,
        "median": errors.median_ape,
        "p90": errors.p90_ape,
        "bias": errors.bias,
    }


def _words(errors: Errors) -> str:
    return (
        f"mean error {errors.mape:.1%}, median {errors.median_ape:.1%}, 90th percentile {errors.p90_ape:.1%}, "
        f"bias {errors.bias:+.1%} ({errors.n:,} rows)"
    )
