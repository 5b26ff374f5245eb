"""Decisions among measured loads: which load is chosen for an objective, whether it is right, and what made it wrong.

A choice is right where it meets its objective as measured and comes within 5% of the best throughput per GPU that does.
What makes decisions wrong is told by taking a part of the prediction from the measurement and deciding again.
"""

import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd

from sim.steps.batch import Floats

FEWEST_LOADS = 8
WITHIN = 0.05
QUANTILES = (0.2, 0.4, 0.6, 0.8, 1.0), (0.25, 0.5, 0.75, 1.0)
"""Of measured ITL and TTFT of a workload: the limits of its twenty objectives."""

_SHAPE = ["prompt", "output"]

AS_PREDICTED = "as predicted"
WITH_TTFT, WITH_ITL = "TTFT as measured", "ITL as measured"
WITH_LEVEL, WITH_LEVEL_OF_TP = "one factor right", "one factor a TP right"


def outcomes(loads: pd.DataFrame) -> dict[str, Counter[str]]:
    """How many decisions are ``right``, ``slower``, ``missed`` or find ``none``, by what of a prediction is measured.

    ``loads`` has a row a load: prompt, output, tp, clients, measured_ttft, measured_itl, predicted_ttft, predicted_itl
    (ms). A factor that is right is the median of measured over predicted times of a workload, or of each TP in it.
    """
    shapes = [part for _, part in loads.groupby(_SHAPE) if len(part) >= FEWEST_LOADS]
    return {
        name: Counter(
            found
            for shape in shapes
            for limits in _limits(shape)
            if (found := decision(_with_rates(changed(shape)), limits)) is not None
        )
        for name, changed in _CHANGES.items()
    }


def _measured(figure: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda shape: shape.assign(**{f"predicted_{figure}": shape[f"measured_{figure}"]})


def _scaled(*by: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Predicted times with the median error of loads alike in some columns taken away."""

    def scaled(shape: pd.DataFrame, figure: str) -> "pd.Series[float]":
        ratio = shape[f"measured_{figure}"] / shape[f"predicted_{figure}"]
        groups = [shape[name] for name in by] or [pd.Series(0, index=shape.index)]
        factor: pd.Series[float] = ratio.groupby(groups).transform("median")
        return shape[f"predicted_{figure}"] * factor

    return lambda shape: shape.assign(
        predicted_ttft=scaled(shape, "ttft"), predicted_itl=scaled(shape, "itl")
    )


_CHANGES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    AS_PREDICTED: lambda shape: shape,
    WITH_TTFT: _measured("ttft"),
    WITH_ITL: _measured("itl"),
    WITH_LEVEL: _scaled(),
    WITH_LEVEL_OF_TP: _scaled("tp"),
}


def _with_rates(loads: pd.DataFrame) -> pd.DataFrame:
    rates = {
        f"{kind}_rate": rate_per_gpu(loads, loads[f"{kind}_ttft"], loads[f"{kind}_itl"])
        for kind in ("measured", "predicted")
    }
    return loads.assign(**rates)


def rate_per_gpu(
    loads: pd.DataFrame, ttft_ms: "pd.Series[float] | Floats", itl_ms: "pd.Series[float] | Floats"
) -> "pd.Series[float]":
    """Requests a second and GPU of a closed load, by Little's law."""
    e2e_s = (ttft_ms + (loads["output"] - 1.0) * itl_ms) / 1e3
    rate: pd.Series[float] = loads["clients"] / e2e_s / loads["tp"]
    return rate


def _limits(shape: pd.DataFrame) -> list[tuple[float, float]]:
    """The twenty objectives of a workload: most ITL and most TTFT in ms, means."""
    itl = shape["measured_itl"].quantile(list(QUANTILES[0]))
    ttft = shape["measured_ttft"].quantile(list(QUANTILES[1]))
    return list(itertools.product(itl, ttft))


def decision(shape: pd.DataFrame, limits: tuple[float, float]) -> str | None:
    """``right``, ``slower``, ``missed`` or ``none``; None where no measured load meets the objective."""
    meets = {
        kind: (
            (shape[f"{kind}_itl"] <= limits[0]) & (shape[f"{kind}_ttft"] <= limits[1])
        ).to_numpy()
        for kind in ("measured", "predicted")
    }
    if not meets["measured"].any():
        return None
    if not meets["predicted"].any():
        return "none"
    predicted, measured = (shape[f"{kind}_rate"].to_numpy() for kind in ("predicted", "measured"))
    chosen = int(np.where(meets["predicted"], predicted, -np.inf).argmax())
    if not meets["measured"][chosen]:
        return "missed"
    best = measured[meets["measured"]].max()
    return "right" if measured[chosen] >= (1.0 - WITHIN) * best else "slower"
