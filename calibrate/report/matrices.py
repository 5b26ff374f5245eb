"""The tables of identifiability: correlations, sensitivities and singular values."""

from collections.abc import Mapping, Sequence
from typing import Any

_FULL_SHADE = 45


def correlation_rows(table: Mapping[str, Mapping[str, float | None]]) -> list[dict[str, Any]]:
    """The lower triangle, a row a parameter; ``shade`` is the percentage of full colour behind a cell."""
    rows = []
    for index, (name, row) in enumerate(table.items()):
        before = [row[other] for other in list(table)[:index]]
        cells = [{"value": value, "shade": round(abs(value or 0.0) * _FULL_SHADE)} for value in before]
        rows.append({"name": name, "cells": cells})
    return rows


def sensitivity_rows(sensitivity: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """A row a parameter, a cell a group of rows; 1 is a step time that follows the parameter in proportion."""
    if sensitivity is None:
        return []
    return [
        {
            "name": name,
            "cells": [{"value": value, "shade": round(min(abs(value or 0.0), 1.0) * _FULL_SHADE)} for value in row],
        }
        for name, row in sensitivity["rms"].items()
    ]


def singular_bars(values: Sequence[float]) -> list[dict[str, float]]:
    """Singular values, the largest first, with their share of it in percent."""
    known = sorted((value for value in values if value is not None), reverse=True)
    largest = max(known, default=0.0)
    return [{"value": value, "width": round(value / largest * 100, 2) if largest > 0 else 0.0} for value in known]
