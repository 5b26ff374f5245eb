"""What a fit to serving results says: errors of TTFT, ITL and E2E, and in the guide's words what was tuned and why."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
import pandas as pd
import pydantic
from pydantic_core import PydanticCustomError

from calibrate.parameters.own import facts
from calibrate.serving.fit import ServingSolution
from calibrate.serving.points import FIGURES, METRICS, ServingPoints
from calibrate.serving.thresholds import AS_MEASURED, SKEWED
from calibrate.trust.metrics import SomeSlices, errors_by_label
from sim.steps.batch import Floats

_KINDS = ("model", "tp", "engine")
_NAMES = {"ttft": "time to first token", "itl": "time per output token", "e2e": "end-to-end time"}


def _known(served: dict[str, SomeSlices]) -> dict[str, SomeSlices]:
    """The errors themselves. Raises PydanticCustomError for those of no metric of serving."""
    odd = next((metric for metric in served if metric not in METRICS), None)
    if odd is not None:
        raise PydanticCustomError("no_metric", f"{odd[:60]!r} is none of {', '.join(METRICS)}")
    return served


Served = Annotated[dict[str, SomeSlices], pydantic.AfterValidator(_known)]
"""Errors of the mean figures by metric (ttft, itl, e2e), then by ``all``, ``model:…``, ``tp:…``, ``engine:…``."""


@dataclasses.dataclass(frozen=True)
class Tuned:
    """A parameter that serving results moved from ``before`` (as the steps, or else the configuration, have it)."""

    name: str
    before: float
    value: float
    unit: str
    stderr: float | None
    ci90: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class ServingSummary:
    """A fit to ``points`` load points. ``before`` is with nothing fitted to serving; ``held_out`` by kind of split.

    ``medians`` has the same errors of medians instead of means, by ``before``, ``after`` and kind of split. ``engine``
    is that of all points, empty where they are of several or do not say.

    ``held`` says why a parameter was not tuned, ``explanation`` what was, ``assumptions`` what the rows did not say.
    Where the points were drawn, ``rows`` is the number of those they are of; ``times`` of the engine were not tuned.
    ``closed``: no point has an open load.
    ``covariance`` is that of the tuned values, by name; empty where the points cannot tell. ``models`` were served.
    """

    points: int
    tuned: tuple[Tuned, ...]
    held: dict[str, str]
    before: Annotated[Served, pydantic.Field(min_length=1)]
    after: Annotated[Served, pydantic.Field(min_length=1)]
    held_out: dict[str, Annotated[Served, pydantic.Field(min_length=1)]]
    explanation: tuple[str, ...]
    assumptions: tuple[str, ...]
    medians: dict[str, Served] = dataclasses.field(default_factory=dict)
    engine: str = ""
    rows: int = 0
    times: dict[str, float] = dataclasses.field(default_factory=dict)
    closed: bool = False
    covariance: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    models: tuple[str, ...] = ()

    @property
    def unseen(self) -> Served:
        """Errors on a model that the fit has not seen, else a TP, a campaign or runs, else on its own rows."""
        return next(iter(self.held_out.values()), self.after)

    @property
    def terms(self) -> dict[str, float]:
        """What the engine adds, tuned or not."""
        return {**self.times, **{one.name: one.value for one in self.tuned}}

    @property
    def is_worse(self) -> bool:
        """Whether the errors on what the fit has not seen, mean over metrics, are above those before."""
        return mean_error(self.unseen) > mean_error(self.before)


def mean_error(served: Served) -> float:
    """The mean of the mean errors of all metrics."""
    return float(np.mean([slices["all"].mape for slices in served.values()]))


def summarise(solution: ServingSolution) -> ServingSummary:
    """What a solution says."""
    points = solution.data.points
    kinds = [kind for kind in _KINDS if points.frame[kind].nunique() > 1]
    errors_of = functools.partial(served_errors, points=points, kinds=kinds)
    treatments = {"before": solution.before_ms, "after": solution.after_ms, **solution.held_out_ms}
    medians = {name: errors_of(figures, statistic="p50") for name, figures in treatments.items()}
    tuned = tuple(_tuned(solution, name) for name in solution.values)
    return ServingSummary(
        points=len(points),
        tuned=tuned,
        held={name: why for name, (_, why) in solution.choice.held.items()},
        before=errors_of(solution.before_ms),
        after=errors_of(solution.after_ms),
        held_out={name: errors_of(figures) for name, figures in solution.held_out_ms.items()},
        explanation=tuple(_explain(tuned, solution.before_ms, points.measured_ms)),
        assumptions=(*points.left_out, *points.assumptions, *_skewed(points)),
        medians={name: served for name, served in medians.items() if served},
        engine=_only_engine(points),
        covariance=solution.joint.by_name(),
        models=tuple(sorted({point.arch.name for point in points.points})),
    )


def _only_engine(points: ServingPoints) -> str:
    names = set(points.frame["engine"])
    return str(names.pop()) if len(names) == 1 else ""


def _skewed(points: ServingPoints) -> list[str]:
    count = int(points.skewed.any(axis=1).sum())
    if not count:
        return []
    return [
        f"{count} of {len(points)} serving rows have a 99th percentile of TTFT above {SKEWED:g} times the median: few "
        "requests, while the engine warmed up or was full, made the mean. Their medians are fitted, not their means."
    ]


def served_table(solution: ServingSolution) -> pd.DataFrame:
    """One row a load point and figure: its labels, and what was measured, predicted before, after and held out, ms."""
    figures = {"before_ms": solution.before_ms, "after_ms": solution.after_ms}
    held_out = {
        f"held_out_{name}_ms": predicted for name, predicted in solution.held_out_ms.items()
    }
    return figures_table(
        solution.data.points, {**figures, **held_out, "weight": solution.data.weight}
    )


def figures_table(points: ServingPoints, columns: Mapping[str, Floats]) -> pd.DataFrame:
    """One row a load point and measured figure: its labels, metric, statistic, ``measured_ms``, then ``columns``.

    Each of ``columns`` has the shape of the measured figures, (n, 12).
    """
    known = ~np.isnan(points.measured_ms)
    rows, figures = np.nonzero(known)
    table = points.frame.iloc[rows].reset_index(drop=True)
    names = pd.DataFrame([FIGURES[figure] for figure in figures], columns=["metric", "statistic"])
    values = {
        name: column[known]
        for name, column in {"measured_ms": points.measured_ms, **columns}.items()
    }
    return pd.concat([table, names, pd.DataFrame(values)], axis=1)


def served_errors(
    predicted_ms: Floats, points: ServingPoints, kinds: Sequence[str], statistic: str = "mean"
) -> Served:
    """Errors of the mean figures, predicted of shape (n, 12), by metric and by the labels of points in ``kinds``.

    A metric of which no row has both figures is not in it.
    """
    served: Served = {}
    for metric in METRICS:
        column = FIGURES.index((metric, statistic))
        slices = errors_by_label(
            predicted_ms[:, column], points.measured_ms[:, column], points.frame, kinds
        )
        if slices:
            served[metric] = slices
    return served


def _tuned(solution: ServingSolution, name: str) -> Tuned:
    value = solution.values[name]
    half = solution.joint.half_width.get(name)
    known = facts(name)
    ends = (
        None if half is None else (max(value - half, known.lower), min(value + half, known.upper))
    )
    return Tuned(
        name, solution.start[name], value, known.unit, solution.joint.stderr.get(name), ends
    )


def _explain(tuned: Sequence[Tuned], before: Floats, measured: Floats) -> list[str]:
    """The guide's last step in its own words: predictions too fast → reduce multipliers, too slow → increase them."""
    off = {metric: _bias(before, measured, metric) for metric in METRICS}
    said = [f"{_NAMES[metric]} {_speed(bias)}" for metric, bias in off.items() if bias is not None]
    return [
        f"With nothing tuned to serving, predictions were: {', '.join(said)} (medians).",
        *map(_moved, tuned),
    ]


def _bias(predicted: Floats, measured: Floats, metric: str) -> float | None:
    column = FIGURES.index((metric, "mean"))
    ratios = predicted[:, column] / measured[:, column]
    known = ratios[~np.isnan(ratios)]
    return float(np.median(known)) - 1.0 if len(known) else None


def _speed(bias: float) -> str:
    if abs(bias) < AS_MEASURED:
        return "as measured"
    return f"{abs(bias):.0%} too {'fast' if bias < 0 else 'slow'}"


def _moved(one: Tuned) -> str:
    """What the fit did with one parameter: factors above and below 1 in the guide's words, times as what was added."""
    known = facts(one.name)
    if known.unit == "–":
        which = "too fast → reduce" if one.value < one.before else "too slow → increase"
        if abs(one.value / one.before - 1.0) < AS_MEASURED:
            which = "as good as unchanged"
        return f"{one.name} {one.before:.3g} → {one.value:.3g} ({which}): {known.meaning}."
    change = one.value - one.before
    word = "added to" if change > 0 else "taken from"
    before, value, size = map(_number, (one.before, one.value, abs(change)))
    return f"{one.name} {before} → {value} {one.unit} ({size} {word} it): {known.meaning}."


def _number(value: float) -> str:
    """Four digits, never an exponent: these are times in µs."""
    return f"{value:.4g}" if value < 1e4 else f"{value:,.0f}"
