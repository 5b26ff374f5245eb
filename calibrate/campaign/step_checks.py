"""Every check of a ``steps`` table, one after the other: what is left are the steps that stand for their points."""

from pathlib import Path

import pandas as pd

from calibrate.campaign.quality import (
    check_duplicates,
    check_executions,
    check_replicates,
    check_sums,
    step_points,
)
from calibrate.campaign.serving_rules import check_derived_steps
from calibrate.campaign.step_rows import kept, read_steps
from calibrate.records.errors import Problem
from calibrate.records.tables import Table
from sim.hardware import Hardware
from sim.steps.batch import StepTable


def checked_steps(
    source: Table,
    requests: Table | None,
    serving: pd.DataFrame,
    hardware: Hardware | None,
    folder: Path | None = None,
) -> tuple[pd.DataFrame, StepTable, list[Problem]]:
    """The good steps, those that a ``serving`` run belies left out, the same as a step table, and every problem."""
    steps, table, problems = read_steps(source, requests, hardware, folder)
    if not len(steps) or "latency_us" not in steps:
        return steps, table, problems
    file = str(source.file)
    problems += [
        *check_duplicates(file, steps, "latency_us"),
        *check_sums(file, steps, table),
    ]
    one_way, found = check_executions(file, steps, step_points(table))
    steps, table = kept(steps, table, one_way)
    problems += [*found, *check_replicates(file, steps, step_points(table))]
    trusted, found = check_derived_steps(file, steps, serving)
    return *kept(steps, table, trusted), [*problems, *found]
