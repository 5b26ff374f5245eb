"""Lengths of single requests in Forward Pass Metrics, where a log has them, as the ``requests`` of its steps.

``extend_lengths`` and ``past_kv_lengths`` are beside a step's sums: for each request the tokens it computes and those
it has cached, prompts and decodes in any order. Source: github.com/ai-dynamo/aisimulate, ``fpm_hooks``.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim.steps.batch import Floats

LISTS = ("extend_lengths", "past_kv_lengths")
_STEP_ID = "s{}"


def with_requests(
    steps: pd.DataFrame, lists: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """``steps`` with a ``step_id`` where the requests are known, their ``requests``, and how many lists were refused.

    ``lists`` has a step's lists in the row of that step, NaN or None where there are none. Lists are refused, and a
    step keeps its sums, where they do not go with its counts and sums, or leave open which requests decode.
    """
    rows = np.flatnonzero(lists.notna().all(axis=1).to_numpy())
    if not len(rows):
        return steps, pd.DataFrame(), 0
    sizes = [np.array([len(cell) for cell in lists[name].iloc[rows]]) for name in LISTS]
    paired = (sizes[0] == sizes[1]) & (sizes[0] > 0)
    rows, each = rows[paired], sizes[0][paired]
    at = np.repeat(rows, each)
    new, past = (
        np.concatenate([np.empty(0), *lists[name].iloc[rows]]).astype(np.float64) for name in LISTS
    )
    decodes = (new == 1) & (steps["num_decode_requests"].to_numpy()[at] > 0)
    good = np.zeros(len(steps), dtype=bool)
    good[rows] = _agree(steps, at, new, past, decodes)[rows]
    of_good = good[at]
    requests = _table(at[of_good], new[of_good], past[of_good], decodes[of_good])
    step_id = np.where(good, [_STEP_ID.format(i) for i in range(len(steps))], "")
    return steps.assign(step_id=step_id), requests, int(len(paired) - good.sum())


def _agree(
    steps: pd.DataFrame,
    at: NDArray[np.intp],
    new: Floats,
    past: Floats,
    decodes: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Which steps have the counts and sums that their requests add up to, (n,); a decode may count its new token."""

    def total(values: Floats, of: NDArray[np.bool_]) -> Floats:
        sums: Floats = np.bincount(at, np.where(of, values, 0.0), len(steps)).astype(np.float64)
        return sums

    def said(name: str) -> Floats:
        column: Floats = steps[name].to_numpy(dtype=np.float64)
        return column

    each = np.ones(len(at))
    decoding = total(each, decodes)
    agree: NDArray[np.bool_] = (
        (decoding == said("num_decode_requests"))
        & (total(each, ~decodes) == said("num_prefill_requests"))
        & (total(new, ~decodes) == said("sum_prefill_tokens"))
        & (np.abs(total(past, decodes) - said("sum_decode_kv_tokens")) <= decoding)
    )
    if "sum_prefill_kv_tokens" in steps:
        agree &= total(past, ~decodes) == said("sum_prefill_kv_tokens")
    return agree


def _table(
    at: NDArray[np.intp], new: Floats, past: Floats, decodes: NDArray[np.bool_]
) -> pd.DataFrame:
    """The ``requests`` table: equal requests of a step are one row."""
    requests = pd.DataFrame(
        {
            "step": at,
            "phase": np.where(decodes, "decode", "prefill"),
            "context_tokens": past,
            "new_tokens": new,
        }
    )
    keys = list(requests)
    counted = requests.groupby(keys, sort=False).size().rename("count").reset_index()
    step_id = [_STEP_ID.format(i) for i in counted.pop("step")]
    return counted.assign(step_id=step_id)[["step_id", *counted.columns]]
