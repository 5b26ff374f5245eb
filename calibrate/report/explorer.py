"""The rows that the page's explorer holds, and the worst of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

WORST_ROWS = 20
_MOST_ROWS, _MOST_WORST = 4000, 400
_DIGITS = 6
_NAMES = ("campaign", "model", "phase", "regime", "before_regime", "cause")
KINDS = ("layers", "dtype", "ep")
"""Columns that steps are filtered by where they differ in them."""
_NUMBERS = (
    "line",
    "tp",
    "batch",
    "new_tokens",
    "context_tokens",
    "measured_us",
    "before_us",
    "after_us",
    "held_out_us",
    "low_us",
    "high_us",
    "weight",
    "influence",
    "flops",
    "bytes",
)


def explorer_data(rows: pd.DataFrame) -> dict[str, Any]:
    """Columns of the rows that the page holds: at most 4,000, the worst 400 and others drawn evenly over the slices.

    Texts are given as ``{"names": [...], "index": [one per row]}``, numbers as lists with None for what is not known.
    """
    held = rows.iloc[_held(rows)]
    kinds = [name for name in KINDS if name in rows and rows[name].nunique() > 1]
    names = {name: _coded(held[name]) for name in (*_NAMES, *kinds)}
    numbers = {name: _numbers(held[name].to_numpy(dtype=np.float64)) for name in _NUMBERS}
    return {
        "total": len(rows),
        "held": len(held),
        "worst": WORST_ROWS,
        "columns": {**names, **numbers},
    }


def columns_shown(rows: pd.DataFrame) -> dict[str, bool]:
    """Which columns of the table hold anything: the band, the held-out error, the likely cause."""
    return {
        "band": bool(rows["low_us"].notna().any()),
        "held_out": bool(rows["held_out_us"].notna().any()),
        "cause": bool((rows["cause"] != "").any()),
    }


def worst_rows(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows with the largest log residuals, with what the table shows of them."""
    worst = rows.iloc[_by_error(rows)[:WORST_ROWS]]
    shown = worst.assign(
        error=worst["after_us"] / worst["measured_us"] - 1,
        held_out_error=worst["held_out_us"] / worst["measured_us"] - 1,
        pull=worst["weight"] * worst["influence"],
    )
    return [{str(name): value for name, value in row.items()} for row in shown.to_dict("records")]


def _held(rows: pd.DataFrame) -> NDArray[np.intp]:
    if len(rows) <= _MOST_ROWS:
        return np.arange(len(rows))
    weight = np.maximum(np.nan_to_num(rows["weight"].to_numpy(dtype=np.float64)), 1e-12)
    # The smaller a slice, the likelier its rows
    keys = np.random.default_rng(0).exponential(size=len(rows)) / weight
    worst = _by_error(rows)[:_MOST_WORST]
    keys[worst] = -1.0
    return np.sort(np.argpartition(keys, _MOST_ROWS)[:_MOST_ROWS])


def _by_error(rows: pd.DataFrame) -> NDArray[np.intp]:
    size = rows["residual"].abs().to_numpy(dtype=np.float64)
    return np.argsort(-np.nan_to_num(size, nan=np.inf), kind="stable")


def _coded(texts: pd.Series) -> dict[str, Sequence[Any]]:
    codes, names = pd.factorize(texts.astype(str), sort=True)
    return {"names": names.tolist(), "index": codes.tolist()}


def _numbers(values: NDArray[np.float64]) -> list[float | int | None]:
    rounded = [
        float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None for value in values.tolist()
    ]
    return [int(value) if value is not None and value.is_integer() else value for value in rounded]
