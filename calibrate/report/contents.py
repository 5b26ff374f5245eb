"""The rows of a run with every column that a report may show: empty where the fit did not make it."""

import pandas as pd

_COLUMNS = ("held_out_us", "low_us", "high_us")
_TEXTS = ("before_regime", "cause")


def complete_rows(predictions: pd.DataFrame) -> pd.DataFrame:
    """The content of ``predictions.csv`` with every column a report may show, texts never missing."""
    rows = predictions.reset_index(drop=True)
    added = {name: float("nan") for name in _COLUMNS if name not in rows}
    texts = {
        name: rows[name].astype(object).fillna("").astype(str) if name in rows else ""
        for name in _TEXTS
    }
    return rows.assign(**added, **texts)
