"""What is left in the residuals: whether the model misses points by more than replicates spread, and along what."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from calibrate.fitting.labels import POINT
from calibrate.fitting.objective import Dataset
from calibrate.trust.crossval import independent_groups
from calibrate.trust.thresholds import (
    BEYOND_PARENT,
    FEWEST_REPLICATES,
    FEWEST_ROWS,
    FEWEST_VALUES,
    MATERIAL,
    MOST_TRENDS,
    RIGHT,
    SIGNIFICANT,
)
from sim.models.latency_model import LatencyModel
from sim.steps.batch import Floats

_ALONG = {
    "prefill": (("new_tokens", "tokens"), ("batch", "batch"), ("tp", "tp")),
    "decode": (("batch", "batch"), ("context_tokens", "context"), ("tp", "tp")),
    "mixed": (("new_tokens", "tokens"), ("batch", "batch"), ("tp", "tp")),
}
_GROWS_WITH_BYTES = ("new_tokens", "batch")


@dataclasses.dataclass(frozen=True)
class LackOfFit:
    """The F-test of the residuals' spread over points against that of replicates in different runs within points.

    ``f`` has ``dof_model`` and ``dof_replicates`` degrees of freedom; spreads are standard deviations of ln t.
    """

    f: float
    p: float
    dof_model: int
    dof_replicates: int
    spread_model: float
    spread_replicates: float
    text: str


@dataclasses.dataclass(frozen=True)
class Structure:
    """A trend of ln(predicted/measured): ``slope`` per doubling of ``along``, within ``where`` (all rows if empty)."""

    phase: str
    where: str
    along: str
    slope: float
    p: float
    text: str


def lack_of_fit(
    model: LatencyModel, data: Dataset, after_us: Floats, n_free: int
) -> LackOfFit | None:
    """Test whether the model fits the points as well as replicates in different runs agree; None without.

    The F-test of a regression against pure error (Draper and Smith, Applied Regression Analysis, section 2.1), on log
    residuals; rows that were set aside are left out. Replicates of one run share whatever that run had, so that each
    run gives one mean a point. Points share runs too: no more degrees of freedom are taken than runs give.
    """
    kept = data.take(~data.set_aside)
    residual = np.log(after_us / data.measured_us)[~data.set_aside]
    point = kept.frame.groupby(POINT, sort=False, dropna=False).ngroup()
    labelled = pd.DataFrame({"point": point, "run": kept.frame["run"], "residual": residual})
    by_run = labelled.groupby(["point", "run"], sort=False)["residual"].mean()
    points = by_run.groupby("point", sort=False)
    means, sizes = points.mean(), points.size()

    runs = kept.frame["run"].nunique()
    dof_replicates = runs - len(np.unique(independent_groups(kept)))
    dof_model = min(len(means), runs) - n_free
    pure = float(((by_run - points.transform("mean")) ** 2).sum())
    if dof_replicates < FEWEST_REPLICATES or dof_model < 1 or pure <= 0:
        return None
    spread_model = float((sizes * means**2).sum() / (len(means) - n_free)) ** 0.5
    spread_replicates = (pure / (len(by_run) - len(means))) ** 0.5
    f = (spread_model / spread_replicates) ** 2
    p = float(stats.f.sf(f, dof_model, dof_replicates))
    return LackOfFit(
        f=f,
        p=p,
        dof_model=dof_model,
        dof_replicates=dof_replicates,
        spread_model=spread_model,
        spread_replicates=spread_replicates,
        text=_verdict(model.name, p, float(means.abs().mean()), spread_replicates),
    )


def _verdict(name: str, p: float, missed: float, spread: float) -> str:
    if p >= SIGNIFICANT:
        return f"{name} fits the points as well as replicates in different runs agree ({spread:.1%}; p = {p:.2g})."
    return (
        f"The model, not the data, is at fault: replicates in different runs agree to {spread:.1%}, {name} misses "
        f"their means by {missed:.1%} (F-test, {_probability(p)}). Measuring more will not help; another model may."
    )


def _probability(p: float) -> str:
    return "p < 1e-6" if p < 1e-6 else f"p = {p:.1g}"


def residual_structure(model: LatencyModel, data: Dataset, after_us: Floats) -> list[Structure]:
    """Trends of the residuals with tokens, batch, context and TP, over all rows of a phase and within a TP or model.

    A slope is tested with whole runs as the observations, at 1% over all that were tested (Holm), and must make 10%
    from the smallest to the largest rows. The strongest come first.
    """
    tested = [trend for phase in _ALONG for trend in _trends(model, data, after_us, phase)]
    order = sorted(range(len(tested)), key=lambda i: tested[i][0].p)
    kept = []
    for rank, index in enumerate(order):
        trend, effect = tested[index]
        if trend.p * (len(tested) - rank) > SIGNIFICANT:
            break
        kept.append((trend, effect))
    overall = {(t.phase, t.along): effect for t, effect in kept if not t.where}
    said = [
        (trend, effect)
        for trend, effect in kept
        if abs(effect) >= MATERIAL
        and not (
            trend.where
            and abs(effect) < BEYOND_PARENT * abs(overall.get((trend.phase, trend.along), 0.0))
        )
    ]
    said.sort(key=lambda item: -abs(item[1]))
    return [trend for trend, _ in said[:MOST_TRENDS]]


def _trends(
    model: LatencyModel, data: Dataset, after_us: Floats, phase: str
) -> Iterator[tuple[Structure, float]]:
    """Every trend that the rows of a phase can show, each with its effect from end to end."""
    rows = data.frame.assign(residual=np.log(after_us / data.measured_us))
    rows = rows[(rows["phase"] == phase) & ~data.set_aside]
    for column, word in _ALONG[phase]:
        yield from _trend(model, rows, phase, "", column, word)
        for group in ("tp", "model"):
            if group != column and rows[group].nunique() > 1:
                for value, part in rows.groupby(group):
                    yield from _trend(
                        model,
                        part,
                        phase,
                        f"{group} {value}" if group == "tp" else str(value),
                        column,
                        word,
                    )


def _trend(
    model: LatencyModel, rows: pd.DataFrame, phase: str, where: str, column: str, word: str
) -> Iterator[tuple[Structure, float]]:
    fewest = 2 if column == "tp" else FEWEST_VALUES
    if len(rows) < FEWEST_ROWS or rows[column].nunique() < fewest:
        return
    x = np.log2(np.maximum(rows[column].to_numpy(dtype=np.float64), 1.0))
    y = rows["residual"].to_numpy()
    slope, p = _slope(x, y, rows["run"].to_numpy())
    low, high = np.quantile(x, [0.05, 0.95])
    ends = float(y[x <= np.quantile(x, 0.25)].mean()), float(y[x >= np.quantile(x, 0.75)].mean())
    at = f" at {where}" if where.startswith("tp") else f" of {where}" if where else ""
    text = (
        f"{phase} steps{at} are predicted {_off(ends[0])} at the smallest {word} and {_off(ends[1])} at the largest "
        f"({_probability(p)}){_reason(model, where, column, slope)}"
    )
    yield (
        Structure(phase, where, word, round(slope, 5), p, text[0].upper() + text[1:] + "."),
        slope * (high - low),
    )


def _slope(x: Floats, y: Floats, run: NDArray[np.object_]) -> tuple[float, float]:
    """Least-squares slope and its two-sided p, from a covariance over runs (Liang and Zeger 1986)."""
    centred = x - x.mean()
    size = float((centred**2).sum())
    slope = float((centred * y).sum() / size)
    scores = centred * (y - y.mean() - slope * centred)
    by_run = pd.Series(scores).groupby(run, sort=False).sum().to_numpy()
    runs = len(by_run)
    if runs < 3:
        return slope, 1.0
    error = float(np.sqrt((by_run**2).sum() * runs / (runs - 1))) / size
    return slope, float(2 * stats.t.sf(abs(slope) / max(error, 1e-300), runs - 1))


def _off(residual: float) -> str:
    error = np.expm1(residual)
    if abs(error) < RIGHT:
        return "right"
    return f"{abs(error):.0%} too {'slow' if error > 0 else 'fast'}"


def _reason(model: LatencyModel, where: str, column: str, slope: float) -> str:
    """The term that is known to be missing, where the trend is that term's."""
    if not (
        model.flat_all_reduce
        and where.startswith("tp")
        and where != "tp 1"
        and column in _GROWS_WITH_BYTES
    ):
        return ""
    if slope > 0:
        return ""
    return f": all-reduce takes the same time for any number of bytes in {model.name}; roofline-v3 has the missing term"
