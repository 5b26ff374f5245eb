"""Plots of a simulated server: how its latencies are distributed, and its load over time."""

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from calibrate.report.style import (
    INK,
    PHASES,
    QUIET,
    WIDE,
    Floats,
    Plot,
    corner_note,
    finite,
    legend_above,
    log_axis,
    new_figure,
    save,
)
from sim.serving.result import ServingResult
from sim.units import US_PER_MS, US_PER_S

_PERCENTILES = (50, 90, 99)
_LATENCY = {
    "TTFT": "time to first token (ms)",
    "ITL": "mean time between tokens (ms)",
    "E2E": "time to the last token (ms)",
}
_SPREAD = 4.0
_BINS, _BAND_ALPHA = 300, 0.22


@dataclasses.dataclass(frozen=True)
class _Binned:
    """A quantity over time in equal bins: its mean, least and most in each, and the bins' edges (n + 1,)."""

    edges_s: Floats
    mean: Floats
    low: Floats
    high: Floats


def draw_serving(result: ServingResult, folder: Path) -> list[Plot]:
    """Draw ``latencies`` and ``timeline`` into an existing folder, as PNG and as SVG."""
    return [
        save(partial(_latencies, result), "latencies", "Latencies of requests", folder),
        save(partial(_timeline, result), "timeline", "The engine's load over time", folder),
    ]


def _latencies(result: ServingResult) -> tuple[Figure, str]:
    figure, panels = new_figure(WIDE, 3.7, (1, 3), top=0.6, gap=(0.3, 0.6))
    times_us = (result.ttft_us, result.itl_us, result.e2e_us)
    for axes, (name, label), times, phase in zip(
        panels, _LATENCY.items(), times_us, ("prefill", "decode", "mixed"), strict=True
    ):
        _cdf(axes, finite(times) / US_PER_MS, PHASES[phase][0], name)
        axes.set_xlabel(label)
    panels[0].set_ylabel("share of requests (%)")
    for axes in panels[1:]:
        axes.tick_params(labelleft=False)
    corner_note(figure, f"{len(result):,} requests")
    return (
        figure,
        "Each curve is the share of requests served at least so fast; the percentiles are marked.",
    )


def _cdf(axes: Axes, times_ms: Floats, colour: str, name: str) -> None:
    axes.set_ylim(0, 103)
    axes.set_yticks([0, 25, 50, 75, 90, 100])
    positive = np.sort(times_ms[times_ms > 0])
    if not len(positive):
        axes.text(
            0.5,
            0.5,
            f"no {name}: outputs of one token",
            ha="center",
            transform=axes.transAxes,
            color=QUIET,
        )
        axes.set_xticks([])
        return
    low, high = _time_axis(axes, positive[0], positive[-1])
    at = np.concatenate([[low], positive, [high]])
    share = np.concatenate([np.arange(len(positive) + 1), [len(positive)]]) * (100 / len(positive))
    axes.plot(at, share, drawstyle="steps-post", color=colour, linewidth=1.6)
    for percentile in _PERCENTILES:
        value = float(np.percentile(positive, percentile))
        axes.plot(
            [value], [percentile], marker="o", color=colour, markersize=4.5, markeredgewidth=0
        )
    marks = (f"p{p}  {_milliseconds(float(np.percentile(positive, p)))}" for p in _PERCENTILES)
    axes.set_title("   ".join(marks), fontsize=8.5, color=INK, loc="right", pad=4)


def _time_axis(axes: Axes, low: float, high: float) -> tuple[float, float]:
    """An axis for positive times, logarithmic where they are spread over more than a factor four; its ends."""
    if high > _SPREAD * low:
        return log_axis(axes, "x", low, high)
    margin = max(0.05 * (high - low), 0.01 * high)
    axes.set_xlim(low - margin, high + margin)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.ticklabel_format(axis="x", useOffset=False)
    return low - margin, high + margin


def _milliseconds(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def _timeline(result: ServingResult) -> tuple[Figure, str]:
    figure, panels = new_figure(WIDE, 6.0, (3, 1), top=0.6, gap=(0.3, 0.28))
    begin_us = float(result.arrival_us.min())
    steps = result.steps
    edges = np.linspace(0.0, result.duration_us, _BINS + 1)
    batch = steps.table.moments[0] + steps.table.moments[6]
    blocks: Floats = steps.kv_blocks.astype(np.float64) * (100.0 / result.engine.blocks)
    seen = result.arrival_us + result.engine.delay_us(result.prompt_tokens)
    queue_at = np.concatenate([seen, result.joined_us]) - begin_us
    queue = np.repeat([1.0, -1.0], len(result))
    order = np.argsort(queue_at, kind="stable")
    _band(panels[0], _binned(*_while_steps(result, batch, begin_us), edges), PHASES["decode"][0])
    _band(panels[1], _binned(queue_at[order], np.cumsum(queue[order]), edges), PHASES["prefill"][0])
    _band(panels[2], _binned(*_while_steps(result, blocks, begin_us), edges), PHASES["mixed"][0])
    for axes, label in zip(
        panels, ("requests a step", "requests waiting", "KV cache in use (%)"), strict=True
    ):
        axes.set_ylabel(label)
        axes.set_xlim(0, result.duration_us / US_PER_S)
        axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
    for axes in panels[:-1]:
        axes.tick_params(labelbottom=False)
    panels[-1].set_xlabel("time since the first request (s)")
    panels[0].fill_between(
        [], [], color=QUIET, alpha=_BAND_ALPHA, linewidth=0, label="least to most"
    )
    panels[0].plot([], [], color=QUIET, linewidth=1.3, label=f"mean in 1/{_BINS} of the time")
    legend_above(panels[0], 2)
    figure.align_ylabels(panels)
    corner_note(figure, f"{len(steps):,} steps, {int(result.preemptions.sum()):,} preemptions")
    return figure, (
        "Waiting: known to the engine and in no step yet. A queue that grows as long as requests arrive is a load "
        "above what the engine can serve."
    )


def _while_steps(result: ServingResult, values: Floats, begin_us: float) -> tuple[Floats, Floats]:
    """Change points of what holds during steps, and is 0 between them."""
    start = result.steps.start_us - begin_us
    end = start + result.steps.duration_us
    idle = np.append(start[1:] > end[:-1] * (1 + 1e-12), True)
    at = np.concatenate([start, end[idle]])
    order = np.argsort(at, kind="stable")
    return at[order], np.concatenate([values, np.zeros(int(idle.sum()))])[order]


def _binned(at_us: Floats, values: Floats, edges_us: Floats) -> _Binned:
    """Reduce what is ``values[i]`` from ``at_us[i]`` on, and 0 before, to bins."""
    at = np.concatenate([[min(0.0, at_us[0])], at_us])
    held = np.concatenate([[0.0], values])
    changes = np.append(at[1:] > at[:-1], True)  # of several changes at once, the last counts
    at, held = at[changes], held[changes]
    area = np.concatenate([[0.0], np.cumsum(np.diff(at) * held[:-1])])
    before = np.searchsorted(at, edges_us, side="right") - 1
    integral = area[before] + (edges_us - at[before]) * held[before]
    mean = np.diff(integral) / np.diff(edges_us)
    low = held[before[:-1]].copy()
    high = held[before[:-1]].copy()
    place = np.clip(np.searchsorted(edges_us, at, side="right") - 1, 0, len(low) - 1)
    inside = at < edges_us[-1]
    np.minimum.at(low, place[inside], held[inside])
    np.maximum.at(high, place[inside], held[inside])
    return _Binned(edges_us / US_PER_S, mean, low, high)


def _band(axes: Axes, binned: _Binned, colour: str) -> None:
    axes.fill_between(
        binned.edges_s,
        np.append(binned.low, binned.low[-1]),
        np.append(binned.high, binned.high[-1]),
        step="post",
        color=colour,
        alpha=_BAND_ALPHA,
        linewidth=0,
    )
    axes.stairs(binned.mean, binned.edges_s, color=colour, linewidth=1.3, baseline=None)
