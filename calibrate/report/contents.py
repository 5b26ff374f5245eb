"""A result with every part that a report may show: None or empty where the fit did not make it."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

_PARTS: dict[str, Any] = {
    "lack_of_fit": None,
    "structure": None,
    "outliers": None,
    "profiles": {},
    "bootstrap": None,
    "mcmc": None,
    "bands": None,
    "kernels": [],
    "serving": None,
    "previous": None,
    "config_diff": [],
}
_OF_PARAMETER: dict[str, Any] = {"intervals": {}, "informed_by": [], "prior": None}
_OF_IDENTIFIABILITY: dict[str, Any] = {
    "collinearity_index": None,
    "singular_values": [],
    "start": None,
    "sensitivity": None,
}
_COLUMNS = ("held_out_us", "low_us", "high_us")
_TEXTS = ("before_regime", "cause")


def complete_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``result.json`` with what an older or a shorter fit left out."""
    return {
        **_PARTS,
        **result,
        "previous": {"serving": None, **result["previous"]} if result.get("previous") else None,
        "parameters": [{**_OF_PARAMETER, **parameter} for parameter in result["parameters"]],
        "identifiability": {**_OF_IDENTIFIABILITY, **result["identifiability"]},
    }


def complete_rows(predictions: pd.DataFrame) -> pd.DataFrame:
    """The content of ``predictions.csv`` with every column a report may show, texts never missing."""
    rows = predictions.reset_index(drop=True)
    added = {name: float("nan") for name in _COLUMNS if name not in rows}
    texts = {name: rows[name].astype(object).fillna("").astype(str) if name in rows else "" for name in _TEXTS}
    return rows.assign(**added, **texts)
