"""What a table of good rows may still lack: warnings, each with the rows it means and what to do."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.campaign.rows import Mask, labels_of, may_repeat, warning
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
    dtypes = rows["dtype"] if "dtype" in rows else pd.Series("", index=rows.index)
    label, labels = labels_of(rows["model"], dtypes)
    heads = np.array([load(model, dtype or None).num_heads for model, dtype in labels])
    undivided = heads[label] % rows["tp"].to_numpy() > 0
    fix = "Check tp: an engine splits whole heads only; pipeline or data parallelism is not tp"
    message = "does not divide the attention heads of the model"
    return warning(file, rows, undivided, message, fix, "tp")


def check_duplicates(file: str, frame: pd.DataFrame, column: str) -> list[Problem]:
    """A warning for rows that repeat another to the letter; ``column`` is the one to show."""
    rows = frame.drop(columns="line")
    repeated = may_repeat(rows[name] for name in rows)
    if not repeated.any():
        return []
    repeated[repeated] = rows[repeated].duplicated(keep="first").to_numpy()
    fix = "Remove it unless it was measured twice"
    return warning(file, frame, repeated, "repeats an earlier row to the letter", fix, column)


def check_replicates(file: str, frame: pd.DataFrame, point: pd.DataFrame) -> list[Problem]:
    """Warnings for latencies of one ``point`` (rows equal in all its columns) that disagree."""
    wide, off = np.zeros((2, len(frame)), dtype=bool)
    alike = may_repeat(point[name] for name in point)
    if not alike.any():
        return []
    latency = frame["latency_us"][alike]
    groups = latency.groupby(_keys(point[alike]), sort=False, dropna=False)
    several = groups.transform("size") > 2
    ratio = latency / groups.transform("median")
    off[alike] = several & ((ratio > REPLICATE_FACTOR) | (ratio < 1 / REPLICATE_FACTOR))
    spreads = groups.transform("std") / groups.transform("mean") > REPLICATE_SPREAD
    wide[alike] = several & spreads
    wide &= ~off
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
    alike = may_repeat(point[name] for name in point)
    is_graph = steps["execution"][alike] == "graph"
    aside = (steps["execution"] == "eager").to_numpy(copy=True)
    aside[alike] &= is_graph.groupby(_keys(point[alike]), sort=False).transform("any").to_numpy()
    aside &= alike
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
    rows = np.flatnonzero(decodes)
    slices = pd.Series(rows).groupby([table.arch_index[rows], table.tp[rows]])
    for places in slices.indices.values():
        of_slice = rows[places]
        flat[of_slice] = _is_flat(np.log(batch[of_slice]), np.log(context[of_slice]))
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
    slope, error = _slope(x, y)
    return slope < FLAT and slope + 2.0 * error < HALF_SLOPE


def _slope(x: Floats, y: Floats) -> tuple[float, float]:
    """The slope of a straight line through points, by least squares, and its standard error.

    As :func:`scipy.stats.linregress` has them, which takes longer to import than all else that checks rows.
    """
    (xx, xy), (_, yy) = np.cov(x, y, bias=True)
    slope = xy / xx
    unexplained = max(yy - slope * xy, 0.0)
    return float(slope), float(np.sqrt(unexplained / xx / (len(x) - 2)))


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
    columns = dict(enumerate([table.arch_index, table.tp, *table.moments]))
    return pd.DataFrame(columns, copy=False)


def _keys(point: pd.DataFrame) -> list[NDArray[np.generic]]:
    return [point[column].to_numpy() for column in point]


def check_coverage(where: str, table: StepTable) -> list[Problem]:
    """Warnings for steps that cover one regime only, so that parameters cannot be told apart."""
    if not len(table):
        return []
    has_prefill = table.moments[0].any()
    decode_batch = table.moments[6].max()
    found = []
    if (table.tp == table.tp[0]).all():
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
    if not has_prefill:
        found.append(("no prefill steps", "Measure some to see mfuPrefill"))
    if not decode_batch:
        found.append(("no decode steps", "Measure some to see BwEffConstant"))
    elif decode_batch <= SMALL_DECODE_BATCH:
        found.append(
            (
                f"no decode above batch {decode_batch:.0f}",
                "Measure batch 128 and more to see mfuDecode",
            )
        )
    return [Problem("warning", where, message, fix) for message, fix in found]
