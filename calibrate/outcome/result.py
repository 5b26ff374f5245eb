"""What a fit says: the content of ``result.json`` and of ``predictions.csv``."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import pandas as pd
import pydantic

from calibrate.campaign.campaign import DataFile
from calibrate.fitting.outliers import Outlier
from calibrate.outcome.identifiability import Identifiability
from calibrate.outcome.result_json import from_plain, to_plain
from calibrate.outcome.thresholds import UNMOVED
from calibrate.outcome.verdict import Statement, Verdict
from calibrate.records.errors import CalibrateError
from calibrate.records.interval import BootstrapSummary, Interval, McmcSummary, ProfileCurve
from calibrate.serving.summary import ServingSummary
from calibrate.trust.explanation import Informant
from calibrate.trust.metrics import Errors, Slices, SomeSlices
from calibrate.trust.structure import LackOfFit, Structure

SCHEMA_VERSION = 2
_TABLES = ("predictions", "served")  # written beside result.json

Status = Literal["fitted", "held", "tied", "inert", "at-bound"]


@dataclasses.dataclass(frozen=True)
class PriorResult:
    """What a prior did: ``data`` ± ``data_sd`` is the estimate without it, ``pull`` its share of the precision.

    ``data`` is None where the rows alone do not tell.
    """

    source: str
    mean: float
    sd: float
    data: float | None
    data_sd: float | None
    pull: float | None


@dataclasses.dataclass(frozen=True)
class ParameterResult:
    """One parameter before (``start``) and after (``value``).

    ``ci90`` is None unless it was fitted inside its bounds on five runs or more, or is known from other
    GPUs; ``ci90_method`` says how it was made
    and ``intervals`` has those of every method. ``informed_by`` are the rows that determine it.
    """

    name: str
    value: float
    start: float
    unit: str
    lower: float
    upper: float
    guide: tuple[float, float]
    stderr: float | None
    ci90: Interval | None
    ci90_method: str | None
    intervals: dict[str, Interval]
    status: Status
    why: str
    informed_by: tuple[Informant, ...] = ()
    prior: PriorResult | None = None

    @property
    def is_outside_guide(self) -> bool:
        """Whether a fitted value lies outside the guide's range, its interval and all."""
        low, high = self.ci90 or (self.value, self.value)
        above = low is not None and low > self.guide[1]
        below = high is not None and high < self.guide[0]
        return self.status == "fitted" and (above or below)


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Goodness of fit under the names that lmfit gives them, of ``n_data`` rows that count and ``n_varys`` parameters.

    ``chi_square`` is the weighted sum of squared residuals ln(predicted/measured)/σ. AIC and BIC are
    n·ln(χ²/n) plus 2·k and plus k·ln(n): those of least squares, whatever the loss.
    """

    n_data: int
    n_varys: int
    chi_square: float
    reduced_chi_square: float | None
    aic: float | None
    bic: float | None


@dataclasses.dataclass(frozen=True)
class FitSummary:
    """How the minimisation went; ``costs`` are those of all starts, sorted.

    ``statistics`` has none where serving results alone were fitted. ``covariance`` is that of the fitted parameters
    inside their bounds, by name and name; empty where the data cannot tell.
    """

    status: Literal["converged", "stopped"]
    message: str
    cost: float
    n_rows: int
    n_free: int
    n_evaluations: int
    starts: int
    starts_at_best: int
    costs: tuple[float, ...]
    loss: str
    statistics: "Statistics | None" = None
    covariance: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Errors by slice before and after, and held out by kind of split, of the rows that count.

    ``every_row`` are the same with the rows that were set aside; None where none was.
    """

    before: Slices
    after: Slices
    held_out: dict[str, SomeSlices]
    every_row: "Metrics | None" = None

    def __post_init__(self) -> None:
        """Refuse errors after the fit without those before it, and the other way round."""
        if bool(self.before) != bool(self.after):
            raise ValueError("errors before and after the fit go together")

    @property
    def unseen(self) -> dict[str, Errors] | None:
        """Errors on runs the fit has not seen, in folds or run by run; None where there is one run only."""
        return self.held_out.get("folds", self.held_out.get("run"))


@dataclasses.dataclass(frozen=True)
class BandSummary:
    """The ``coverage`` of prediction bands by slice: the share of held-out rows inside."""

    level: float
    coverage: dict[str, float]


@dataclasses.dataclass(frozen=True)
class KernelResult:
    """A parameter as kernel tables have it, over ``n`` groups of kernels, beside the value of the fit to steps.

    ``from_`` (``from`` in files) says of which kernels; ``agrees`` is None where the steps do not determine it.
    """

    parameter: str
    value: float
    ci90: tuple[float, float] | None
    n: int
    from_: Annotated[str, pydantic.Field(alias="from")]
    steps_value: float
    agrees: bool | None


@dataclasses.dataclass(frozen=True)
class PreviousParameter:
    """A parameter's value and 90% interval as the run before this one had them."""

    value: float
    ci90: Interval | None


@dataclasses.dataclass(frozen=True)
class Previous:
    """What the run before this one, of the same GPU and model, said.

    The errors are means: of steps, None where it had none, and of unseen serving results by metric.
    """

    run: str
    created: str
    latency_model: str
    parameters: dict[str, PreviousParameter]
    mape_after: float | None
    mape_held_out: float | None
    serving: dict[str, float] | None = None


def has_moved(parameters: Sequence[ParameterResult]) -> bool:
    """Whether a fit changed any value: not if the start was a fit to this very data."""
    return any(
        abs(p.value - p.start) > UNMOVED * max(abs(p.start), abs(p.value)) for p in parameters
    )


def is_worse(metrics: Metrics, parameters: Sequence[ParameterResult]) -> bool:
    """Whether the held-out error of steps by run (the training error where there is none) is above the start's.

    Never for a fit that moved nothing: the start's error is then a training error, which flatters.
    """
    reference = metrics.unseen or metrics.after
    return has_moved(parameters) and reference["all"].mape > metrics.before["all"].mape


@dataclasses.dataclass(frozen=True)
class FitResult:
    """A finished fit. ``predictions`` has one row a measured step and is written to ``predictions.csv``.

    ``serving`` says what was tuned to serving results, ``served`` has their figures and is written to ``serving.csv``;
    ``engines`` says what each engine adds, fitted to a draw of its serving results beside the steps, and ``lent``
    what another GPU's servers said of engines that have none here.
    Where there are no steps ``metrics`` and ``predictions`` are empty, and serving alone made the fit.
    ``verdict`` is on the whole; ``verdicts`` are on more of the same data, on a model or TP not seen, and on servers.
    """

    gpu: str
    latency_model: str
    seed: int
    created: str
    duration_s: float
    command: str
    software: dict[str, str]
    peaks: Annotated[dict[str, float], pydantic.Field(alias="hardware")]
    data: tuple[DataFile, ...]
    parameters: tuple[ParameterResult, ...]
    fit: FitSummary
    metrics: Metrics
    identifiability: Identifiability
    lack_of_fit: LackOfFit | None
    structure: tuple[Structure, ...]
    outliers: tuple[Outlier, ...]
    profiles: dict[str, ProfileCurve]
    bootstrap: BootstrapSummary | None
    mcmc: McmcSummary | None
    bands: BandSummary | None
    verdict: Verdict
    warnings: tuple[str, ...]
    predictions: pydantic.InstanceOf[pd.DataFrame] = dataclasses.field(
        default_factory=pd.DataFrame, repr=False
    )
    kernels: tuple[KernelResult, ...] = ()
    serving: ServingSummary | None = None
    served: pydantic.InstanceOf[pd.DataFrame] | None = dataclasses.field(default=None, repr=False)
    previous: Previous | None = None
    config_diff: tuple[str, ...] = ()
    verdicts: tuple[Statement, ...] = ()
    engines: tuple[ServingSummary, ...] = ()
    lent: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)

    @property
    def values(self) -> dict[str, float]:
        """Every parameter's value after the fit, held ones included: the configuration to hand on."""
        return {p.name: p.value for p in self.parameters}

    @property
    def has_steps(self) -> bool:
        """Whether this was a fit to steps; else serving results alone made it."""
        return bool(self.metrics.after)

    @property
    def is_worse_than_start(self) -> bool:
        """See :func:`is_worse`; and of serving results, :attr:`ServingSummary.is_worse`."""
        steps = self.has_steps and is_worse(self.metrics, self.parameters)
        return steps or (self.serving is not None and self.serving.is_worse)

    def to_dict(self) -> dict[str, Any]:
        """The content of ``result.json``; numbers that are not finite become None."""
        names = [field.name for field in dataclasses.fields(FitResult) if field.name not in _TABLES]
        fields = {"hardware" if name == "peaks" else name: getattr(self, name) for name in names}
        return {"schema_version": SCHEMA_VERSION, **to_plain(fields)}

    @classmethod
    def from_dict(
        cls,
        content: object,
        predictions: pd.DataFrame | None = None,
        served: pd.DataFrame | None = None,
        where: str = "result",
    ) -> "FitResult":
        """The fit of which :meth:`to_dict` made this content, with the tables that are written beside it.

        A null where a number belongs reads as NaN. ``where`` names the content's source in errors. Raises
        CalibrateError for another schema version, a missing field, or a value of another type.
        """
        version = content.get("schema_version") if isinstance(content, Mapping) else None
        if version != SCHEMA_VERSION:
            what = f"schema_version = {version!r}: this is no result of schema version {SCHEMA_VERSION}"
            raise CalibrateError(
                f"{where}: {what}; run the fit again with this version of calibrate"
            )
        result = from_plain(cls, content, where)
        return dataclasses.replace(
            result,
            predictions=pd.DataFrame() if predictions is None else predictions,
            served=served,
        )
