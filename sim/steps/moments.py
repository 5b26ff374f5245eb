"""The sums over a step's requests that a roofline needs, and the way from requests to them and back."""

import numpy as np

from sim.steps.runs import Floats, Requests, Runs

MOMENTS = (
    "num_prefill",  # prefill requests
    "new_tokens",  # Σ n over prefill requests with n ≠ 1
    "context_tokens",  # Σ s over the same
    "num_single",  # prefill requests with n = 1
    "single_context_tokens",  # Σ s over those
    "qk_pairs",  # Σ n·(s + (n − 1)/2) over all prefill requests
    "num_decode",  # decode requests
    "decode_context_tokens",  # Σ s over decode requests
)
"""Rows of a moment array, for prefill requests (s tokens cached, n new) and decode requests (s tokens cached)."""


def moments_of_requests(requests: Requests) -> Floats:
    """The moments of every step's requests, shape (8, n)."""
    context, new, count = requests.prefill.values
    decode_context, decode_count = requests.decode.values
    single = new == 1
    several = count * ~single
    prefill = (
        count,
        several * new,
        several * context,
        count * single,
        count * single * context,
        count * new * (context + np.maximum(new - 1, 0) / 2),
    )
    decode = (decode_count, decode_count * decode_context)
    return np.stack([*map(requests.prefill.totals, prefill), *map(requests.decode.totals, decode)])


def equal_requests(moments: Floats) -> Requests:
    """One run of longer and one of one-token prefills a row, and one of decodes, each at its mean length."""
    num_prefill, new, context, num_single, single_context, _, num_decode, decode_context = moments
    several = num_prefill - num_single
    longer = (_mean(context, several), _mean(new, several), several)
    single = (_mean(single_context, num_single), np.ones_like(num_single), num_single)
    decode = (_mean(decode_context, num_decode), num_decode)
    return Requests(
        Runs.from_alternatives(np.array([longer, single])),
        Runs.from_alternatives(np.array([decode])),
    )


def moments_of_columns(
    num_prefill: Floats,
    new_tokens: Floats,
    context: Floats,
    pairs: Floats,
    num_decode: Floats,
    decode_context: Floats,
) -> Floats:
    """The moments of steps known by their sums, shape (8, n); where ``pairs`` is NaN, requests are equal in length."""
    single = (new_tokens == num_prefill) & (num_prefill > 0)
    moments = np.empty((len(MOMENTS), len(num_prefill)))
    moments[0] = num_prefill
    moments[1] = np.where(single, 0.0, new_tokens)
    moments[2] = np.where(single, 0.0, context)
    moments[3] = np.where(single, num_prefill, 0.0)
    moments[4] = np.where(single, context, 0.0)
    moments[5] = _equal_length_pairs(num_prefill, new_tokens, context)
    np.copyto(moments[5], pairs, where=~np.isnan(pairs))
    moments[6] = num_decode
    moments[7] = decode_context
    return moments


def _equal_length_pairs(num_requests: Floats, new_tokens: Floats, context: Floats) -> Floats:
    """Σ n·(s + (n − 1)/2) when every request of a row has the same n and s."""
    per_request = 1.0 / np.maximum(num_requests, 1.0)
    length = new_tokens * per_request
    pairs: Floats = new_tokens * (context * per_request + np.maximum(length - 1.0, 0.0) * 0.5)
    return pairs


def _mean(total: Floats, count: Floats) -> Floats:
    mean: Floats = total / (count + (count == 0))
    return mean
