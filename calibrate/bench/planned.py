"""Steps to measure from a table of steps whose latencies are empty, as ``calibrate plan`` writes it."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from calibrate.bench.decoder import Requests
from calibrate.bench.steps import Size
from calibrate.records.errors import CampaignError
from calibrate.records.schema import TABLES
from calibrate.records.tables import read_table
from sim.steps.batch import COUNT_COLUMNS
from sim.units import DTYPE_BYTES

_COLUMNS = [
    dataclasses.replace(c, required=c.required and c.name != "latency_us") for c in TABLES["steps"]
]


@dataclasses.dataclass(frozen=True)
class Planned:
    """Distinct steps by model, and what of the table cannot be measured here, in words."""

    sizes: dict[str, list[Size]]
    left_out: tuple[str, ...]


def read_points(file: Path, dtype: str) -> Planned:
    """The steps of a table. Raises CampaignError, naming line and column, for a table that has an error."""
    table = read_table(file, _COLUMNS)
    if errors := [problem for problem in table.problems if problem.severity == "error"]:
        raise CampaignError(errors)
    steps = table.frame.assign(line=table.lines)
    counts = {
        name: _numbers(steps, name) for name in COUNT_COLUMNS if name != "sum_prefill_qk_pairs"
    }
    steps = steps.assign(**{name: values.fillna(0.0) for name, values in counts.items()})
    steps["pairs"] = _numbers(steps, "sum_prefill_qk_pairs")
    sizes: dict[str, list[Size]] = {}
    left_out: dict[str, list[int]] = {}
    for cells in steps.to_dict("records"):
        row = {str(name): cell for name, cell in cells.items()}
        why = _obstacle(row, dtype)
        if why:
            left_out.setdefault(why, []).append(int(row["line"]))
        else:
            sizes.setdefault(str(row["model"]), []).append(_size(row))
    distinct = {model: list(dict.fromkeys(found)) for model, found in sizes.items()}
    return Planned(
        distinct,
        tuple(f"{file}: {_lines(lines)} left out: {why}" for why, lines in left_out.items()),
    )


def _numbers(steps: pd.DataFrame, name: str) -> "pd.Series[float]":
    return steps[name] if name in steps else pd.Series(np.nan, index=steps.index)


def _obstacle(row: dict[str, object], dtype: str) -> str | None:
    """Why a row cannot be measured; None if it can."""
    number = {
        name: float(str(value))
        for name, value in row.items()
        if name in (*COUNT_COLUMNS, "tp", "pairs")
    }
    prompts, tokens, context = (number[name] for name in COUNT_COLUMNS[:3])
    decodes = number["num_decode_requests"]
    cached = number["sum_decode_kv_tokens"]
    if number["tp"] != 1:
        return "tp is not 1: bench measures one GPU"
    if row.get("dtype") not in (None, "", dtype):
        hint = "" if row["dtype"] in DTYPE_BYTES else " (not a known one)"
        return f"dtype {row['dtype']}{hint} is not {dtype}, which is measured"
    if not prompts and not decodes:
        return "a step without any request"
    sums = ((prompts, tokens), (prompts, context), (decodes, cached))
    if tokens < prompts or any(total % max(count, 1) for count, total in sums):
        return "requests of one phase differ in length: bench measures equal ones"
    equal = tokens * (context / max(prompts, 1) + (tokens / max(prompts, 1) - 1) / 2)
    if number["pairs"] == number["pairs"] and abs(number["pairs"] - equal) > 1e-3 * equal:
        return "sum_prefill_qk_pairs is not that of equal requests, which bench measures"
    return None


def _size(row: dict[str, object]) -> Size:
    prompts, tokens, context = (int(float(str(row[name]))) for name in COUNT_COLUMNS[:3])
    decodes, cached = (
        int(float(str(row[name]))) for name in ("num_decode_requests", "sum_decode_kv_tokens")
    )
    prefill = Requests(prompts, tokens // prompts, context // prompts) if prompts else Requests()
    return prefill, Requests(decodes, 1, cached // decodes) if decodes else Requests()


def _lines(lines: list[int]) -> str:
    shown = ", ".join(map(str, lines[:8])) + (" …" if len(lines) > 8 else "")
    return f"line{'s' if len(lines) > 1 else ''} {shown}"
