"""Results of ``vllm bench latency --output-json``: a static batch, measured from its start to its end.

The file holds nothing but times in seconds: model, lengths and batch are for the user to say. A batch is a closed
load of as many requests, of equal length, with tokens to the last (the client ignores end-of-sequence). Source:
github.com/vllm-project/vllm, ``vllm/benchmarks/latency.py``.
"""

import dataclasses
from typing import Any

import numpy as np

from calibrate.importers.client_results import read_rows
from calibrate.importers.imported import Imported
from calibrate.importers.run_folder import Row, amount, entries, imported_runs
from calibrate.records.errors import ImportFormatError
from sim.units import MS_PER_S

_PERCENTILES = (50, 90, 99)
_NOTES = "Static batches: the time of a batch from its start to its end, over repeats. No time to first token."
NEEDS = ("model", "tp", "concurrency", "input_tokens_mean", "output_tokens_mean")
"""Columns that the file never says; its batch is the concurrency."""


def read(source: str, gpu: str) -> Imported:
    """Read a result file, or a folder of them, without what no file says (``NEEDS``).

    Counts and rates are those of one request a batch, until :func:`of_batches`. Raises ImportFormatError if a file or
    a field is missing or wrong.
    """
    serving, left_out = read_rows(source, "vllm-latency", _row)
    return imported_runs(serving, left_out, gpu, {"notes": _NOTES})


def of_batches(imported: Imported) -> Imported:
    """The same with the counts and rates of whole batches, once their size and lengths are said."""
    serving = imported.tables["serving"]
    rate = serving["requests_per_s"] * serving["concurrency"]
    whole = serving.assign(
        num_requests=serving["num_requests"] * serving["concurrency"],
        input_tokens_std=0.0,
        output_tokens_std=0.0,
        requests_per_s=rate,
        output_tokens_per_s=rate * serving["output_tokens_mean"],
    )
    return dataclasses.replace(imported, tables={**imported.tables, "serving": whole})


def _row(content: dict[str, Any], where: str) -> Row | str:
    mean_s = amount(content, "avg_latency", where)
    repeats = entries(content, "latencies", where)
    for number in range(len(repeats)):
        amount({f"latencies[{number}]": repeats[number]}, f"latencies[{number}]", where)
    if not repeats or not mean_s:
        raise ImportFormatError(
            f"{where}: latencies must hold the time of one batch or more, and avg_latency their mean"
        )
    row: Row = {
        "engine": "vllm",
        "load": "closed",
        "num_requests": len(repeats),
        "failed_requests": 0,
    }
    row["e2e_ms_mean"] = round(mean_s * MS_PER_S, 4)
    for percentile in _PERCENTILES:
        row[f"e2e_ms_p{percentile}"] = round(
            float(np.percentile(repeats, percentile)) * MS_PER_S, 4
        )
    return {**row, "requests_per_s": 1.0 / mean_s}
