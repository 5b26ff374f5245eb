"""What step rows must pass before anything is fitted to them, beyond each cell being of its kind."""

from collections.abc import Set

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.campaign.model_checks import check_models, unknown_type
from calibrate.campaign.rows import Mask
from calibrate.campaign.thresholds import ROUNDING
from calibrate.records.errors import Problem
from calibrate.records.tables import Table
from sim.steps.batch import COUNT_COLUMNS, ArchitectureLoader, Floats
from sim.units import DTYPE_BYTES

Check = tuple[Mask, str, str, str]
"""Which rows are wrong, the column, what is wrong, and the fix."""


def check_requests(requests: Table, steps: pd.DataFrame) -> tuple[pd.DataFrame, list[Problem]]:
    """The good rows of a ``requests`` table, and what is wrong with the others."""
    frame, file = requests.frame, str(requests.file)
    if not {"step_id", "phase", "context_tokens"} <= set(frame) or not len(frame):
        return frame.iloc[:0], []
    frame = frame.assign(
        count=frame["count"].fillna(1.0) if "count" in frame else 1.0,
        new_tokens=frame.get("new_tokens", np.nan),
    )
    known = set(steps["step_id"]) if "step_id" in steps else set()
    is_prefill = (frame["phase"] == "prefill").to_numpy()
    bad_phase = ~is_prefill & (frame["phase"] != "decode").to_numpy()
    lost = ~frame["step_id"].isin(known).to_numpy()
    new_tokens = frame["new_tokens"].to_numpy(dtype=np.float64)
    no_tokens = is_prefill & ~(new_tokens >= 1)
    odd_decode = ~is_prefill & ~np.isnan(new_tokens) & (new_tokens != 1)
    no_count = (frame["count"] < 1).to_numpy()
    problems = _collect(
        file,
        frame,
        requests.lines,
        [
            (bad_phase, "phase", "must be prefill or decode", "Correct it"),
            (
                lost,
                "step_id",
                "no row of steps has this step_id",
                "Add the step or remove the request",
            ),
            (
                no_tokens,
                "new_tokens",
                "a prefill request computes one token at least",
                "Fill it in",
            ),
            (
                odd_decode,
                "new_tokens",
                "a decode request computes one token",
                "Leave it empty, or make it a prefill",
            ),
            (
                no_count,
                "count",
                "a row of requests stands for one at least",
                "Correct it or remove the row",
            ),
        ],
    )
    good = frame[~(bad_phase | lost | no_tokens | odd_decode | no_count)].copy()
    good["new_tokens"] = good["new_tokens"].fillna(1.0)
    return good, problems


def check_steps(
    file: str, steps: pd.DataFrame, load: ArchitectureLoader, with_requests: Set[str]
) -> tuple[pd.DataFrame, list[Problem]]:
    """The rows of ``steps`` that make sense, and every problem of the others."""
    problems, bad = check_models(file, steps, load)
    checks = [*_label_checks(steps), *_batch_checks(steps, with_requests)]
    for mask, *_ in checks:
        bad |= mask
    problems += _collect(file, steps, steps["line"].to_numpy(), checks)
    good = steps[~bad].reset_index(drop=True) if bad.any() else steps
    return good, problems


def check_labels(
    file: str, rows: pd.DataFrame, load: ArchitectureLoader
) -> tuple[pd.DataFrame, list[Problem]]:
    """The rows whose model, degree and weight type are known, and every problem of the others."""
    problems, bad = check_models(file, rows, load)
    checks = _label_checks(rows)
    for mask, *_ in checks:
        bad |= mask
    problems += _collect(file, rows, rows["line"].to_numpy(), checks)
    return rows[~bad].reset_index(drop=True), problems


def _label_checks(steps: pd.DataFrame) -> list[Check]:
    tp_bad = (steps["tp"] < 1).to_numpy()
    known = f"(known: {', '.join(DTYPE_BYTES)})"
    return [
        (tp_bad, "tp", "must be 1 or more", "Correct the tensor-parallel degree"),
        (unknown_type(steps, "dtype"), "dtype", f"is not a weight type {known}", "Correct it"),
        (
            unknown_type(steps, "kv_dtype"),
            "kv_dtype",
            f"is not a type of cached keys and values {known}",
            "Correct it (an engine's fp8_e4m3 is fp8), or leave it empty",
        ),
        (
            unknown_type(steps, "moe_dtype"),
            "moe_dtype",
            f"is not a weight type {known}",
            "Correct it",
        ),
        (
            _above_one(steps, "dp"),
            "dp",
            "no latency model computes attention that is data-parallel",
            "Leave such rows out",
        ),
        (
            _uneven_ep(steps),
            "ep",
            "does not divide tp: experts are shared between the GPUs of tp",
            "Correct it; 1 where every expert is split between all GPUs",
        ),
    ]


def _above_one(steps: pd.DataFrame, column: str) -> Mask:
    if column not in steps:
        return np.zeros(len(steps), dtype=bool)
    return (steps[column] > 1).to_numpy()


def _uneven_ep(steps: pd.DataFrame) -> Mask:
    if "ep" not in steps:
        return np.zeros(len(steps), dtype=bool)
    ep = steps["ep"].fillna(1.0)
    return ((ep < 1) | (steps["tp"] % ep.where(ep >= 1, 1.0) > 0)).to_numpy()


def _batch_checks(steps: pd.DataFrame, with_requests: Set[str]) -> list[Check]:
    """Whether the batch columns can be those of a step; rows that the requests table describes are let be."""
    counts = {
        name: steps[name].fillna(0.0).to_numpy() if name in steps else np.zeros(len(steps))
        for name in COUNT_COLUMNS
    }
    given = (
        steps["step_id"].isin(with_requests).to_numpy()
        if "step_id" in steps
        else np.zeros(len(steps), dtype=bool)
    )
    prefill = counts["num_prefill_requests"]
    tokens = counts["sum_prefill_tokens"]
    decode = counts["num_decode_requests"]
    checks = [
        (
            ~given & (prefill + decode == 0),
            "num_prefill_requests",
            "a step without any request",
            "Fill in the batch columns or add rows to the requests table",
        ),
        (
            ~given & (tokens < prefill),
            "sum_prefill_tokens",
            "fewer tokens than prefill requests",
            "Give new tokens summed over all requests, not a mean",
        ),
        (
            ~given & (prefill == 0) & (tokens > 0),
            "sum_prefill_tokens",
            "prefill tokens without a prefill request",
            "Fill in num_prefill_requests",
        ),
        (
            ~given & (counts["sum_decode_kv_tokens"] < decode),
            "sum_decode_kv_tokens",
            "fewer context tokens than decode requests",
            "Give the context summed over all requests, not a mean",
        ),
        (
            ~given & (decode == 0) & (counts["sum_decode_kv_tokens"] > 0),
            "sum_decode_kv_tokens",
            "decode context without a decode request",
            "Fill in num_decode_requests",
        ),
    ]
    few, many = _possible_pairs(prefill, tokens, counts["sum_prefill_kv_tokens"])
    pairs = (
        steps["sum_prefill_qk_pairs"].to_numpy()
        if "sum_prefill_qk_pairs" in steps
        else np.full(len(steps), np.nan)
    )
    wrong_pairs = ~given & ((pairs < few * (1 - ROUNDING)) | (pairs > many * (1 + ROUNDING)))
    fix = "Give Σ n·(s + (n − 1)/2) over the requests, or leave the column out"
    checks.append(
        (wrong_pairs, "sum_prefill_qk_pairs", "no requests of these tokens have so many pairs", fix)
    )
    return checks


def _collect(
    file: str, frame: pd.DataFrame, lines: NDArray[np.int64], checks: list[Check]
) -> list[Problem]:
    problems = []
    for mask, column, message, fix in checks:
        if mask.any():
            first = frame[column].iloc[int(np.argmax(mask))] if column in frame else None
            value = (
                None
                if first is None
                else f"{first:g}"
                if isinstance(first, float)
                else str(first)[:60]
            )
            problems.append(
                Problem(
                    "error",
                    file,
                    message,
                    fix,
                    tuple(lines[mask].astype(int).tolist()),
                    column,
                    value,
                )
            )
    return problems


def _possible_pairs(requests: Floats, tokens: Floats, context: Floats) -> tuple[Floats, Floats]:
    """The fewest query-key pairs of some requests (lengths equal, context where it costs least) and the most.

    The most counts a token's pair with itself, as some engines do.
    """
    length = tokens / np.maximum(requests, 1.0)
    fewest = np.minimum(context, tokens * context) + tokens * np.maximum(length - 1.0, 0.0) / 2
    most = tokens * (context + (tokens + 1.0) / 2)
    return fewest, most
