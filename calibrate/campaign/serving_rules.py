"""What serving runs must pass: whether their own figures agree, whether they were overloaded, and what they served."""

import re
import string

import numpy as np
import pandas as pd

from calibrate.campaign.rows import Mask, column_of, median_of, warning
from calibrate.campaign.serving_rates import parts_ms
from calibrate.campaign.thresholds import (
    CHANCE,
    DISAGREEMENT,
    FAILED,
    FINISHED,
    LONGEST,
    SAME_LATENCY,
    STOPPED_EARLY,
    TWO_TOKENS,
    WAITING_MS,
    WAITING_REQUESTS,
)
from calibrate.records.errors import Problem
from calibrate.records.schema import GREEDY, NAMED_MODELS, RANDOM
from sim.architecture_files import architecture_names, canonical_model
from sim.steps.batch import Floats
from sim.units import MS_PER_S, US_PER_MS

_SIZE = re.compile(r"(?:\d+x)?\d+(?:\.\d+)?b(?![a-z\d])")  # 7b, 8x7b, 1.5b


def check_serving(file: str, serving: pd.DataFrame) -> list[Problem]:
    """Warnings for rows whose figures disagree, that were overloaded, or that ran another model than they say."""
    return [
        *_check_latencies(file, serving),
        *_check_load(file, serving),
        *_check_names(file, serving),
        *_check_sampling(file, serving),
    ]


def overloaded(serving: pd.DataFrame) -> Mask:
    """Which rows of a ``serving`` table, shape (n,), say nothing about step time because requests queued up.

    Such a row shows one of these: a tenth of its requests failed; or its load is open and the engine finished less
    than nine tenths of what it could (requests arrive, then the longest one ends; and less than chance explains),
    more requests were in it than ``max_num_seqs`` on average (Little's law, L = λ·W), or time to first token is above
    a second while more than ten requests wait for theirs. A closed load holds back what the engine cannot take.
    """
    requests = column_of(serving, "num_requests")
    e2e_s = column_of(serving, "e2e_ms_mean") / MS_PER_S
    is_open = ~np.isnan(column_of(serving, "request_rate"))
    if "load" in serving:
        is_open &= (serving["load"] != "closed").to_numpy()
    rate = np.where(is_open, column_of(serving, "request_rate"), 0.0)
    ttft_ms = column_of(serving, "ttft_ms_mean")
    with np.errstate(invalid="ignore", divide="ignore"):
        # The last requests finish after the last has arrived
        drained = np.nan_to_num(rate * _drain_s(serving) / requests)
        share = FINISHED - CHANCE / np.sqrt(np.nan_to_num(requests, nan=np.inf))
        unfinished = is_open & (
            column_of(serving, "requests_per_s") < share * rate / (1.0 + drained)
        )
        waiting = (ttft_ms > WAITING_MS) & (rate * ttft_ms / MS_PER_S > WAITING_REQUESTS)
        crowded = rate * e2e_s > column_of(serving, "max_num_seqs")
        failed = column_of(serving, "failed_requests") > FAILED * requests
    return failed | unfinished | waiting | crowded


def check_derived_steps(
    file: str, steps: pd.DataFrame, serving: pd.DataFrame
) -> tuple[Mask, list[Problem]]:
    """Which decode steps to trust that are a run's mean inter-token latency, and a warning for the others.

    A step belongs to the row of ``serving`` of its ``run_id`` if its latency is that row's ``itl_ms_mean``; then the
    run must have lasted as long as its parts: less, and it stopped before the tokens that the mean is said to be
    over; far more, and the batch did not run at once.
    """
    keep = np.ones(len(steps), dtype=bool)
    if not {"run_id", "num_decode_requests"} <= set(steps) or not {"run_id", "itl_ms_mean"} <= set(
        serving
    ):
        return keep, []
    runs = (
        serving[serving["run_id"] != ""].drop_duplicates("run_id", keep=False).set_index("run_id")
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        itl_us, lasted = (
            steps["run_id"].map(pd.Series(values, index=runs.index)).to_numpy(dtype=np.float64)
            for values in (
                column_of(runs, "itl_ms_mean") * US_PER_MS,
                column_of(runs, "e2e_ms_mean") / parts_ms(runs),
            )
        )
        derived = (steps["num_decode_requests"] > 0).to_numpy() & (
            np.abs(steps["latency_us"].to_numpy() / itl_us - 1.0) < SAME_LATENCY
        )
        short = derived & (lasted < 1.0 - STOPPED_EARLY)
        long = derived & (lasted > 1.0 + DISAGREEMENT)
    fix = "Left out of fits; to fit them all the same, remove serving.csv"
    stopped = (
        "its run ended before its parts (end-to-end below TTFT + ITL·(output − 1)): it stopped early, so its token "
        "time is a mean over fewer tokens, at less context, than this row says"
    )
    apart = (
        "its run lasted far longer than its parts (end-to-end above TTFT + ITL·(output − 1)): its requests did not "
        "run as one batch"
    )
    return ~(short | long), [
        *warning(file, steps, short, stopped, fix, "latency_us"),
        *warning(file, steps, long, apart, fix, "latency_us"),
    ]


def _check_latencies(file: str, serving: pd.DataFrame) -> list[Problem]:
    """TTFT + ITL·(output − 1) against end-to-end, each way of disagreeing with its likely cause."""
    itl = column_of(serving, "itl_ms_mean")
    e2e = column_of(serving, "e2e_ms_mean")
    parts = parts_ms(serving)
    with np.errstate(invalid="ignore", divide="ignore"):
        short = parts < (1 - DISAGREEMENT) * e2e
        long = parts > (1 + DISAGREEMENT) * e2e
        true_itl = (e2e - column_of(serving, "ttft_ms_mean")) / (
            column_of(serving, "output_tokens_mean") - 1.0
        )
        ratio = true_itl / itl
    twice = short & (ratio > TWO_TOKENS[0]) & (ratio < TWO_TOKENS[1])
    sums = f"TTFT + ITL·(output − 1) is more than {DISAGREEMENT:.0%}"
    redo = "Take (end-to-end − TTFT)/(output − 1) as the time per token"
    chunks = f"{sums} below end-to-end: the client counted stream chunks, two a token, and halved the ITL"
    few = (
        f"{sums} below end-to-end (time per token {median_of(ratio[short & ~twice])} × ITL): output tokens miscounted "
        "by re-tokenising the text, or requests held up after their first token"
    )
    stopped = (
        f"{sums} above end-to-end (time per token {median_of(ratio[long])} × ITL): the run stopped early, or output "
        "tokens miscounted by re-tokenising the text"
    )
    return [
        *warning(file, serving, twice, chunks, redo, "itl_ms_mean"),
        *warning(
            file, serving, short & ~twice, few, f"Give the requested length. {redo}", "itl_ms_mean"
        ),
        *warning(
            file,
            serving,
            long,
            stopped,
            "Give the tokens generated, or leave the row out",
            "itl_ms_mean",
        ),
    ]


def _check_load(file: str, serving: pd.DataFrame) -> list[Problem]:
    queued = overloaded(serving)
    failed = ~queued & (column_of(serving, "failed_requests") > 0)
    others = "some requests failed; the row is of the others"
    message = (
        "an overloaded run (failed requests, TTFT of seconds, or more requests than the engine finished): it says "
        "nothing about step time"
    )
    column = "request_rate" if "request_rate" in serving else "failed_requests"
    return [
        *warning(
            file, serving, queued, message, "Left out by default; measure at a lower rate", column
        ),
        *warning(file, serving, failed, others, "Check why they failed", "failed_requests"),
    ]


def _check_sampling(file: str, serving: pd.DataFrame) -> list[Problem]:
    if "sampling" not in serving:
        return []
    unknown = ~serving["sampling"].isin(("", GREEDY, RANDOM)).to_numpy()
    message = "is no way of sampling that is known; the row is taken as one that says nothing"
    return warning(file, serving, unknown, message, f"Give {GREEDY} or {RANDOM}", "sampling")


def _check_names(file: str, serving: pd.DataFrame) -> list[Problem]:
    """The row's model against every name the run itself gives one, and against its folder's."""
    problems = []
    for column in (name for name in NAMED_MODELS if name in serving):
        said = serving[column].map(_known_as)
        off = ((serving[column] != "") & (said != serving["model"].map(_known_as))).to_numpy()
        for model in serving["model"][off].unique():
            rows = off & (serving["model"] == model).to_numpy()
            message = f"disagrees with the row's model, {model}"
            problems += warning(
                file, serving, rows, message, "Find out which was served; correct model", column
            )
    if "folder" in serving:
        pairs = zip(serving["folder"], serving["model"], strict=True)
        off = np.array(
            [_contradicts(str(folder), str(model)) for folder, model in pairs], dtype=bool
        )
        for model in serving["model"][off].unique():
            rows = off & (serving["model"] == model).to_numpy()
            message = f"names another model than {model}, which was served"
            problems += warning(
                file, serving, rows, message, "Trust the server's log; rename the folder", "folder"
            )
    return problems


def _contradicts(folder: str, model: str) -> bool:
    """Whether a folder's name, or the one it had, holds a model's family or size that is not this model's."""
    name = model.lower().rsplit("/", 1)[-1]
    own = set(_SIZE.findall(name))
    families = {
        known[: len(known) - len(known.lstrip(string.ascii_lowercase))]
        for known in architecture_names()
    }
    for label in folder.lower().split(" (was "):
        sizes = set(_SIZE.findall(label))
        words = families & set(re.findall(r"[a-z]+", label))
        if (sizes and own and not sizes & own) or (
            words and not any(word in name for word in words)
        ):
            return True
    return False


def _drain_s(serving: pd.DataFrame) -> Floats:
    """How long the longest request of a row takes, in s, the queue at its end aside; NaN where the row does not say.

    The mean time to first token, and the longest decode that the figures speak of: end-to-end less TTFT at the mean
    and at p99 (a queue lengthens both alike), or ITL times the longest output, two deviations above the mean.
    """
    ttft_ms = column_of(serving, "ttft_ms_mean")
    tokens = column_of(serving, "output_tokens_mean")
    longest = tokens + LONGEST * np.nan_to_num(column_of(serving, "output_tokens_std"))
    decodes_ms = [
        column_of(serving, "e2e_ms_mean") - ttft_ms,
        column_of(serving, "e2e_ms_p99") - column_of(serving, "ttft_ms_p99"),
        column_of(serving, "itl_ms_mean") * (longest - 1.0),
    ]
    decode_ms = np.fmax.reduce(decodes_ms)
    drain_ms = np.where(np.isnan(ttft_ms), column_of(serving, "e2e_ms_mean"), ttft_ms + decode_ms)
    return drain_ms / MS_PER_S


def _known_as(name: object) -> str:
    return canonical_model(str(name)).lower()
