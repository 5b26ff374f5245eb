"""A run's folder as it was written: ``result.json`` and the tables beside it."""

import dataclasses
import json
from pathlib import Path

import pandas as pd

from calibrate.outcome.result import FitResult
from calibrate.records.errors import CalibrateError

_NUMBERS = ("line", "tp", "weight")


def read_run(folder: str | Path) -> FitResult:
    """A run with its tables: ``predictions.csv`` of a fit to steps, ``serving.csv`` of one to serving results.

    Raises CalibrateError if one of these or ``result.json`` is missing or malformed.
    """
    root = Path(folder)
    result = read_result(root)
    return dataclasses.replace(
        result,
        predictions=_read_predictions(root / "predictions.csv")
        if result.has_steps
        else pd.DataFrame(),
        served=_read_served(root / "serving.csv") if result.serving is not None else None,
    )


def read_result(folder: str | Path) -> FitResult:
    """``result.json`` of a run, without the tables beside it. Raises CalibrateError if it is missing or malformed."""
    path = Path(folder) / "result.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CalibrateError(
            f"{path}: no such file; give the folder of a run, reports/<GPU>/<run>"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CalibrateError(f"{path}: cannot be read: {error}; run the fit again") from error
    return FitResult.from_dict(content, where=str(path))


def _read_predictions(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except FileNotFoundError:
        raise CalibrateError(
            f"{path}: no such file; without it the run's steps cannot be drawn"
        ) from None
    except (OSError, ValueError) as error:
        raise CalibrateError(f"{path}: cannot be read: {error}") from error


def _read_served(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)  # a model may be called nan
        times = [str(name) for name in table if str(name).endswith("_ms")]
        figures = {
            name: pd.to_numeric(table[name].replace("", "nan")) for name in (*_NUMBERS, *times)
        }
    except FileNotFoundError:
        raise CalibrateError(
            f"{path}: no such file; without it the run's serving results cannot be drawn"
        ) from None
    except (OSError, ValueError, KeyError) as error:
        raise CalibrateError(f"{path}: cannot be read: {error}") from error
    return table.assign(**figures)
