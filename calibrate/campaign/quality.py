"""What a table of good rows may still lack: warnings, each with the rows it means and what to do."""

import numpy as np
import pandas as pd

from calibrate.campaign.rows import Mask, warning
from calibrate.campaign.thresholds import (
    REPLICATE_FACTOR,
    REPLICATE_SPREAD,
    SMALL_DECODE_BATCH,
)
from calibrate.records.errors import Problem
from sim.steps.batch import StepTable


def check_duplicates(file: str, frame: pd.DataFrame, column: str) -> list[Problem]:
    """A warning for rows that repeat another to the letter; ``column`` is the one to show."""
    repeated = frame.drop(columns="line").duplicated(keep="first").to_numpy()
    fix = "Remove it unless it was measured twice"
    return warning(file, frame, repeated, "repeats an earlier row to the letter", fix, column)


def check_replicates(file: str, frame: pd.DataFrame, point: pd.DataFrame) -> list[Problem]:
    """Warnings for latencies of one ``point`` (rows equal in all its columns) that disagree."""
    latency = frame["latency_us"]
    groups = latency.groupby(
        [point[column].to_numpy() for column in point], sort=False, dropna=False
    )
    several = (groups.transform("size") > 2).to_numpy()
    ratio = (latency / groups.transform("median")).to_numpy()
    off = several & ((ratio > REPLICATE_FACTOR) | (ratio < 1 / REPLICATE_FACTOR))
    wide = (
        several
        & ~off
        & (groups.transform("std") / groups.transform("mean") > REPLICATE_SPREAD).to_numpy()
    )
    spread = f"its replicates spread by more than {REPLICATE_SPREAD:.0%}"
    far = f"is {REPLICATE_FACTOR} times off the median of its replicates"
    return [
        *warning(
            file, frame, wide, spread, "Measure again; the fit trusts these rows less", "latency_us"
        ),
        *warning(file, frame, off, far, "Check the run", "latency_us"),
    ]


def check_executions(
    file: str, steps: pd.DataFrame, point: pd.DataFrame
) -> tuple[Mask, list[Problem]]:
    """Which steps stand for their point: not those launched one kernel at a time where a graph of it was measured too.

    An engine runs the graph; beside it the others would blur the overhead that a fit sees.
    """
    if "execution" not in steps:
        return np.ones(len(steps), dtype=bool), []
    is_graph = (steps["execution"] == "graph").to_numpy()
    groups = [point[column].to_numpy() for column in point]
    has_graph = pd.Series(is_graph).groupby(groups, sort=False).transform("any").to_numpy()
    aside = has_graph & (steps["execution"] == "eager").to_numpy()
    message = (
        "the same step was measured as a graph too, which engines run: this row is kept out of fits"
    )
    return ~aside, warning(
        file, steps, aside, message, "Nothing to do: the difference is host overhead", "execution"
    )


def step_points(table: StepTable) -> pd.DataFrame:
    """What makes two steps replicates of one another: model, degree and batch, one row a step."""
    return pd.DataFrame(np.vstack([table.arch_index, table.tp, table.moments]).T)


def check_coverage(where: str, table: StepTable) -> list[Problem]:
    """Warnings for steps that cover one regime only, so that parameters cannot be told apart."""
    if not len(table):
        return []
    decode_batch = table.moments[6].max()
    phases = set(table.phases)
    found = []
    if len(set(table.tp.tolist())) == 1:
        found.append(
            (f"only tp {table.tp[0]}", "Measure another tp to see exponents and all-reduce time")
        )
    if len({a.name for a in table.architectures}) == 1:
        found.append(
            (
                f"only the model {table.architectures[0].name}",
                "Measure another to see how the fit carries over",
            )
        )
    if not phases & {"prefill", "mixed"}:
        found.append(("no prefill steps", "Measure some to see mfuPrefill"))
    if not phases & {"decode", "mixed"}:
        found.append(("no decode steps", "Measure some to see BwEffConstant"))
    elif decode_batch <= SMALL_DECODE_BATCH:
        found.append(
            (
                f"no decode above batch {decode_batch:.0f}",
                "Measure batch 128 and more to see mfuDecode",
            )
        )
    return [Problem("warning", where, message, fix) for message, fix in found]
