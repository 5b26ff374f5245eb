"""By what a server's runs are predicted: nothing, what is known of the engine, terms tuned with and without them."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from benchmarks.scoreboard.servers import MODEL, Server
from calibrate.serving.engine_problem import engine_problem
from calibrate.serving.figures import Replay
from calibrate.serving.fit import ServingSolution
from calibrate.serving.point import SEEDS
from calibrate.serving.points import FIGURES, METRICS
from calibrate.serving.quick_fit import solve_quickly
from calibrate.serving.thresholds import DRAWS
from sim.hardware import Hardware
from sim.models.registry import PARAMETERS
from sim.steps.batch import Floats

UNTUNED = ("no engine", "engine named")
TUNED = ("tuned elsewhere", "model out", "run out")
ALL = "all"
MEANS = [FIGURES.index((metric, "mean")) for metric in METRICS]

Errors = Sequence[float | None] | None
"""Mean errors of TTFT, ITL and E2E; None of what was not measured, or where a treatment cannot be."""


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """What the runs of one server say by themselves: figures in ms, shape (n, 12), by treatment, and own terms."""

    figures: Mapping[str, Floats | None]
    terms: Mapping[str, float]

    @property
    def held(self) -> Floats | None:
        """The figures where they were left out: by models where there are two, else by runs."""
        of_models = self.figures["model out"]
        return self.figures["run out"] if of_models is None else of_models


def measure(one: Server) -> Measured:
    """Every treatment that needs no other data set."""
    own, folds = _solved(one), _solved(one, ("5",))
    figures = {
        "no engine": simulated_ms(one, one.hardware),
        "engine named": simulated_ms(one, one.named),
        "model out": own.held_out_ms.get("model") if own else None,
        "run out": folds.held_out_ms.get("folds") if folds else None,
    }
    return Measured(figures, own.values if own else {})


def _solved(one: Server, cv: Sequence[str] = ()) -> ServingSolution | None:
    """The engine's own terms, a model left out where there are two, else runs; None where nothing shows any."""
    return solve_quickly(engine_problem(one.rows, MODEL, one.named, "soft_l1", 0.05, cv=cv))


def tuned_elsewhere(one: Server, terms: Mapping[str, float]) -> Floats | None:
    """The figures with the terms of other data sets; None where there are none."""
    return simulated_ms(one, one.named.with_values(terms)) if terms else None


def terms_elsewhere(one: Server, others: Sequence[tuple[Server, Measured]]) -> dict[str, float]:
    """Medians of the times that other data sets of this kind of engine give, none with a model of this one."""
    own = set(one.rows.points.frame["model"])
    found = [
        measured.terms
        for other, measured in others
        if other.kind == one.kind and not own & set(other.rows.points.frame["model"])
    ]
    medians = pd.DataFrame(found).median().items()
    return {str(n): float(value) for n, value in medians if not PARAMETERS[str(n)].of_engines}


def simulated_ms(one: Server, hardware: Hardware) -> Floats:
    """The figures of every run, shape (n, 12)."""
    points = one.rows.points
    replay = Replay.of(points.points, [SEEDS[:DRAWS]] * len(points))
    return replay.figures_ms(MODEL, hardware)


def errors(one: Server, figures_ms: Floats | None) -> Errors:
    """Mean errors over a server's runs."""
    return None if figures_ms is None else _means(off(one, figures_ms))


def errors_by_model(
    scored: Sequence[tuple[Server, Floats | None]],
) -> dict[str, Errors]:
    """Mean errors over the runs of each model on all servers, the runs of ``ALL`` models too."""
    frames = [
        pd.DataFrame(off(one, figures)).assign(model=one.rows.points.frame["model"].to_numpy())
        for one, figures in scored
        if figures is not None
    ]
    if not frames:
        return {}
    rows = pd.concat(frames)
    groups = {str(model): group for model, group in rows.groupby("model")} | {ALL: rows}
    return {model: _means(group[[0, 1, 2]].to_numpy()) for model, group in groups.items()}


def off(one: Server, figures_ms: Floats) -> Floats:
    """How far the means of TTFT, ITL and E2E are off, shape (n, 3)."""
    found: Floats = np.abs(figures_ms / one.rows.points.measured_ms - 1.0)[:, MEANS]
    return found


def _means(off: Floats) -> list[float | None]:
    known = ~np.isnan(off)
    return [float(off[known[:, k], k].mean()) if known[:, k].any() else None for k in range(3)]
