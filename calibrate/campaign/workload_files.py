"""Files of recorded requests as workloads: our own columns, or those of traces that others published."""

from pathlib import Path

import numpy as np
import pandas as pd

from calibrate.campaign.rows import Mask
from calibrate.campaign.workload_formats import CACHED, IN_CSV, IN_LINES, WorkloadFormat
from calibrate.campaign.workload_lines import is_lines, read_lines
from calibrate.records.errors import CalibrateError, CampaignError, Problem
from calibrate.records.reading.csv_rows import csv_header
from calibrate.records.tables import Table, read_table
from sim.serving.lengths import Ints
from sim.serving.workload import Trace, trace
from sim.steps.batch import Floats

_YEARS = (1970, 2200)
_YEAR = r"^(\d{4})-?\d\d-?\d\d"  # read apart: pandas before 3 knows no time outside 1677 to 2262


def read_workload(path: str | Path) -> Trace:
    """The requests of a file in order of arrival; its names say which format it has.

    A CSV with ``arrival_s`` (seconds from the start), ``prompt_tokens``, ``output_tokens`` and, as an option,
    ``cached_tokens`` (of the prompt, in the prefix cache from the start); a trace of Azure, Vidur or BurstGPT; or JSON
    lines of Mooncake, whose blocks that a request before had are cached, or of a run of LLMServingSim. All but the
    first begin with their first request. Raises CalibrateError naming file, line, column and value of whatever is
    wrong.
    """
    path = Path(path)
    known, table, cached = _read_csv(path) if not is_lines(path) else read_lines(path, IN_LINES)
    if bad := [problem for problem in table.problems if problem.severity == "error"]:
        raise CampaignError(bad)
    prompt, output = (table.frame[name] for name in (known.prompt, known.output))
    for tokens in (prompt, output):
        _refuse(
            table,
            (tokens < 1).to_numpy(),
            str(tokens.name),
            "must be 1 token or more",
            "Leave the request out",
        )
    arrival_s = _arrivals_s(table, known)
    order = np.argsort(arrival_s, kind="stable")
    lengths = (prompt.to_numpy(), output.to_numpy(), cached)
    return trace(arrival_s[order], *(values[order] for values in lengths))


def _read_csv(path: Path) -> tuple[WorkloadFormat, Table, Ints]:
    """The format of a CSV, its requests, and the tokens of each that are cached."""
    known = _format_of(path)
    table = read_table(path, known.columns)
    if CACHED not in known.optional or CACHED.name not in table.frame:
        return known, table, np.zeros(len(table.frame), dtype=np.int64)
    cached: Ints = table.frame[CACHED.name].fillna(0.0).to_numpy().astype(np.int64)
    return known, table, cached


def _format_of(path: Path) -> WorkloadFormat:
    """The format most of whose columns the file's first line names."""
    header = csv_header(path)
    named = [len({column.name for column in each.columns} & set(header)) for each in IN_CSV]
    if not max(named):
        columns = ", or ".join(", ".join(each.required) for each in IN_CSV)
        raise CalibrateError(
            f"{path}:1: a workload has the columns {columns}; this file has {', '.join(header)[:200]!r}"
        )
    return IN_CSV[named.index(max(named))]


def _arrivals_s(table: Table, known: WorkloadFormat) -> Floats:
    if known.seconds is None:
        return _times_s(table, known.arrival)
    arrival_s: Floats = table.frame[known.arrival].to_numpy() * known.seconds
    return arrival_s - arrival_s.min() if known.from_first else arrival_s


def _times_s(table: Table, name: str) -> Floats:
    """Timestamps, with or without fractions and time zones (UTC without), as seconds after the first."""
    years = table.frame[name].astype(str).str.extract(_YEAR, expand=False).astype(float)
    times = pd.to_datetime(table.frame[name], format="ISO8601", utc=True, errors="coerce")
    years = years.where(years.notna(), times.dt.year.astype(float))
    odd = (years.notna() & ~years.between(*_YEARS)).to_numpy()
    _refuse(table, odd, name, "is out of range", "Give the year in which it was recorded")
    fix = "Give it as 2023-11-16 18:15:46.6805900 or with +00:00 at its end"
    _refuse(table, times.isna().to_numpy(), name, "is no time", fix)
    since = times - times.min()
    seconds: Floats = np.asarray(since.dt.total_seconds(), dtype=np.float64)
    return seconds


def _refuse(table: Table, bad: Mask, name: str, what: str, fix: str) -> None:
    if bad.any():
        value = table.frame[name][bad].iloc[0]
        shown = f"{value:g}" if isinstance(value, float) else str(value)[:60]
        lines = tuple(table.lines[bad].tolist())
        raise CampaignError([Problem("error", str(table.file), what, fix, lines, name, shown)])
