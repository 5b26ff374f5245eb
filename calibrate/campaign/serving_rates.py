"""Whether a load point's rates go with its times: Little's law, and tokens a second."""

import numpy as np
import pandas as pd

from calibrate.campaign.rows import Mask, column_of, error, median_of, warning
from calibrate.campaign.thresholds import (
    DISAGREEMENT,
    HALF_FULL,
    LITTLE_ROUNDS,
    OTHER_UNIT,
    OVERFULL,
    STOPPED_EARLY,
)
from calibrate.records.errors import Problem
from sim.steps.batch import Floats
from sim.units import MS_PER_S

_LITTLE_CAUSES = (
    (1e-3, "Probably seconds given as milliseconds: multiply the _ms_ columns by 1000"),
    (1e3, "Probably microseconds given as milliseconds: divide the _ms_ columns by 1000"),
    (60.0, "Probably requests a minute given as requests a second: divide by 60"),
)
_CHECK = (
    "Check the units of the rates and times, and concurrency: one of them is not what was measured"
)


def check_serving_rates(file: str, serving: pd.DataFrame) -> tuple[Mask, list[Problem]]:
    """Which load points have rates and times that go together; problems for the impossible and the doubtful."""
    ordered, order = _check_order(file, serving)
    fits, little = _check_little(file, serving)
    counted, tokens = _check_tokens(file, serving)
    return ordered & fits & counted, [*order, *little, *tokens]


def requests_in_flight(serving: pd.DataFrame) -> Floats:
    """How many requests were in each load point on average by Little's law, L = λ·W, shape (n,); NaN if not known."""
    tokens = column_of(serving, "output_tokens_mean")
    rate = column_of(serving, "requests_per_s")
    counted = column_of(serving, "output_tokens_per_s") / np.where(tokens > 0, tokens, np.nan)
    lasted_ms = column_of(serving, "e2e_ms_mean")
    lasted_s = np.where(np.isnan(lasted_ms), parts_ms(serving), lasted_ms) / MS_PER_S
    in_flight: Floats = np.where(np.isnan(rate), counted, rate) * lasted_s
    return in_flight


def parts_ms(serving: pd.DataFrame) -> Floats:
    """What TTFT and ITL make of an end-to-end time, TTFT + ITL·(output − 1), in ms, shape (n,)."""
    tokens = column_of(serving, "output_tokens_mean")
    return column_of(serving, "ttft_ms_mean") + column_of(serving, "itl_ms_mean") * (tokens - 1.0)


def _check_order(file: str, serving: pd.DataFrame) -> tuple[Mask, list[Problem]]:
    """A request ends after its first token."""
    ttft_ms, e2e_ms = (column_of(serving, f"{what}_ms_mean") for what in ("ttft", "e2e"))
    before = e2e_ms < (1.0 - STOPPED_EARLY) * ttft_ms
    message = "requests end before their first token: end-to-end time is below the TTFT"
    fix = "Probably one of the two in another unit, or of other requests"
    return ~before, error(file, serving, before, message, fix, "e2e_ms_mean")


def _check_little(file: str, serving: pd.DataFrame) -> tuple[Mask, list[Problem]]:
    """A closed load holds ``concurrency`` requests: more cannot be in it, and far fewer are not for long."""
    concurrency, requests = (column_of(serving, name) for name in ("concurrency", "num_requests"))
    share = requests_in_flight(serving) / np.where(_is_closed(serving), concurrency, np.nan)
    steady = ~(requests < LITTLE_ROUNDS * concurrency)
    complete = ~(column_of(serving, "failed_requests") > 0)
    filled = steady & complete  # few requests, or some that failed, leave places empty
    far = (share > OTHER_UNIT) | (filled & (share < 1.0 / OTHER_UNIT))
    doubtful = ~far & ((share > OVERFULL) | (filled & (share < HALF_FULL)))
    said = "requests_per_s × end-to-end time is {} of the concurrency (Little's law makes it 1)"
    return ~far, [
        *error(
            file,
            serving,
            far,
            said.format(median_of(share[far])),
            _cause(share[far]),
            "concurrency",
        ),
        *warning(
            file,
            serving,
            doubtful,
            said.format(median_of(share[doubtful])),
            "Check concurrency, and over which time the rate was counted",
            "concurrency",
        ),
    ]


def _is_closed(serving: pd.DataFrame) -> Mask:
    stated = serving["load"].to_numpy() if "load" in serving else np.full(len(serving), "")
    unstated = (stated == "") & np.isnan(column_of(serving, "request_rate"))
    closed: Mask = (stated == "closed") | unstated
    return closed


def _cause(share: Floats) -> str:
    """The unit that makes such a ratio, within a factor of three."""
    if not len(share):
        return ""
    middle = float(np.median(share))
    return next((text for ratio, text in _LITTLE_CAUSES if ratio / 3 < middle < ratio * 3), _CHECK)


def _check_tokens(file: str, serving: pd.DataFrame) -> tuple[Mask, list[Problem]]:
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        expected = column_of(serving, "requests_per_s") * column_of(serving, "output_tokens_mean")
        ratio = column_of(serving, "output_tokens_per_s") / expected
        far = (ratio > OTHER_UNIT) | (ratio < 1.0 / OTHER_UNIT)
        off = ~far & (np.abs(ratio - 1.0) > DISAGREEMENT)
    times = "is {} × requests_per_s × output_tokens_mean"
    unit = "Probably tokens or requests a minute, or a total: give both by the second"
    miscounted = "the client counted tokens of re-tokenised text, or output_tokens_mean is not what was generated"
    message = f"{times.format(median_of(ratio[off]))}: {miscounted}"
    fix = "Where the length was set, trust the requested one"
    return ~far, [
        *error(
            file, serving, far, times.format(median_of(ratio[far])), unit, "output_tokens_per_s"
        ),
        *warning(file, serving, off, message, fix, "output_tokens_per_s"),
    ]
