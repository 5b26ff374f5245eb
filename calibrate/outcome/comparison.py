"""Two runs, or two configurations, side by side: what moved, whether intervals overlap, and what got worse."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibrate.fitting.labels import POINT
from calibrate.outcome.profiles import find_profile, is_profile
from calibrate.outcome.result import FitResult
from calibrate.outcome.run_files import read_run
from calibrate.records.interval import Interval, overlap
from calibrate.serving.points import METRICS
from calibrate.trust.metrics import Errors
from sim.configuration import load_hardware
from sim.steps.batch import Floats

_POINT = [name for name in POINT if name != "campaign"]
_UNSAID = {"ep": 1, "kv_dtype": ""}  # of a point, where a run's file leaves it empty or lacks it
_SLICES = ("phase", "model", "tp")

_NamedErrors = tuple[str, float | None, float | None]


@dataclasses.dataclass(frozen=True)
class ParameterPair:
    """A parameter, or another key, in both; ``overlap`` is None where an interval is missing."""

    name: str
    a: float | None
    b: float | None
    ci90_a: Interval | None
    ci90_b: Interval | None
    overlap: bool | None


@dataclasses.dataclass(frozen=True)
class SlicePair:
    """Mean errors of both on the same ``n`` points as B measured them; ``drift`` is B's measured time over A's, − 1."""

    slice: str
    n: int
    error_a: float
    error_b: float
    drift: float


@dataclasses.dataclass(frozen=True)
class ServingPair:
    """Mean errors of a serving ``metric`` (ttft, itl, e2e) over a slice, of the load points of each.

    ``fit`` says by which fit: ``after``, that on all, or ``held out model`` (run, folds), those that had not seen it.
    """

    metric: str
    slice: str
    fit: str
    n_a: int | None
    n_b: int | None
    error_a: float | None
    error_b: float | None

    @property
    def name(self) -> str:
        """Such as ``TTFT model:llama-3.1-8b`` or ``TTFT all, held out model``."""
        return f"{self.metric.upper()} {self.slice}" + (
            "" if self.fit == "after" else f", {self.fit}"
        )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """``a`` and ``b`` name the sides. ``slices`` is empty without points in common; ``own`` has each run's own errors.

    ``serving`` has those of serving results. ``same_rows`` says whether both were fitted to the same measurements, and
    ``same_serving`` whether to the same serving results.
    """

    a: str
    b: str
    parameters: tuple[ParameterPair, ...]
    slices: tuple[SlicePair, ...]
    own: dict[str, tuple[float | None, float | None]]
    serving: tuple[ServingPair, ...]
    same_rows: bool
    same_serving: bool

    @property
    def has_errors(self) -> bool:
        """Whether there is an error of both to compare."""
        return any(a is not None and b is not None for _, a, b in self._pairs())

    def regressions(self, percent: float) -> list[str]:
        """In words, each slice whose mean error rose by more than so many points, or whose steps became so much slower.

        Without points in common, the runs' own errors count.
        """
        limit = percent / 100
        known = [(name, a, b) for name, a, b in self._pairs() if a is not None and b is not None]
        worse = [f"{name}: mean error {a:.1%} → {b:.1%}" for name, a, b in known if b - a > limit]
        return worse + [
            f"{one.slice}: steps take {one.drift:+.1%}" for one in self.slices if one.drift > limit
        ]

    def _pairs(self) -> list[_NamedErrors]:
        """Every error of both, by name: those of steps, then those of serving."""
        steps: list[_NamedErrors] = [(one.slice, one.error_a, one.error_b) for one in self.slices]
        serving = [(one.name, one.error_a, one.error_b) for one in self.serving]
        own = [(name, a, b) for name, (a, b) in self.own.items()]
        return [*own, *serving] if not self.slices else [*steps, *serving]

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain values."""
        return dataclasses.asdict(self)


def compare(a: Path, b: Path, gpu: str | None = None) -> Comparison:
    """Compare two sides: each the folder of a run or of a profile, or a configuration file.

    Points that both runs measured are matched by model, TP, weight type and batch; replicates by their mean. Raises
    CalibrateError or HardwareError if a side cannot be read.
    """
    (values_a, ends_a, result_a), (values_b, ends_b, result_b) = _load(a, gpu), _load(b, gpu)
    parameters = tuple(
        ParameterPair(
            name,
            values_a.get(name),
            values_b.get(name),
            ends_a.get(name),
            ends_b.get(name),
            overlap(ends_a.get(name), ends_b.get(name)),
        )
        for name in dict.fromkeys([*values_a, *values_b])
    )
    errors_a, errors_b = _errors(result_a), _errors(result_b)
    own = {
        name: (errors_a.get(name), errors_b.get(name))
        for name in dict.fromkeys([*errors_a, *errors_b])
    }
    common = _common(result_a, result_b)
    serving = tuple(_serving(result_a, result_b))
    same, same_serving = (_same_files(result_a, result_b, table) for table in (None, "serving"))
    return Comparison(
        str(a), str(b), parameters, tuple(_slices(common)), own, serving, same, same_serving
    )


def _same_files(a: FitResult | None, b: FitResult | None, table: str | None) -> bool:
    """Whether both were fitted to the same files, all of them or those of one kind of table."""
    if a is None or b is None:
        return False
    hashes = [{file.sha256 for file in run.data if table in (None, file.table)} for run in (a, b)]
    return hashes[0] == hashes[1]


_Side = tuple[dict[str, float], dict[str, Interval], FitResult | None]


def _load(path: Path, gpu: str | None) -> _Side:
    """Values and intervals by key, and of a run its result."""
    if not path.is_dir():
        return dict(load_hardware(path, gpu).values), {}, None
    if is_profile(path):
        found = find_profile(path)
        ends = {one.name: one.ci90 for one in found.profile.parameters if one.ci90}
        return dict(load_hardware(found.configuration, gpu).values), ends, None
    result = read_run(path)
    ends = {one.name: one.ci90 for one in result.parameters if one.ci90}
    return result.values | result.peaks, ends, result


def _errors(result: FitResult | None) -> dict[str, float | None]:
    """Mean errors after the fit by slice, and held out."""
    if result is None:
        return {}
    errors = {label: _mape(entry) for label, entry in result.metrics.after.items()}
    return errors | {
        f"held out {name}": _mape(slices["all"]) for name, slices in result.metrics.held_out.items()
    }


def _mape(errors: Errors | None) -> float | None:
    """The mean error; None where it is not known."""
    return errors.mape if errors is not None and math.isfinite(errors.mape) else None


def _serving(a: FitResult | None, b: FitResult | None) -> list[ServingPair]:
    """Errors of serving of each run's own load points: after the fit by slice, and held out over all."""
    errors_a, errors_b = _served(a), _served(b)
    pairs = []
    for key in sorted(dict.fromkeys([*errors_a, *errors_b]), key=_in_order):
        one, other = errors_a.get(key), errors_b.get(key)
        n_a, n_b = (errors.n if errors else None for errors in (one, other))
        pairs.append(ServingPair(*key, n_a, n_b, _mape(one), _mape(other)))
    return pairs


def _served(result: FitResult | None) -> dict[tuple[str, str, str], Errors]:
    """Errors of serving by metric, slice and fit, as :class:`ServingPair` names them."""
    serving = result.serving if result else None
    if serving is None:
        return {}
    after = {
        (metric, name, "after"): one
        for metric, slices in serving.after.items()
        for name, one in slices.items()
    }
    return after | {
        (metric, "all", f"held out {split}"): slices["all"]
        for split, served in serving.held_out.items()
        for metric, slices in served.items()
    }


def _in_order(key: tuple[str, str, str]) -> tuple[int, bool]:
    """By metric, what is over all load points first."""
    metric, name, _ = key
    return METRICS.index(metric), name != "all"


def _common(a: FitResult | None, b: FitResult | None) -> pd.DataFrame:
    """The points of both, with measured and predicted times of A and B; replicates by their geometric mean."""
    if a is None or b is None or a.predictions.empty or b.predictions.empty:
        return pd.DataFrame()
    means = [_points(run.predictions) for run in (a, b)]
    return means[0].add_suffix("_a").join(means[1].add_suffix("_b"), how="inner").reset_index()


def _points(rows: pd.DataFrame) -> pd.DataFrame:
    served = rows.reindex(columns=list(_UNSAID)).astype(object)
    logs = rows.assign(
        measured_us=np.log(rows["measured_us"]),
        after_us=np.log(rows["after_us"]),
        **{
            name: served[name].where(served[name].notna(), usual) for name, usual in _UNSAID.items()
        },
    )
    means = logs.groupby(_POINT)[["measured_us", "after_us"]].mean()
    return means.apply(np.exp)


def _slices(common: pd.DataFrame) -> list[SlicePair]:
    if common.empty:
        return []
    measured = common["measured_us_b"].to_numpy()
    frame = common.assign(
        error_a=np.abs(common["after_us_a"].to_numpy() / measured - 1),
        error_b=np.abs(common["after_us_b"].to_numpy() / measured - 1),
        log_drift=np.log(measured / common["measured_us_a"].to_numpy()),
    )
    parts = {"all": frame}
    for column in _SLICES:
        parts |= {f"{column}:{value}": part for value, part in frame.groupby(column)}
    return [
        SlicePair(
            name,
            len(part),
            float(part["error_a"].mean()),
            float(part["error_b"].mean()),
            _geometric(part["log_drift"].to_numpy()),
        )
        for name, part in parts.items()
    ]


def _geometric(logs: Floats) -> float:
    return float(np.expm1(logs.mean()))
