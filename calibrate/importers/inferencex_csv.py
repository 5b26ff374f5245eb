"""The CSV that InferenceMAX's site exports, as the results it is made of: their names, times in seconds.

Until 2026 the heads of its times said ms over values in seconds. So the unit is not taken from the head: interactivity
is one over the time per output token in seconds, and both stand in each row. Source:
github.com/SemiAnalysisAI/InferenceX-app, ``csv-export-helpers.ts`` (Apache-2.0).
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.records.errors import ImportFormatError
from calibrate.records.reading.csv_rows import csv_header
from calibrate.records.schema import Column
from calibrate.records.tables import Table, read_table
from sim.steps.batch import Floats
from sim.units import MS_PER_S

_NAMES = {
    "Model": "model",
    "Hardware Key": "hw",
    "Framework": "framework",
    "Precision": "precision",
    "Disaggregated": "disagg",
    "Spec Decoding": "spec_decoding",
    "DP Attention": "dp_attention",
    "Is Multinode": "is_multinode",
    "ISL": "isl",
    "OSL": "osl",
    "TP": "tp",
    "Concurrency": "conc",
    "EP": "ep",
    "Output Throughput/GPU (tok/s)": "output_tput_per_gpu",
    "Output Throughput/Chip (tok/s)": "output_tput_per_gpu",
}
_COUNTS = ("ISL", "OSL", "TP", "Concurrency", "EP")
_REQUIRED = ("Model", "Hardware Key", "Concurrency")
_TIME = re.compile(r"(Mean|Median|P90|P99) (TTFT|TPOT|E2E Latency) \((?:ms|s)\)")
_LATENCY = {"TTFT": "ttft", "TPOT": "tpot", "E2E Latency": "e2el"}
_PER_TOKEN = "Median TPOT"
_TOKENS_A_SECOND = "Median Interactivity (tok/s/user)"
_LARGEST_RATIO = (
    2.0  # medians of a number and of its inverse are the same request's but for rounding
)
_FIX = "Export the table again with its interactivity, or give the run's agg_*.json"


def is_site_table(path: Path) -> bool:
    """Whether a CSV's header has the site's heads."""
    try:
        return "Hardware Key" in csv_header(path)
    except ImportFormatError:
        return False


def read_site_table(path: Path) -> list[object]:
    """The results that a table holds. Raises ImportFormatError, with the line, for a cell or a unit that is wrong."""
    header = read_table(path, ()).frame.columns
    times = {name: found for name in header if (found := _TIME.fullmatch(name))}
    table = read_table(path, _columns(list(times)))
    for problem in table.problems:
        if problem.severity == "error":
            raise ImportFormatError(str(problem))
    scale = _seconds_each(table, list(times))
    names = {name: f"{found[1].lower()}_{_LATENCY[found[2]]}" for name, found in times.items()}
    frame = table.frame.assign(**{name: table.frame[name] * scale for name in names})
    wanted = {name: known for name, known in (_NAMES | names).items() if name in frame}
    rows = frame[list(wanted)].rename(columns=wanted).to_dict("records")
    return [{name: value for name, value in row.items() if not pd.isna(value)} for row in rows]


def _columns(times: list[str]) -> tuple[Column, ...]:
    """The kinds of the cells that are read."""
    texts = [name for name in _NAMES if name not in _COUNTS and "Throughput" not in name]
    numbers = [name for name in _NAMES if "Throughput" in name]
    return (
        *(Column(name, "text", required=name in _REQUIRED) for name in texts),
        *(Column(name, "count", required=name in _REQUIRED) for name in _COUNTS),
        *(Column(name) for name in (*numbers, *times, _TOKENS_A_SECOND)),
    )


def _seconds_each(table: Table, times: list[str]) -> float:
    """What one unit of the table's times is in seconds. Raises ImportFormatError where the rows do not tell."""
    frame = table.frame
    per_token = next((name for name in times if name.startswith(_PER_TOKEN)), None)
    if per_token is None or _TOKENS_A_SECOND not in frame:
        missing = _TOKENS_A_SECOND if per_token else f"{_PER_TOKEN} (s)"
        raise ImportFormatError(
            f"{table.file}:1: {missing} is missing, which tells seconds from milliseconds. {_FIX}"
        )
    product = (frame[per_token] * frame[_TOKENS_A_SECOND]).to_numpy()
    for unit in (1.0, MS_PER_S):
        near = np.isnan(product) | _is_about(product, unit)
        if near.all() and not np.isnan(product).all():
            return 1.0 / unit
    worst = int(np.argmax(np.isnan(product) | ~_is_about(product, 1.0)))
    raise ImportFormatError(
        f"{table.file}:{table.lines[worst]}: {per_token} = {frame[per_token].iloc[worst]:g} is neither 1/"
        f"{_TOKENS_A_SECOND} in seconds nor in milliseconds ({frame[_TOKENS_A_SECOND].iloc[worst]:g} there). {_FIX}"
    )


def _is_about(product: Floats, unit: float) -> NDArray[np.bool_]:
    """Which products are a unit but for a ratio that two ways to count may differ by; 0 is none."""
    return (product > unit / _LARGEST_RATIO) & (product < unit * _LARGEST_RATIO)
