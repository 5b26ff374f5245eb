"""Steps to measure from a table of steps whose latencies are empty, as ``calibrate plan`` writes it."""

import dataclasses
from pathlib import Path
from typing import Any

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
    dataclasses.replace(column, required=column.required and column.name != "latency_us")
    for column in TABLES["steps"]
]
_PAIRS = "sum_prefill_qk_pairs"
_COUNTS = [name for name in COUNT_COLUMNS if name != _PAIRS]
_PAIRS_TOLERANCE = 1e-3
_MOST_LINES = 8


@dataclasses.dataclass(frozen=True)
class Planned:
    """Distinct steps by model, and what of the table cannot be measured here, in words."""

    sizes: dict[str, list[Size]]
    left_out: tuple[str, ...]


def read_points(file: Path, dtype: str) -> Planned:
    """The steps of a table. Raises CampaignError, naming line and column, for a table that has an error."""
    table = read_table(file, _COLUMNS)
    errors = [problem for problem in table.problems if problem.severity == "error"]
    if errors:
        raise CampaignError(errors)

    sizes: dict[str, list[Size]] = {}
    obstacles: dict[str, list[int]] = {}
    steps = _complete(table.frame)
    for line, cells in zip(table.lines, steps.to_dict("records"), strict=True):
        row = {str(name): cell for name, cell in cells.items()}
        obstacle = _obstacle(row, dtype)
        if obstacle:
            obstacles.setdefault(obstacle, []).append(int(line))
        else:
            sizes.setdefault(str(row["model"]), []).append(_size(row))

    distinct = {model: list(dict.fromkeys(of_model)) for model, of_model in sizes.items()}
    left_out = [f"{file}: {_lines(lines)} left out: {why}" for why, lines in obstacles.items()]
    return Planned(distinct, tuple(left_out))


def _complete(steps: pd.DataFrame) -> pd.DataFrame:
    """The steps with every column of counts; an empty count is 0, an empty number of pairs NaN."""
    counts = {name: _numbers(steps, name).fillna(0.0) for name in _COUNTS}
    counts[_PAIRS] = _numbers(steps, _PAIRS)
    return steps.assign(**counts)


def _numbers(steps: pd.DataFrame, name: str) -> "pd.Series[float]":
    return steps[name] if name in steps else pd.Series(np.nan, index=steps.index)


def _obstacle(row: dict[str, Any], dtype: str) -> str | None:
    """Why a row cannot be measured; None if it can."""
    if row["tp"] != 1:
        return "tp is not 1: bench measures one GPU"

    stated = row.get("dtype")
    if stated not in (None, "", dtype):
        hint = "" if stated in DTYPE_BYTES else " (not a known one)"
        return f"dtype {stated}{hint} is not {dtype}, which is measured"

    if not row["num_prefill_requests"] and not row["num_decode_requests"]:
        return "a step without any request"
    if not _are_whole(row):
        return "requests of one phase differ in length: bench measures equal ones"
    if not _has_pairs_of_equal(row):
        return f"{_PAIRS} is not that of equal requests, which bench measures"
    return None


def _are_whole(row: dict[str, Any]) -> bool:
    """Whether the sums of tokens are those of equal requests, of one new token at the least."""
    prompts = max(row["num_prefill_requests"], 1)
    decodes = max(row["num_decode_requests"], 1)
    remainders = (
        row["sum_prefill_tokens"] % prompts,
        row["sum_prefill_kv_tokens"] % prompts,
        row["sum_decode_kv_tokens"] % decodes,
    )
    enough = row["sum_prefill_tokens"] >= row["num_prefill_requests"]
    return bool(enough) and not any(remainders)


def _has_pairs_of_equal(row: dict[str, Any]) -> bool:
    """Whether the pairs of query and key, where they are stated, are those of equal prompts."""
    stated = row[_PAIRS]
    if np.isnan(stated):
        return True
    prompts = max(row["num_prefill_requests"], 1)
    new = row["sum_prefill_tokens"] / prompts
    context = row["sum_prefill_kv_tokens"] / prompts
    pairs = row["sum_prefill_tokens"] * (context + (new - 1) / 2)
    return bool(abs(stated - pairs) <= _PAIRS_TOLERANCE * pairs)


def _size(row: dict[str, Any]) -> Size:
    prompts = int(row["num_prefill_requests"])
    prefill = Requests()
    if prompts:
        new = int(row["sum_prefill_tokens"]) // prompts
        context = int(row["sum_prefill_kv_tokens"]) // prompts
        prefill = Requests(prompts, new, context)

    decodes = int(row["num_decode_requests"])
    decode = Requests()
    if decodes:
        cached = int(row["sum_decode_kv_tokens"]) // decodes
        decode = Requests(decodes, 1, cached)

    return prefill, decode


def _lines(lines: list[int]) -> str:
    shown = ", ".join(map(str, lines[:_MOST_LINES]))
    more = " …" if len(lines) > _MOST_LINES else ""
    return f"line{'s' if len(lines) > 1 else ''} {shown}{more}"
