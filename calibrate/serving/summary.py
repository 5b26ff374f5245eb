"""What a fit to serving results says: errors of TTFT, ITL and E2E, and in the guide's words what was tuned and why."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from calibrate.serving.fit import ServingSolution
from calibrate.serving.points import FIGURES, METRICS
from calibrate.trust.metrics import Errors, errors
from sim.models.registry import PARAMETERS
from sim.steps.batch import Floats

_KINDS = ("model", "tp", "engine")
_AS_MEASURED = 0.02  # a median within this share of the truth is neither fast nor slow
_NAMES = {"ttft": "time to first token", "itl": "time per output token", "e2e": "end-to-end time"}

Served = dict[str, dict[str, Errors]]
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

    ``held`` says why a parameter was not tuned, ``explanation`` what was, ``assumptions`` what the rows did not say.
    """

    points: int
    tuned: tuple[Tuned, ...]
    held: dict[str, str]
    before: Served
    after: Served
    held_out: dict[str, Served]
    explanation: tuple[str, ...]
    assumptions: tuple[str, ...]

    @property
    def unseen(self) -> Served:
        """Errors on a model that the fit has not seen, else on runs, else on its own rows."""
        return next(iter(self.held_out.values()), self.after)

    @property
    def is_worse(self) -> bool:
        """Whether the errors on what the fit has not seen, mean over metrics, are above those before."""
        return mean_error(self.unseen) > mean_error(self.before)


def mean_error(served: Served) -> float:
    """The mean of the mean errors of all metrics."""
    return float(np.mean([slices["all"].mape for slices in served.values()]))


def summarise(solution: ServingSolution) -> ServingSummary:
    """What a solution says."""
    frame, measured = solution.data.points.frame, solution.data.points.measured_ms
    tuned = tuple(_tuned(solution, name) for name in solution.values)
    return ServingSummary(
        points=len(frame),
        tuned=tuned,
        held={name: why for name, (_, why) in solution.choice.held.items()},
        before=_served(solution.before_ms, measured, frame),
        after=_served(solution.after_ms, measured, frame),
        held_out={name: _served(figures, measured, frame) for name, figures in solution.held_out_ms.items()},
        explanation=tuple(_explain(tuned, solution.before_ms, measured)),
        assumptions=solution.data.points.assumptions,
    )


def served_table(solution: ServingSolution) -> pd.DataFrame:
    """One row a load point and figure: its labels, and what was measured, predicted before, after and held out, ms."""
    points, known = solution.data.points, ~np.isnan(solution.data.points.measured_ms)
    rows, columns = np.nonzero(known)
    table = points.frame.iloc[rows].reset_index(drop=True)
    names = pd.DataFrame([FIGURES[column] for column in columns], columns=["metric", "statistic"])
    figures = {"measured_ms": points.measured_ms, "before_ms": solution.before_ms, "after_ms": solution.after_ms} | {
        f"held_out_{name}_ms": found for name, found in solution.held_out_ms.items()
    }
    values = pd.DataFrame({name: found[known] for name, found in figures.items()})
    return pd.concat([table, names, values, pd.Series(solution.data.weight[known], name="weight")], axis=1)


def _tuned(solution: ServingSolution, name: str) -> Tuned:
    value, half = solution.values[name], solution.joint.half_width.get(name)
    known = PARAMETERS[name]
    ends = None if half is None else (max(value - half, known.lower), min(value + half, known.upper))
    return Tuned(name, solution.start[name], value, known.unit, solution.joint.stderr.get(name), ends)


def _served(predicted: Floats, measured: Floats, frame: pd.DataFrame) -> Served:
    found: Served = {}
    for metric in METRICS:
        column = FIGURES.index((metric, "mean"))
        known = ~np.isnan(predicted[:, column]) & ~np.isnan(measured[:, column])
        if not known.any():
            continue
        slices = {"all": errors(predicted[known, column], measured[known, column])}
        for kind in _KINDS:
            labels = frame[kind].to_numpy()
            for label in sorted(set(labels[known].tolist())) if len(set(labels.tolist())) > 1 else ():
                rows = known & (labels == label)
                slices[f"{kind}:{label}"] = errors(predicted[rows, column], measured[rows, column])
        found[metric] = slices
    return found


def _explain(tuned: Sequence[Tuned], before: Floats, measured: Floats) -> list[str]:
    """The guide's last step in its own words: predictions too fast → reduce multipliers, too slow → increase them."""
    off = {metric: _bias(before, measured, metric) for metric in METRICS}
    said = [f"{_NAMES[metric]} {_speed(bias)}" for metric, bias in off.items() if bias is not None]
    return [f"With nothing tuned to serving, predictions were: {', '.join(said)} (medians).", *map(_moved, tuned)]


def _bias(predicted: Floats, measured: Floats, metric: str) -> float | None:
    column = FIGURES.index((metric, "mean"))
    ratios = predicted[:, column] / measured[:, column]
    known = ratios[~np.isnan(ratios)]
    return float(np.median(known)) - 1.0 if len(known) else None


def _speed(bias: float) -> str:
    if abs(bias) < _AS_MEASURED:
        return "as measured"
    return f"{abs(bias):.0%} too {'fast' if bias < 0 else 'slow'}"


def _moved(one: Tuned) -> str:
    """What the fit did with one parameter: factors above and below 1 in the guide's words, times as what was added."""
    known = PARAMETERS[one.name]
    if known.unit == "–":
        which = "too fast → reduce" if one.value < one.before else "too slow → increase"
        if abs(one.value / one.before - 1.0) < _AS_MEASURED:
            which = "as good as unchanged"
        return f"{one.name} {one.before:.3g} → {one.value:.3g} ({which}): {known.meaning}."
    change = one.value - one.before
    word = "added to" if change > 0 else "taken from"
    before, value, size = map(_number, (one.before, one.value, abs(change)))
    return f"{one.name} {before} → {value} {one.unit} ({size} {word} it): {known.meaning}."


def _number(value: float) -> str:
    """Four digits, never an exponent: these are times in µs."""
    return f"{value:.4g}" if value < 1e4 else f"{value:,.0f}"
