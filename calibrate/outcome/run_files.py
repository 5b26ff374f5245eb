"""A run's folder as it was written: ``result.json`` and the tables beside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from calibrate.outcome.result import SCHEMA_VERSION
from calibrate.records.errors import CalibrateError


def has_steps(result: Mapping[str, Any]) -> bool:
    """Whether the fit of a ``result.json`` was one to steps; else serving results alone made it."""
    return bool(result["metrics"]["after"])


def read_run(folder: str | Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """``result.json`` and ``predictions.csv`` of a run; a fit without steps has no such table, and an empty frame.

    Raises CalibrateError if either is missing or malformed.
    """
    root = Path(folder)
    try:
        result = json.loads((root / "result.json").read_text(encoding="utf-8"))
        if not isinstance(result, dict) or result.get("schema_version") != SCHEMA_VERSION:
            raise CalibrateError(f"{root / 'result.json'}: not a result of schema version {SCHEMA_VERSION}")
        return result, pd.read_csv(root / "predictions.csv") if has_steps(result) else pd.DataFrame()
    except FileNotFoundError as error:
        raise CalibrateError(f"{error.filename}: no such file; give the folder of a run, reports/<GPU>/<run>") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CalibrateError(f"{root}: result.json or predictions.csv cannot be read: {error}") from error


def read_served(folder: str | Path, result: Mapping[str, Any]) -> pd.DataFrame | None:
    """``serving.csv`` of a run, see :attr:`FitResult.served`; None for a run that was not fitted to serving results.

    Raises CalibrateError if it is missing or malformed.
    """
    path = Path(folder) / "serving.csv"
    if not result.get("serving"):
        return None
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)  # a model may be called nan
        numbers = ["line", "tp", "weight", *(str(name) for name in table if str(name).endswith("_ms"))]
        figures = {name: pd.to_numeric(table[name].replace("", "nan")) for name in numbers}
    except FileNotFoundError:
        raise CalibrateError(f"{path}: no such file; without it the run's serving results cannot be drawn") from None
    except (OSError, ValueError, KeyError) as error:
        raise CalibrateError(f"{path}: cannot be read: {error}") from error
    return table.assign(**figures)
