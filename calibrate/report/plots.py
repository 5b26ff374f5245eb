"""The plots of a run: one function each, drawn from result.json and predictions.csv alone."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

from calibrate.report.style import AFTER, BEFORE, HELD_OUT, PHASE_COLOURS, QUIET, figure, house_style, percent_axis

_MOST_POINTS = 4000
_BAND = 0.10
_CLIP = 0.5


@dataclasses.dataclass(frozen=True)
class Plot:
    """A drawn plot: ``name`` is the stem of its two files, ``caption`` says how to read it."""

    name: str
    title: str
    caption: str


def draw_plots(result: Mapping[str, Any], predictions: pd.DataFrame, folder: Path) -> list[Plot]:
    """Draw every plot as ``folder/<name>.png`` and ``.svg``. Points above 4,000 are thinned to a fixed sample."""
    shown = predictions
    if len(predictions) > _MOST_POINTS:
        shown = predictions.sample(_MOST_POINTS, random_state=0).sort_index()
    with house_style():
        for plot, draw in _PLOTS:
            drawn = draw(result, predictions if plot.name in _WANT_ALL_ROWS else shown)
            drawn.savefig(folder / f"{plot.name}.png")
            drawn.savefig(folder / f"{plot.name}.svg", metadata={"Date": None})
    return [plot for plot, _ in _PLOTS]


def _phases(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for phase, colour in PHASE_COLOURS.items():
        part = rows[rows["phase"] == phase]
        if len(part):
            yield phase, colour, part


def _relative(rows: pd.DataFrame, column: str = "after_us") -> pd.Series:
    return rows[column] / rows["measured_us"] - 1


def _predicted_measured(_: Mapping[str, Any], rows: pd.DataFrame) -> Figure:
    made, (axes,) = figure(6.2, 5.4)
    measured = rows["measured_us"] / 1e3
    axes.scatter(measured, rows["before_us"] / 1e3, s=7, color=BEFORE, alpha=0.35, linewidths=0, label="before")
    for phase, colour, part in _phases(rows):
        axes.scatter(part["measured_us"] / 1e3, part["after_us"] / 1e3, s=9, color=colour, alpha=0.7, linewidths=0, label=phase)
    ends = np.array([measured.min() / 1.3, measured.max() * 1.3])
    axes.plot(ends, ends, color="black", linewidth=0.8)
    axes.fill_between(ends, ends * (1 - _BAND), ends * (1 + _BAND), color="black", alpha=0.08, linewidth=0, label="±10%")
    axes.set(xscale="log", yscale="log", xlim=ends, xlabel="measured step time (ms)", ylabel="predicted step time (ms)")
    axes.legend(loc="upper left", markerscale=2)
    return made


def _residuals(_: Mapping[str, Any], rows: pd.DataFrame) -> Figure:
    made, panels = figure(9.6, 6.2, 2, 2)
    jitter = np.random.default_rng(0).uniform(0.93, 1.07, len(rows))
    for axes, (column, label) in zip(
        panels,
        (
            ("new_tokens", "new tokens in the step"),
            ("batch", "requests in the step"),
            ("context_tokens", "cached tokens a request"),
            ("tp", "tensor-parallel degree"),
        ),
        strict=True,
    ):
        x = rows[column] * jitter if column == "tp" else rows[column]
        _residual_panel(axes, rows.assign(x=x), label)
        if column == "tp":
            degrees = sorted(rows["tp"].unique())
            axes.set_xticks(degrees, [str(tp) for tp in degrees])
            axes.minorticks_off()
    panels[0].legend(loc="upper right", markerscale=2, ncols=3)
    return made


def _residual_panel(axes: Axes, rows: pd.DataFrame, label: str) -> None:
    axes.axhspan(-_BAND, _BAND, color="black", alpha=0.06, linewidth=0)
    axes.axhline(0, color="black", linewidth=0.8)
    for phase, colour, part in _phases(rows[rows["x"] > 0]):
        y = _relative(part).clip(-_CLIP, _CLIP)
        axes.scatter(part["x"], y, s=8, color=colour, alpha=0.6, linewidths=0, label=phase)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    axes.set(ylim=(-_CLIP * 1.05, _CLIP * 1.05), xlabel=label, ylabel="predicted / measured − 1")
    percent_axis(axes.yaxis)


def _distribution(_: Mapping[str, Any], rows: pd.DataFrame) -> Figure:
    made, (left, right) = figure(9.6, 3.8, 1, 2)
    before = np.log(rows["before_us"] / rows["measured_us"]).to_numpy()
    after = rows["residual"].to_numpy()
    edge = max(0.1, float(np.quantile(np.abs(np.concatenate([before, after])), 0.99)))
    bins = np.linspace(-edge, edge, 41).tolist()
    left.hist(np.clip(before, -edge, edge), bins=bins, color=BEFORE, alpha=0.6, label="before")
    left.hist(np.clip(after, -edge, edge), bins=bins, color=AFTER, alpha=0.7, label="after")
    left.axvline(0, color="black", linewidth=0.8)
    left.set(title="Histogram", xlabel="ln(predicted / measured)", ylabel="rows")
    left.legend()
    ordered = np.sort(after)
    normal = norm.ppf((np.arange(len(ordered)) + 0.5) / len(ordered))
    right.plot(normal, normal * after.std() + after.mean(), color="black", linewidth=0.8, label="normal of the same spread")
    right.scatter(normal, ordered, s=7, color=AFTER, linewidths=0, label="after")
    right.set(title="Q-Q", xlabel="standard normal quantile", ylabel="residual quantile")
    right.legend(loc="upper left")
    return made


def _error_cdf(_: Mapping[str, Any], rows: pd.DataFrame) -> Figure:
    made, (axes,) = figure(6.6, 4.2)
    columns = (("before_us", "before", BEFORE), ("held_out_us", "held out", HELD_OUT), ("after_us", "after", AFTER))
    for column, label, colour in columns:
        error = _relative(rows, column).abs().dropna().clip(lower=1e-4).sort_values().to_numpy()
        if not len(error):
            continue
        axes.plot(error, np.arange(1, len(error) + 1) / len(error), color=colour, linewidth=1.8, label=label)
        axes.plot(np.median(error), 0.5, "o", color=colour, markersize=5)
    axes.axvline(_BAND, color=QUIET, linewidth=0.8, linestyle=":")
    axes.set(xscale="log", ylim=(0, 1), xlabel="absolute relative error (median marked)", ylabel="share of rows")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}" if value < 1e-4 else f"{value:.2%}" if value < 0.01 else f"{value:.0%}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.legend(loc="lower right")
    return made


def _error_by_slice(result: Mapping[str, Any], _: pd.DataFrame) -> Figure:
    metrics = result["metrics"]
    labels = list(metrics["after"])[:24]
    made, (axes,) = figure(7.6, 0.9 + 0.3 * len(labels))
    made.subplots_adjust(left=0.3)
    places = np.arange(len(labels))[::-1]
    held = metrics["held_out"].get("folds", {})
    for place, label in zip(places, labels, strict=True):
        before, after = metrics["before"][label]["mape"], metrics["after"][label]["mape"]
        axes.plot([before, after], [place, place], color="#CCCCCC", linewidth=2, zorder=1)
        axes.plot(before, place, "o", color=BEFORE, markersize=6)
        if label in held:
            axes.plot(held[label]["mape"], place, "D", color=HELD_OUT, markersize=5)
        axes.plot(after, place, "o", color=AFTER, markersize=6)
    for label, marker, colour in (("before", "o", BEFORE), ("after", "o", AFTER), ("held out", "D", HELD_OUT)):
        axes.plot([], [], marker, color=colour, label=label)
    axes.set_yticks(places, [label.replace(":", " ", 1)[:36] for label in labels])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set(xlabel="mean absolute relative error", xlim=(0, None))
    axes.legend(loc="lower right", ncols=3, bbox_to_anchor=(1, 1))
    return made


def _roofline(result: Mapping[str, Any], rows: pd.DataFrame) -> Figure:
    made, (axes,) = figure(7.2, 4.8)
    peak, bandwidth = result["hardware"]["TFlopsPeak"], result["hardware"]["BwPeakTBs"]
    fitted = {p["name"]: p["value"] for p in result["parameters"]}
    intensity = rows["flops"] / rows["bytes"]
    achieved = rows["flops"] / rows["measured_us"] / 1e6 / rows["tp"]
    x = np.geomspace(intensity.min() / 2, max(intensity.max() * 2, peak / bandwidth * 3), 200)
    axes.plot(x, np.minimum(peak, bandwidth * x), color="black", linewidth=1.2, label=f"peaks: {peak:g} TFLOP/s, {bandwidth:g} TB/s")
    compute, memory = peak * fitted.get("mfuPrefill", 1), bandwidth * fitted.get("BwEffConstant", 1)
    axes.plot(x, np.minimum(compute, memory * x), color="black", linewidth=1, linestyle="--", label="fitted BwEffConstant, mfuPrefill")
    for phase, colour, part in _phases(rows):
        axes.scatter(intensity[part.index], achieved[part.index], s=9, color=colour, alpha=0.6, linewidths=0, label=phase)
    axes.set(xscale="log", yscale="log", ylim=(achieved.min() / 2, peak * 2))
    axes.set(xlabel="arithmetic intensity (FLOP/byte)", ylabel="achieved TFLOP/s per GPU")
    axes.legend(loc="lower right", markerscale=2)
    return made


def _multistart(result: Mapping[str, Any], _: pd.DataFrame) -> Figure:
    made, (axes,) = figure(6.2, 3.4)
    costs = np.array(result["fit"]["costs"])
    best = result["fit"]["starts_at_best"]
    colours = [AFTER if i < best else BEFORE for i in range(len(costs))]
    axes.scatter(np.arange(1, len(costs) + 1), costs / costs[0], s=36, c=colours)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(xlabel="start, best first", ylabel="cost / best cost", ylim=(0.95, max(1.1, float((costs / costs[0]).max()) * 1.03)))
    axes.set_xticks(np.arange(1, len(costs) + 1, max(1, len(costs) // 12)))
    axes.set_title(f"{best} of {len(costs)} starts reached the best cost")
    return made


_WANT_ALL_ROWS = {"error_cdf"}

_PLOTS: tuple[tuple[Plot, Callable[[Mapping[str, Any], pd.DataFrame], Figure]], ...] = (
    (Plot("predicted_measured", "Predicted against measured", "On the line a prediction is right; the band is ±10%. Grey: before the fit."), _predicted_measured),
    (Plot("error_by_slice", "Error by slice", "Mean error before, after, and on rows the fit had not seen (folds by run)."), _error_by_slice),
    (Plot("residuals", "Residuals", "What is left against tokens, batch, context and TP; beyond ±50% points lie on the edge. A trend is a term the model lacks."), _residuals),
    (Plot("error_cdf", "Distribution of errors", "The share of rows whose error is at most so large; the dotted line is 10%."), _error_cdf),
    (Plot("residual_distribution", "Distribution of residuals", "Left: before and after. Right: on the line the residuals would be normal."), _distribution),
    (Plot("roofline", "Roofline", "Every step by what it computes per byte it must read, and how fast it did so; the solid roof is physics."), _roofline),
    (Plot("multistart", "Starts", "Many starts at the same cost mean that the search is not caught in a local minimum."), _multistart),
)
