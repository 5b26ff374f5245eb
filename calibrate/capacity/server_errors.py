"""How far fits are off on servers, as factors that a band draws: of load points not seen, as stated, or untuned."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from calibrate.capacity.thresholds import UNTUNED_ITL, UNTUNED_TTFT
from calibrate.outcome.result import FitResult
from calibrate.serving.summary import ServingSummary
from sim.steps.batch import Floats

_STATED = 1000
_LARGEST = 10.0  # of an error above it nothing is left to know
_MEAN_OF_NORMAL = math.sqrt(2.0 / math.pi)  # mean distance from its centre, in standard deviations


@dataclasses.dataclass(frozen=True, eq=False)
class ServerErrors:
    """Measured over predicted times of k load points that a fit had not seen: ``itl`` and ``ttft`` (k,).

    ``model`` (k,) and ``tp`` (k,) say of what; rows of a model err alike. ``source`` says whence.
    """

    itl: Floats
    ttft: Floats
    model: Sequence[str]
    tp: Floats
    source: str

    def draw(self, rng: np.random.Generator, tp: int) -> tuple[float, float]:
        """Factors of ITL and of TTFT: of a model at random, one of its load points at the nearest ``tp``.

        Whatever the ``tp``, as many numbers are drawn, so that candidates err together as far as the points do.
        """
        of_model, of_row = rng.random(2)
        names = sorted(set(self.model))
        chosen = names[int(of_model * len(names))]
        rows = np.flatnonzero(np.array([name == chosen for name in self.model]))
        distance = np.abs(np.log(self.tp[rows] / tp))
        near = rows[distance <= distance.min() + 1e-9]
        row = near[int(of_row * len(near))]
        return float(self.itl[row]), float(self.ttft[row])


def server_errors(run: FitResult) -> ServerErrors | None:
    """The errors of a run on serving rows: of models that it had not seen, else of runs, else its own; None without."""
    if run.served is None or run.serving is None:
        return None
    held_out = [f"held_out_{kind}_ms" for kind in run.serving.held_out]
    column = next((name for name in held_out if name in run.served), "after_ms")
    means = run.served[run.served["statistic"] == "mean"]
    ratios = means.assign(ratio=means["measured_ms"] / means[column])
    points = ratios.pivot_table(
        index=["campaign", "line", "model", "tp"], columns="metric", values="ratio", sort=False
    ).reset_index()
    if not {"itl", "ttft"} <= set(points):
        return None
    points = points.dropna(subset=["itl", "ttft"])
    figures = points[["itl", "ttft", "tp"]]
    points = points[((figures > 0) & np.isfinite(figures)).all(axis=1)]
    if points.empty:
        return None
    return ServerErrors(
        itl=points["itl"].to_numpy(np.float64),
        ttft=points["ttft"].to_numpy(np.float64),
        model=points["model"].astype(str).tolist(),
        tp=points["tp"].to_numpy(np.float64),
        source=column.removesuffix("_ms").replace("_", " "),
    )


def errors_as_stated(servers: ServingSummary, seed: int) -> ServerErrors | None:
    """Errors as large as those on what the fit to servers had not seen; None where it states none of both times."""
    stated = servers.unseen
    if not {"itl", "ttft"} <= stated.keys():
        return None
    source = next(iter(servers.held_out), "own rows")
    return _errors_of_size(stated["itl"]["all"].mape, stated["ttft"]["all"].mape, source, seed)


def untuned_errors(seed: int) -> ServerErrors:
    """Errors of parameters that no server tuned: as large as docs/accuracy.md has them."""
    return _errors_of_size(UNTUNED_ITL, UNTUNED_TTFT, "untuned", seed)


def _errors_of_size(itl: float, ttft: float, source: str, seed: int) -> ServerErrors:
    """Errors of such means, to either side."""
    rng = np.random.default_rng(seed)
    of_itl, of_ttft = (
        np.exp(rng.normal(0.0, min(error, _LARGEST) / _MEAN_OF_NORMAL, _STATED))
        for error in (itl, ttft)
    )
    return ServerErrors(of_itl, of_ttft, ["any"] * _STATED, np.ones(_STATED), source)
