"""Load points that no engine on these GPUs could have served: faster than physics, or slower by orders of magnitude.

A step reads the weights once, whatever its batch. So no token and no first token comes sooner than that takes at the
peaks. A prompt that nobody cached is not computed sooner than its arithmetic takes.
"""

from typing import Any

import numpy as np
import pandas as pd

from calibrate.campaign.physics import Cause, fastest_us, likely_cause, peaks_of
from calibrate.campaign.rows import Mask, column_of, error, median_of, warning
from calibrate.campaign.thresholds import NEARLY_ALL, SERVING_SLOW, STEP_HOST_US
from calibrate.records.errors import Problem
from sim.hardware import Hardware
from sim.steps.batch import SERVED_AS, ArchitectureLoader, Floats, StepTable
from sim.units import US_PER_MS

_SECONDS = (1e3, "Probably seconds given as milliseconds: multiply the _ms_ columns by 1000")
_TOKEN_CAUSES: tuple[Cause, ...] = (
    (
        10.0,
        "Probably speculative decoding, whose tokens are not steps (leave the run out), output_tokens_mean above what "
        "was generated, or fp8 or int4 weights (say so in the dtype column)",
    ),
    _SECONDS,
)
_COUNT_CAUSES: tuple[Cause, ...] = (
    (
        10.0,
        "Probably a run that stopped early, or tokens counted that were never generated: give the tokens generated",
    ),
    _SECONDS,
)
_FIRST_CAUSES: tuple[Cause, ...] = (
    (
        10.0,
        "Probably a client that timed an empty first chunk, or fp8 or int4 weights (say so in the dtype column)",
    ),
    _SECONDS,
)
_UNIT = "Probably microseconds given as milliseconds: divide the _ms_ columns by 1000"


def check_serving_physics(
    file: str,
    serving: pd.DataFrame,
    load: ArchitectureLoader,
    hardware: Hardware,
) -> tuple[Mask, list[Problem]]:
    """Which load points the GPU's peaks allow; problems, with the likely cause, for the others and the doubtful.

    ``serving`` has its ``line`` column, and models and degrees that are known.
    """
    step_ms = _fastest_ms(serving, load, hardware, num_decode_requests=1, sum_decode_kv_tokens=1)
    token_ms = time_per_token_ms(serving)
    first_ms, itl_ms = _mean_or_median(serving, "ttft"), _mean_or_median(serving, "itl")
    too_fast = _is_below(token_ms, step_ms)
    by_itl = too_fast & (itl_ms < step_ms)
    possible, problems = np.ones(len(serving), dtype=bool), []
    for early, what, column, taken_ms, causes in (
        (by_itl, "a token in", "itl_ms_mean", token_ms, _TOKEN_CAUSES),
        (
            too_fast & ~by_itl,
            "end-to-end times leave a token",
            "output_tokens_mean",
            token_ms,
            _COUNT_CAUSES,
        ),
        (_is_below(first_ms, step_ms), "a first token in", "ttft_ms_mean", first_ms, _FIRST_CAUSES),
    ):
        message = _too_early(what, taken_ms[early], step_ms[early], hardware)
        with np.errstate(over="ignore"):
            times = float(np.median(step_ms[early] / taken_ms[early])) if early.any() else 1.0
        fix = likely_cause(times, causes)
        problems += error(file, serving, early, message, fix, column)
        possible &= ~early
    prompts = _check_prompts(file, serving, possible, first_ms, load, hardware)
    slow_kept, slow = _check_slow(file, serving, token_ms, step_ms)
    return possible & slow_kept, [*problems, *prompts, *slow]


def time_per_token_ms(serving: pd.DataFrame) -> Floats:
    """The mean time per token of each load point in ms, shape (n,); NaN where nothing tells it.

    (end-to-end − TTFT)/(output − 1), for what clients call ITL may count stream chunks; else the ITL; else
    end-to-end over all tokens.
    """
    e2e_ms, tokens = column_of(serving, "e2e_ms_mean"), column_of(serving, "output_tokens_mean")
    between = np.where(tokens > 1, tokens - 1.0, np.nan)
    known = (
        (e2e_ms - column_of(serving, "ttft_ms_mean")) / between,
        _mean_or_median(serving, "itl"),
        e2e_ms / np.where(tokens > 0, tokens, np.nan),
    )
    return np.select([~np.isnan(ms) for ms in known], known, np.nan)


def _is_below(taken_ms: Floats, least_ms: Floats) -> Mask:
    """Which times are too short; 0 stands for one that was not measured."""
    return (taken_ms > 0) & (taken_ms < least_ms)


def _mean_or_median(serving: pd.DataFrame, what: str) -> Floats:
    mean_ms, median_ms = (column_of(serving, f"{what}_ms_{s}") for s in ("mean", "p50"))
    return np.where(np.isnan(mean_ms), median_ms, mean_ms)


def _fastest_ms(
    serving: pd.DataFrame, load: ArchitectureLoader, hardware: Hardware, **batch: Any
) -> Floats:
    """The least time in ms of a step of one request on each row's GPUs, shape (n,)."""
    labels = [name for name in ("model", "tp", *SERVED_AS) if name in serving]
    steps = serving[labels].assign(**batch)
    return fastest_us(StepTable.from_columns(steps, load), hardware) / US_PER_MS


def _too_early(what: str, taken_ms: Floats, least_ms: Floats, hardware: Hardware) -> str:
    if not len(taken_ms):
        return ""
    return (
        f"faster than physics: {what} {taken_ms[0]:.3g} ms, where reading the weights once takes "
        f"{least_ms[0]:.3g} ms at {peaks_of(hardware)}"
    )


def _check_prompts(
    file: str,
    serving: pd.DataFrame,
    possible: Mask,
    first_ms: Floats,
    load: ArchitectureLoader,
    hardware: Hardware,
) -> list[Problem]:
    """A warning for prompts that were computed faster than the peaks allow: something was cached."""
    cached = np.nan_to_num(column_of(serving, "cached_input_tokens_mean"))
    new = np.nan_to_num(column_of(serving, "input_tokens_mean")) - cached
    prompt_ms = _fastest_ms(
        serving,
        load,
        hardware,
        num_prefill_requests=1,
        sum_prefill_tokens=np.maximum(new, 1.0),
    )
    explained = ~np.isnan(column_of(serving, "distinct_prompts"))
    early = possible & ~explained & _is_below(first_ms, prompt_ms)
    message = (
        f"a prompt takes {median_of(prompt_ms[early])} ms of arithmetic at {peaks_of(hardware)}, "
        f"{median_of(prompt_ms[early] / first_ms[early])} times the value"
    )
    fix = "Probably a prefix cache: give cached_input_tokens_mean, or distinct_prompts"
    return warning(file, serving, early, message, fix, "ttft_ms_mean")


def _check_slow(
    file: str, serving: pd.DataFrame, token_ms: Floats, step_ms: Floats
) -> tuple[Mask, list[Problem]]:
    """Which rows to keep; a table (nearly) all of whose tokens are slower than any engine's is in another unit."""
    slow = (step_ms > 0) & (token_ms > SERVING_SLOW * (step_ms + STEP_HOST_US / US_PER_MS))
    message = (
        f"a token takes {median_of(token_ms[slow] / step_ms[slow])} times as long as reading the weights once: no "
        "engine is so slow"
    )
    whole = slow.sum() >= NEARLY_ALL * len(serving)
    say = error if whole else warning
    return ~slow if whole else np.ones(len(serving), dtype=bool), say(
        file, serving, slow, message, _UNIT, "itl_ms_mean"
    )
