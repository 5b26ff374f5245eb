"""What the results of vLLM's and SGLang's serving benchmarks have in common, SGLang's being descended from vLLM's.

Latencies are ``mean_ttft_ms``, ``median_ttft_ms``, ``p99_ttft_ms`` and so on. ``tpot`` is a request's time per token
after the first, over requests; ``itl`` the gaps between stream chunks, over chunks. The table means the former.
"""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from calibrate.importers.bench_counts import given, read_counts
from calibrate.importers.client_load import load_columns
from calibrate.importers.request_detail import read_detail
from calibrate.importers.run_folder import Row, amount, number
from calibrate.records.errors import ImportFormatError

_STATISTICS = {"mean": ("mean",), "p50": ("median", "p50"), "p90": ("p90",), "p99": ("p99",)}
_CLOCK_MS = 0.01
_PER_CHUNK = "itl_per_chunk"
"""No column: a row whose inter-token latency is that of chunks, for want of the other."""


def read_measured(content: Mapping[str, Any], where: str, e2e: str) -> Row:
    """Columns of ``serving`` that a result's own figures give, and where they are silent its per-request detail.

    ``e2e`` is the client's name for end-to-end latency. A latency whose mean is 0 was not measured (the backend did
    not stream). Sums that somebody took out of a result leave their columns open. Raises ImportFormatError if no
    latency is there, or a field is negative or no number.
    """
    detail = read_detail(content, where)
    row = read_counts(content, where, detail)
    for what, name in (("ttft", "ttft"), ("itl", "tpot"), ("e2e", e2e)):
        row |= _latencies(content, where, what, name)
    row = {**(detail.columns() if detail else {}), **row}
    if not any(name.startswith("itl_ms") for name in row) and (
        chunks := _latencies(content, where, "itl", "itl")
    ):
        row |= {**chunks, _PER_CHUNK: True}
    if not any("_ms_" in name for name in row):
        raise ImportFormatError(
            f"{where}: the fields mean_ttft_ms, mean_tpot_ms and mean_{e2e}_ms are missing or 0"
        )
    return row


def read_load(
    content: Mapping[str, Any], where: str, row: Row, arrivals: str, shape: float = 1.0
) -> Row:
    """The load of a run whose other columns are ``row``.

    ``arrivals`` is its process where it has a rate, ``shape`` that of gamma gaps.
    """
    limit = amount(content, "max_concurrency", where) if given(content, "max_concurrency") else None
    rate = content.get("request_rate")
    unlimited = rate == "inf" or (isinstance(rate, float) and math.isinf(rate))
    per_second = math.inf if unlimited else amount(content, "request_rate", where)
    return load_columns(row, per_second, limit, arrivals, shape)


def bench_info(serving: pd.DataFrame, notes: str) -> Mapping[str, object]:
    """What ``campaign.toml`` says of such rows: how inter-token latency is defined, and what ``notes`` adds."""
    per_chunk = int(serving[_PER_CHUNK].eq(True).sum()) if _PER_CHUNK in serving else 0
    itl = "per-token" if not per_chunk else "per-chunk" if per_chunk == len(serving) else "unknown"
    if per_chunk:
        notes += f" {per_chunk} rows without TPOT hold the ITL of chunks."
    return {"itl": itl, "notes": notes}


def _latency_ms(content: Mapping[str, Any], where: str, name: str) -> float:
    """A time of 0 or more; the difference of two clocks that read the same may fall short of 0 by rounding."""
    value = number(content, name, where)
    return 0.0 if -_CLOCK_MS < value < 0 else amount(content, name, where)


def _latencies(content: Mapping[str, Any], where: str, what: str, name: str) -> Row:
    row: Row = {}
    for column, words in _STATISTICS.items():
        fields = [f"{word}_{name}_ms" for word in words if given(content, f"{word}_{name}_ms")]
        if fields:
            row[f"{what}_ms_{column}"] = round(_latency_ms(content, where, fields[0]), 4)
    return row if row.get(f"{what}_ms_mean", row.get(f"{what}_ms_p50")) else {}
