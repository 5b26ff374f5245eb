"""What a table of good rows may still lack: warnings, each with the rows it means and what to do."""

import numpy as np
import pandas as pd
import scipy.stats

from calibrate.campaign.rows import Mask, warning
from calibrate.campaign.thresholds import (
    FEWEST_BATCHES,
    FLAT,
    HALF_SLOPE,
    REPLICATE_FACTOR,
    REPLICATE_SPREAD,
    SMALL_DECODE_BATCH,
    WIDE_BATCHES,
)
from calibrate.records.errors import Problem
from sim.steps.batch import ArchitectureLoader, Floats, StepTable


def check_degrees(file: str, rows: pd.DataFrame, load: ArchitectureLoader) -> list[Problem]:
    """Warnings of rows whose tensor-parallel degree does not divide the model's attention heads."""
    dtypes = rows["dtype"] if "dtype" in rows else [""] * len(rows)
    labels = list(zip(rows["model"], dtypes, strict=True))
    heads = {(model, dtype): load(model, dtype or None).num_heads for model, dtype in set(labels)}
    undivided = np.array([heads[label] for label in labels]) % rows["tp"].to_numpy() > 0
    fix = "Check tp: an engine splits whole heads only; pipeline or data parallelism is not tp"
    message = "does not divide the attention heads of the model"
    return warning(file, rows, undivided, message, fix, "tp")


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


def check_sums(file: str, steps: pd.DataFrame, table: StepTable) -> list[Problem]:
    """A warning for decodes whose context does not grow with the batch: a mean stands where the sum belongs.

    For each model and degree with enough batches, ln(context) is a straight line over ln(batch); its slope is 1
    where lengths do not depend on the batch.
    """
    if table.listed is not None:
        return []
    batch, context = table.moments[6], table.moments[7]
    decodes = (batch > 0) & (context > 0)
    flat = np.zeros(len(table), dtype=bool)
    group = pd.Series(list(zip(table.arch_index, table.tp, strict=True)))
    for rows in group[decodes].groupby(group[decodes]).groups.values():
        flat[rows] = _is_flat(np.log(batch[rows]), np.log(context[rows]))
    message = (
        "does not grow with num_decode_requests: a mean over the requests, where their sum belongs"
    )
    fix = "Give the context summed over all requests (the mean times num_decode_requests)"
    return warning(file, steps, flat, message, fix, "sum_decode_kv_tokens")


def _is_flat(x: Floats, y: Floats) -> bool:
    """Whether y is as good as constant over a wide x, and certainly does not grow like it."""
    if len(x) < FEWEST_BATCHES or np.ptp(x) < np.log(WIDE_BATCHES):
        return False
    if np.ptp(y) == 0.0:
        return True
    line = scipy.stats.linregress(x, y)
    return bool(line.slope < FLAT and line.slope + 2.0 * line.stderr < HALF_SLOPE)


def check_runs(where: str, steps: pd.DataFrame) -> list[Problem]:
    """A warning for steps that are all of one run: their errors go together, and none can be held out."""
    if len(steps) < 2 or "run_id" not in steps or set(steps["run_id"]) - {steps["run_id"].iloc[0]}:
        return []
    name = steps["run_id"].iloc[0]
    if not name:
        return []
    fix = "Give rows of separate measurements a run_id of their own, or measure again"
    message = "the only run: no error can be held out by run, and intervals are not known"
    return [Problem("warning", where, message, fix, column="run_id", value=str(name)[:60])]


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
