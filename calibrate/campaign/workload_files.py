"""Files of recorded requests as workloads: our own columns, or those of Azure's published traces."""

from pathlib import Path

import numpy as np
import pandas as pd

from calibrate.campaign.quality import Mask
from calibrate.records.errors import CalibrateError, CampaignError, Problem
from calibrate.records.reading.csv_rows import csv_header
from calibrate.records.schema import Column
from calibrate.records.tables import Table, read_table
from sim.serving.workload import Trace, trace
from sim.steps.batch import Floats
from sim.units import NS_PER_S

_LONGEST = float(1 << 30)
_YEARS = (1970, 2200)


def _columns(arrival: Column, *tokens: str) -> tuple[Column, ...]:
    return (arrival, *(Column(name, "count", required=True, largest=_LONGEST) for name in tokens))


_CACHED = Column("cached_tokens", "count", largest=_LONGEST)
_FORMATS = (
    (
        *_columns(Column("arrival_s", "amount", required=True), "prompt_tokens", "output_tokens"),
        _CACHED,
    ),
    _columns(Column("TIMESTAMP", "text", required=True), "ContextTokens", "GeneratedTokens"),
)


def read_workload(path: str | Path) -> Trace:
    """The requests of a CSV in order of arrival; its header says which of two formats it has.

    ``arrival_s`` (seconds from the start), ``prompt_tokens``, ``output_tokens`` and, as an option, ``cached_tokens``
    (of the prompt, in the prefix cache from the start); or ``TIMESTAMP``,
    ``ContextTokens`` and ``GeneratedTokens``, as the Azure LLM inference traces of 2023 and 2024 have them
    (github.com/Azure/AzurePublicDataset): the first timestamp is then 0. Raises CalibrateError naming file, line,
    column and value of whatever is wrong.
    """
    path = Path(path)
    columns = _format_of(path)
    table = read_table(path, columns)
    if bad := [problem for problem in table.problems if problem.severity == "error"]:
        raise CampaignError(bad)
    arrival, prompt, output = (column.name for column in columns[:3])
    for name in (prompt, output):
        _refuse(
            table,
            (table.frame[name] < 1).to_numpy(),
            name,
            "must be 1 token or more",
            "Leave the request out",
        )
    arrival_s = (
        table.frame[arrival].to_numpy() if columns[0].kind == "amount" else _seconds(table, arrival)
    )
    order = np.argsort(arrival_s, kind="stable")
    cached = (
        table.frame[_CACHED.name].fillna(0.0)
        if _CACHED.name in table.frame
        else np.zeros(len(order))
    )
    lengths = (table.frame[prompt], table.frame[output], cached)
    return trace(
        arrival_s[order], *(values.to_numpy()[order] for values in map(pd.Series, lengths))
    )


def _format_of(path: Path) -> tuple[Column, ...]:
    """The format most of whose columns the file's first line names."""
    header = csv_header(path)
    named = [len({column.name for column in columns} & set(header)) for columns in _FORMATS]
    if not max(named):
        known = ", or ".join(
            ", ".join(column.name for column in columns if column.required) for columns in _FORMATS
        )
        raise CalibrateError(
            f"{path}:1: a workload has the columns {known}; this file has {', '.join(header)[:200]!r}"
        )
    return _FORMATS[named.index(max(named))]


def _seconds(table: Table, name: str) -> Floats:
    """Timestamps, with or without fractions and time zones (UTC without), as seconds after the first."""
    times = pd.to_datetime(table.frame[name], format="ISO8601", utc=True, errors="coerce")
    fix = "Give it as 2023-11-16 18:15:46.6805900 or with +00:00 at its end"
    _refuse(table, times.isna().to_numpy(), name, "is no time", fix)
    odd = ~times.dt.year.between(*_YEARS).to_numpy()
    _refuse(table, odd, name, "is out of range", "Give the year in which it was recorded")
    since = times - times.min()
    seconds: Floats = since.dt.as_unit("ns").astype("int64").to_numpy() / NS_PER_S
    return seconds


def _refuse(table: Table, bad: Mask, name: str, what: str, fix: str) -> None:
    if bad.any():
        value = table.frame[name][bad].iloc[0]
        shown = f"{value:g}" if isinstance(value, float) else str(value)[:60]
        raise CampaignError(
            [
                Problem(
                    "error",
                    str(table.file),
                    what,
                    fix,
                    tuple(table.lines[bad].tolist()),
                    name,
                    shown,
                )
            ]
        )
