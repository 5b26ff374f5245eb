"""Plots of a recommendation: latency against throughput of every candidate, and what a load costs."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from calibrate.capacity.recommendation import Choice, Recommendation
from calibrate.capacity.thresholds import BAND
from calibrate.report.style import (
    INK,
    WIDE,
    Floats,
    Plot,
    corner_note,
    legend_above,
    new_figure,
    save,
)
from sim.units import MEGA, S_PER_HOUR, US_PER_MS

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "^", "s", "D", "v", "P", "X")
_RATES = 3000
_BEYOND = 1.5
_DRAWN_LINES = 4
_BAND_ALPHA = 0.12


def draw_capacity(found: Recommendation, folder: Path) -> list[Plot]:
    """Draw ``pareto`` and ``cost`` into an existing folder, as PNG and as SVG."""
    return [
        save(partial(_pareto, found), "pareto", "Latency against throughput per GPU", folder),
        save(partial(_cost, found), "cost", "What a load takes", folder),
    ]


def _pareto(found: Recommendation) -> tuple[Figure, str]:
    figure, panels = new_figure(WIDE, 4.2, (1, 2), top=0.75, gap=(0.8, 0.6))
    for axes, metric in zip(panels, ("ttft", "itl"), strict=True):
        _curves(axes, found, metric)
    legend_above(panels[1], 4)
    corner_note(figure, f"{found.model}, {found.slo}")
    return (
        figure,
        "The best limits of each GPU and TP, up to the largest rate that meets the objective (mark), whose "
        f"{BAND:.0%} band is the bar; dashed: the objective.",
    )


def _curves(axes: Axes, found: Recommendation, metric: str) -> None:
    """The best limits of every GPU and degree: latency by throughput, up to where the objective ends it."""
    styles = _styles(found.choices)
    for one in _best_of_groups(found.choices):
        colour, marker = styles[_group(one)]
        latency = np.array([getattr(point, f"{metric}_ms_p99") for point in one.curve], dtype=float)
        each = one.output_tokens_per_s_per_gpu / one.rate
        throughput = each * np.array([point.rate_per_s for point in one.curve])
        ends = [each * one.band.low, each * one.band.high]
        axes.plot(ends, [latency[-1]] * 2, color=colour, alpha=0.35, linewidth=4.0)
        axes.plot(throughput, latency, color=colour, linewidth=1.2)
        axes.plot(throughput[-1:], latency[-1:], marker, color=colour, label=_group(one))
    _mark_limits(axes, found, metric)
    axes.set_xlabel("output tokens a second and GPU")
    axes.set_ylabel(f"{metric.upper()} p99 (ms)")
    axes.set_xlim(left=0)


def _mark_limits(axes: Axes, found: Recommendation, metric: str) -> None:
    """The objective's own limit of the 99th percentile, where it has one."""
    axes.set_ylim(bottom=0.0)
    for limit in found.slo.limits:
        if limit.name == f"{metric}_p99":
            most_ms = limit.most_us / US_PER_MS
            axes.axhline(most_ms, color=INK, linewidth=0.9, linestyle="--")
            axes.set_ylim(0.0, 1.08 * most_ms)


def _group(one: Choice) -> str:
    return f"{one.candidate.gpu} TP {one.candidate.tp}"


def _styles(choices: Sequence[Choice]) -> dict[str, tuple[str, str]]:
    groups = sorted({_group(one) for one in choices})
    return {
        group: (_COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)])
        for i, group in enumerate(groups)
    }


@dataclasses.dataclass(frozen=True)
class _Line:
    """What each of some rates takes with one candidate, and between which ends for its band."""

    middle: Floats
    low: Floats
    high: Floats


def _cost(found: Recommendation) -> tuple[Figure, str]:
    figure, panels = new_figure(WIDE, 4.0, (1, 1), top=0.75)
    axes = panels[0]
    shown = _best_of_groups(found.choices)[:_DRAWN_LINES]
    priced = all(one.cost_per_million_tokens is not None for one in shown)
    most = found.demand.peak * _BEYOND if found.demand else 4.0 * max(one.rate for one in shown)
    rates = np.linspace(most / _RATES, most, _RATES)
    styles = _styles(found.choices)
    for one in shown:
        colour, _ = styles[_group(one)]
        line = _line(one, rates, priced=priced)
        axes.fill_between(rates, line.low, line.high, color=colour, alpha=_BAND_ALPHA, linewidth=0)
        axes.plot(rates, line.middle, color=colour, label=_group(one))
    if found.demand is not None:
        axes.axvline(found.demand.peak, color=INK, linewidth=0.9, linestyle="--")
        axes.annotate(
            " carried", (found.demand.peak, 0.0), xycoords=("data", "axes fraction"), va="bottom"
        )
    axes.set_xlabel("requests a second")
    axes.set_ylabel("cost an hour" if priced else "GPUs")
    axes.set_xlim(0, most)
    axes.set_ylim(bottom=0)
    legend_above(axes, _DRAWN_LINES)
    corner_note(figure, f"{found.model}, {found.slo}")
    return (
        figure,
        "The best limits of each GPU and TP: replicas that carry a rate, in "
        f"{'money' if priced else 'GPUs'}; shades are {BAND:.0%} bands.",
    )


def _best_of_groups(choices: Sequence[Choice]) -> list[Choice]:
    best: dict[str, Choice] = {}
    for one in choices:
        best.setdefault(_group(one), one)
    return list(best.values())


def _line(one: Choice, rates: Floats, *, priced: bool) -> _Line:
    cost = one.cost_per_million_tokens
    each = float(one.candidate.tp)
    if priced and cost is not None:
        each = cost * one.tokens_per_s * S_PER_HOUR / MEGA
    middle, low, high = (
        each * np.ceil(rates / max(rate, 1e-9)) for rate in (one.rate, one.band.high, one.band.low)
    )
    return _Line(middle, low, high)
