"""Which branch of the roofline the steps sit on, before the fit and after it."""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_KNOWN = {
    "memory": "#56B4E9",
    "compute": "#E69F00",
    "host": "#8c8c8c",
    "communication": "#CC79A7",
}
_OTHERS = (
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#F0E442",
)


def regime_colours(rows: pd.DataFrame) -> dict[str, str]:
    """The regimes that occur, each with its colour (Okabe-Ito), those every roofline has first."""
    after = set(rows["regime"])
    before = set(rows["before_regime"]) - {""}
    present = after | before

    colours = {name: colour for name, colour in _KNOWN.items() if name in present}
    others = sorted(present - _KNOWN.keys())
    for order, name in enumerate(others):
        colours[name] = _OTHERS[order % len(_OTHERS)]

    return colours


def stages_known(rows: pd.DataFrame) -> dict[str, str]:
    """Column by stage: after the fit always, before it where the fit wrote that down."""
    columns = {}
    if (rows["before_regime"] != "").any():
        columns["before"] = "before_regime"

    columns["after"] = "regime"
    return columns


def regime_table(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """A row for every phase and stage: how many steps are limited by what."""
    table = []
    for phase in sorted(rows["phase"].unique()):
        in_phase = rows[rows["phase"] == phase]
        table += _stage_rows(in_phase, phase)

    table += _stage_rows(rows, "All steps")
    return table


def regime_moves(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Steps that are on another branch after the fit than before it, the most frequent move first."""
    before = rows["before_regime"]
    after = rows["regime"]
    moved = (before != "") & (before != after)

    pairs = zip(before[moved], after[moved], strict=True)
    counts = Counter(pairs)

    moves = []
    for (old, new), count in counts.most_common():
        move = {"old": old, "new": new, "n": count}
        moves.append(move)
    return moves


def regime_errors(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean absolute and signed errors after the fit by regime, the largest regime first."""
    relative = rows["after_us"] / rows["measured_us"] - 1
    errors = relative.to_numpy(dtype=np.float64)
    usable = np.isfinite(errors) & (rows["influence"] != 0).to_numpy()

    table = []
    for name, count in Counter(rows["regime"]).most_common():
        in_regime = (rows["regime"] == name).to_numpy()
        means = _mean_errors(errors[in_regime & usable])
        row = {"name": name, "n": count, **means}
        table.append(row)
    return table


def _stage_rows(rows: pd.DataFrame, phase: str) -> list[dict[str, Any]]:
    table = []
    for stage, column in stages_known(rows).items():
        counts = rows[column].value_counts(sort=False)
        row = {
            "phase": phase,
            "stage": stage,
            "n": len(rows),
            "counts": counts.to_dict(),
        }
        table.append(row)
    return table


def _mean_errors(errors: NDArray[np.float64]) -> dict[str, float | None]:
    """Mean absolute and mean signed error, None where there is no error to average."""
    if not len(errors):
        return {"mape": None, "bias": None}

    size = np.abs(errors)
    return {
        "mape": float(size.mean()),
        "bias": float(errors.mean()),
    }
