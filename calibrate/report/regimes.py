"""Which branch of the roofline the steps sit on, before the fit and after it."""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

_KNOWN = {"memory": "#56B4E9", "compute": "#E69F00", "host": "#8c8c8c", "communication": "#CC79A7"}
_OTHERS = ("#009E73", "#0072B2", "#D55E00", "#F0E442")


def regime_colours(rows: pd.DataFrame) -> dict[str, str]:
    """The regimes that occur, each with its colour (Okabe-Ito), those every roofline has first."""
    present = set(rows["regime"]) | set(rows["before_regime"]) - {""}
    others = sorted(present - _KNOWN.keys())
    colours = {name: colour for name, colour in _KNOWN.items() if name in present}
    return {**colours, **{name: _OTHERS[i % len(_OTHERS)] for i, name in enumerate(others)}}


def stages_known(rows: pd.DataFrame) -> dict[str, str]:
    """Column by stage: after the fit always, before it where the fit wrote that down."""
    before = {"before": "before_regime"} if (rows["before_regime"] != "").any() else {}
    return {**before, "after": "regime"}


def regime_table(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """A row for every phase and stage: how many steps are limited by what."""
    found = []
    for phase in [*sorted(rows["phase"].unique()), None]:
        chosen = rows if phase is None else rows[rows["phase"] == phase]
        for stage, column in stages_known(rows).items():
            counts = chosen[column].value_counts(sort=False).to_dict()
            found.append({"phase": phase or "All steps", "stage": stage, "n": len(chosen), "counts": counts})
    return found


def regime_moves(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Steps that are on another branch after the fit than before it, the most frequent move first."""
    moved = rows[(rows["before_regime"] != "") & (rows["before_regime"] != rows["regime"])]
    counts = Counter(zip(moved["before_regime"], moved["regime"], strict=True))
    return [{"old": old, "new": new, "n": n} for (old, new), n in counts.most_common()]


def regime_errors(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean absolute and signed errors after the fit by regime, the largest regime first."""
    relative = (rows["after_us"] / rows["measured_us"] - 1).to_numpy(dtype=np.float64)
    found = []
    for name, n in Counter(rows["regime"]).most_common():
        errors = relative[(rows["regime"] == name).to_numpy() & np.isfinite(relative)]
        mape, bias = (float(np.abs(errors).mean()), float(errors.mean())) if len(errors) else (None, None)
        found.append({"name": name, "n": n, "mape": mape, "bias": bias})
    return found
