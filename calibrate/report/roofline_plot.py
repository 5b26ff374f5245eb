"""The roofline: the rate that every step achieved, under the GPU's roofs and the fitted ones."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from calibrate.outcome.result import FitResult
from calibrate.report.style import (
    INK,
    NARROW,
    PHASES,
    QUIET,
    Floats,
    legend_above,
    log_axis,
    new_figure,
    phase_key,
    phases_of,
    points,
    thinned,
    thinning_note,
)
from sim.units import MEGA

_ROOF_POINTS = 200
_DASHED = (0, (4, 2.5))


@dataclasses.dataclass(frozen=True)
class _Roof:
    """Most that a step can achieve: ``compute`` in TFLOP/s, ``memory`` in TB/s."""

    compute: float
    memory: float

    @property
    def ridge(self) -> float:
        """FLOP a byte from which arithmetic is the limit."""
        return self.compute / self.memory

    @property
    def text(self) -> str:
        return f"{self.compute:,.4g} TFLOP/s, {self.memory:.3g} TB/s"

    def at(self, intensity: Floats) -> Floats:
        """TFLOP/s at FLOP a byte, shape (n,)."""
        height: Floats = np.minimum(self.compute, self.memory * intensity)
        return height


def roofline(result: FitResult, frame: pd.DataFrame) -> tuple[Figure, str]:
    """Achieved FLOP/s of every step under the GPU's roofs and under the fitted ones."""
    figure, (axes,) = new_figure(NARROW, 4.8, top=0.85)
    shown = thinned(frame)
    intensity = _numbers(shown["flops"] / shown["bytes"])
    achieved = _numbers(shown["flops"] / shown["measured_us"] / MEGA / shown["tp"])
    known = np.isfinite(intensity) & np.isfinite(achieved) & (intensity > 0) & (achieved > 0)

    peak = _Roof(result.peaks["TFlopsPeak"], result.peaks["BwPeakTBs"])
    low, high = _roofline_axes(axes, peak, intensity[known], achieved[known])
    x = np.geomspace(low, high, _ROOF_POINTS)
    _draw_roof(axes, peak, x, "peak", linewidth=1.4)
    fitted = _fitted_roof(result)
    if fitted:
        _draw_roof(axes, fitted, x, "fitted", linewidth=1.1, linestyle=_DASHED)
    _mark_ridge(axes, peak)

    for phase in phases_of(shown):
        colour, marker = PHASES[phase]
        rows = known & (shown["phase"] == phase).to_numpy()
        points(axes, intensity[rows], achieved[rows], colour, marker)
        phase_key(axes, phase, phase)
    legend_above(axes, 2)

    caption = (
        "Work counted at the least that any engine must do. Points on a roof are limited by it; points well below "
        "carry overhead; points above the peak cannot be right. Dashed: the roofs the fit found."
    )
    return figure, caption + thinning_note(frame)


def _numbers(values: "pd.Series[float]") -> Floats:
    return np.asarray(values, dtype=np.float64)


def _roofline_axes(
    axes: Axes, peak: _Roof, intensity: Floats, achieved: Floats
) -> tuple[float, float]:
    """Logarithmic axes around the steps and the ridge; the ends of the horizontal one."""
    least_intensity = min([peak.ridge / 10, *intensity])
    most_intensity = max([peak.ridge * 10, *intensity])
    least_achieved = min([peak.compute / 100, *achieved])
    most_achieved = max([peak.compute * 2, *achieved])

    ends = log_axis(axes, "x", least_intensity, most_intensity)
    log_axis(axes, "y", least_achieved, most_achieved)
    axes.set_xlabel("arithmetic intensity (FLOP/byte)")
    axes.set_ylabel("achieved TFLOP/s per GPU")
    return ends


def _fitted_roof(result: FitResult) -> _Roof | None:
    """The roof at the fitted efficiencies, of a model that has them."""
    values = result.values
    if not {"BwEffConstant", "mfuPrefill"} <= set(values):
        return None
    return _Roof(
        compute=result.peaks["TFlopsPeak"] * values["mfuPrefill"],
        memory=result.peaks["BwPeakTBs"] * values["BwEffConstant"],
    )


def _draw_roof(axes: Axes, roof: _Roof, x: Floats, name: str, **style: Any) -> None:
    axes.plot(x, roof.at(x), color=INK, **style)
    axes.plot([], [], color=INK, **style, label=f"{name}: {roof.text}")


def _mark_ridge(axes: Axes, peak: _Roof) -> None:
    """Where the GPU's two roofs meet."""
    bottom, _ = axes.get_ylim()
    axes.plot(
        [peak.ridge, peak.ridge],
        [bottom, peak.compute],
        color=QUIET,
        linewidth=0.8,
        linestyle=":",
    )
    text = f"ridge {peak.ridge:,.0f} FLOP/byte"
    axes.text(peak.ridge * 1.08, bottom * 1.3, text, color=QUIET, size=8)
