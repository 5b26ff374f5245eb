"""Two runs, or two configurations, side by side: what moved, whether intervals overlap, and what got worse."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibrate.interval import Interval, overlap
from calibrate.objective import POINT
from calibrate.run_files import read_run
from sim.batch import Floats
from sim.hardware import load_hardware

_POINT = [name for name in POINT if name != "campaign"]
_SLICES = ("phase", "model", "tp")


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
class Comparison:
    """``a`` and ``b`` name the sides. ``slices`` is empty without points in common; ``own`` has each run's own errors.

    ``same_rows`` says whether both were fitted to the same measurements.
    """

    a: str
    b: str
    parameters: tuple[ParameterPair, ...]
    slices: tuple[SlicePair, ...]
    own: dict[str, tuple[float | None, float | None]]
    same_rows: bool

    def regressions(self, percent: float) -> list[str]:
        """In words, each slice whose mean error rose by more than so many points, or whose steps became so much slower.

        Without points in common, the runs' own errors count.
        """
        limit = percent / 100
        pairs = [(one.slice, one.error_a, one.error_b) for one in self.slices]
        pairs = pairs or [(name, a, b) for name, (a, b) in self.own.items() if a is not None and b is not None]
        worse = [f"{name}: mean error {a:.1%} → {b:.1%}" for name, a, b in pairs if b - a > limit]
        return worse + [f"{one.slice}: steps take {one.drift:+.1%}" for one in self.slices if one.drift > limit]

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain values."""
        return dataclasses.asdict(self)


def compare(a: Path, b: Path, gpu: str | None = None) -> Comparison:
    """Compare two runs' folders or two configuration files (or one of each).

    Points that both runs measured are matched by model, TP, weight type and batch; replicates by their mean. Raises
    CalibrateError or HardwareError if a side cannot be read.
    """
    (values_a, result_a, rows_a), (values_b, result_b, rows_b) = _load(a, gpu), _load(b, gpu)
    ends_a, ends_b = _intervals(result_a), _intervals(result_b)
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
    own = {name: (errors_a.get(name), errors_b.get(name)) for name in dict.fromkeys([*errors_a, *errors_b])}
    common = _common(rows_a, rows_b) if rows_a is not None and rows_b is not None else pd.DataFrame()
    hashes = [{file["sha256"] for file in result["data"]} if result else None for result in (result_a, result_b)]
    same = hashes[0] is not None and hashes[0] == hashes[1]
    return Comparison(str(a), str(b), parameters, tuple(_slices(common)), own, same)


def _load(path: Path, gpu: str | None) -> tuple[dict[str, float], dict[str, Any] | None, pd.DataFrame | None]:
    """Values by key, and of a run its result and predictions."""
    if not path.is_dir():
        return dict(load_hardware(path, gpu).values), None, None
    result, rows = read_run(path)
    return {p["name"]: p["value"] for p in result["parameters"]} | result["hardware"], result, rows


def _intervals(result: Mapping[str, Any] | None) -> dict[str, Interval]:
    return {p["name"]: tuple(p["ci90"]) for p in result["parameters"] if p["ci90"]} if result else {}


def _errors(result: Mapping[str, Any] | None) -> dict[str, float]:
    """Mean errors after the fit by slice, and held out."""
    if result is None:
        return {}
    errors = {label: entry["mape"] for label, entry in result["metrics"]["after"].items()}
    return errors | {f"held out {name}": one["all"]["mape"] for name, one in result["metrics"]["held_out"].items()}


def _common(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """The points of both, with measured and predicted times of A and B; replicates by their geometric mean."""
    means = [_points(rows) for rows in (a, b)]
    return means[0].add_suffix("_a").join(means[1].add_suffix("_b"), how="inner").reset_index()


def _points(rows: pd.DataFrame) -> pd.DataFrame:
    logs = rows.assign(measured_us=np.log(rows["measured_us"]), after_us=np.log(rows["after_us"]))
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
