"""What the compiled scheduler knows, all of it in arrays, and the KV-cache blocks that its requests hold.

All decodes go on together, a token a round: what each has computed is counted only when it stops (:func:`settle`).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.models.compiled import compiled
from sim.steps.runs import Floats

Ints = NDArray[np.int64]

(
    DECODING,
    PROMPT,
    PREEMPTED,
    NEXT,
    SUBMITTED,
    LEAVING,
    USED,
    IDLE,
    CURRENT,
    RECORDED,
    FINISHED,
    TICK,
) = range(12)
"""Places in ``State.counts``: how many, the unfinished prompt, the next arrival, blocks in use and idle, the batch in
hand (−1: none) …"""

ROUND, CONTEXT, ENDING, COUNTS = 12, 13, 14, 15
"""Of the decodes: how often all of them went a token on, the tokens they have cached, the round that one ends in."""

ADMITTED, FIRST, LEAVERS, MEMBERS, REASON, HELD = range(6)
"""Places in ``State.batch``: requests that join, that get their first token and that finish; blocks in use."""

FREE_ENTRY, NO_SEAT, NO_BLOCKS, NO_TOKENS = range(4)
"""Why the head of the queue did not join a step: it did or there was none, max_num_seqs, KV cache, token budget."""

JOINED, FIRST_TOKEN, LAST_TOKEN, TIMES = range(4)
"""Rows of ``State.times``: when the first step of a request began, when its first token and its last were computed."""

START, DURATION, MOMENT, WHY, BLOCKS, RECORD_ROWS = 0, 1, 2, 10, 11, 12
"""Rows of ``State.record``: start and duration in µs, the eight moments, the reason, blocks in use."""


class Limits(NamedTuple):
    """The engine's limits, and the load where it is closed (``concurrency`` > 0)."""

    tokens: int
    seats: int
    blocks: int
    block_size: int
    chunked: int
    ahead: int
    prefill_first: int
    external: int
    concurrency: int
    sampler_us: float  # of each step, beside what the latency model says
    sampler_request_us: float  # of each request in a step
    reply_us: float  # of each output token on its way to the client, who then sends the next of a closed load


REQUEST = np.dtype(
    [
        ("delay_us", np.float64),  # from its sending to when the engine sees it
        ("ready_us", np.float64),  # when the engine sees it; infinite until a closed load sends it
        ("prompt", np.int32),
        ("output", np.int32),
        ("cached", np.int32),  # tokens that are cached for this request alone
        ("group", np.int32),  # the prefix it shares, −1 for none
        ("computed", np.int32),  # tokens whose keys and values lie in the cache
        ("generated", np.int32),
        ("room", np.int32),  # tokens that the blocks it holds or shares can take
        ("since", np.int32),  # the round before which it had computed and generated so many
        ("shared", np.int32),  # blocks that belong to its prefix
        ("preemptions", np.int32),
    ]
)
"""A request, and where it is: 56 bytes, for a load may have millions."""

PREFIX = np.dtype(
    [("limit", np.int64), ("blocks", np.int64), ("users", np.int64), ("tick", np.int64)]
)
"""A shared prefix: its whole blocks, those of them in the cache, its running users, when the last one left."""


class State(NamedTuple):
    """All that changes, for n requests, g prefixes and b seats."""

    requests: Any  # (n,) of REQUEST, in order of arrival
    times: Floats  # (3, n) in µs, by the names below; NaN until then
    prefixes: Any  # (g,) of PREFIX
    decoding: Ints  # (b,) in order of arrival; an unfinished prompt is younger than all of them
    ends: Ints  # (b,) the round in which each gets its last token
    need: Ints  # (block size,) blocks that they take in rounds of each remainder
    stack: Ints  # (b,) preempted requests, the oldest on top
    moments: Floats  # (2, 8): of the batch in hand and of the next
    batch: Ints  # (2, 6)
    listed: Ints  # (2, 3, b): requests that join, get their first token, finish
    members: (
        Ints  # (2, b, 3): prefill or not, context, new tokens; where step times come from outside
    )
    record: Floats  # (12, capacity)
    counts: Ints  # (15,)
    clock: Floats  # (2,): now, and the duration of the batch in hand where it comes from outside


@compiled
def free(s: State, e: Limits) -> int:
    """Blocks that no request uses; a prefix may still lie there."""
    return e.blocks - s.counts[USED]


@compiled
def take(s: State, e: Limits, blocks: int) -> None:
    """Take blocks that are free or hold prefixes without a user; those least recently used are dropped whole."""
    while blocks > free(s, e) - s.counts[IDLE]:
        oldest = -1
        for g in range(len(s.prefixes)):
            idle = s.prefixes[g].users == 0 and s.prefixes[g].blocks > 0
            if idle and (oldest < 0 or s.prefixes[g].tick < s.prefixes[oldest].tick):
                oldest = g
        s.counts[IDLE] -= s.prefixes[oldest].blocks
        s.prefixes[oldest].blocks = 0
    s.counts[USED] += blocks


@compiled
def claim(s: State, e: Limits, i: int, tokens: int) -> bool:
    """Find room for ``tokens`` of request ``i`` in all, if there is."""
    if tokens <= s.requests[i].room:
        return True
    blocks = (tokens - s.requests[i].room + e.block_size - 1) // e.block_size
    if blocks > free(s, e):
        return False
    take(s, e, blocks)
    s.requests[i].room += blocks * e.block_size
    return True


@compiled
def settle(s: State, e: Limits, i: int) -> None:
    """Tell request ``i``, a decode, of the rounds that went by."""
    rounds = s.counts[ROUND] - s.requests[i].since
    s.requests[i].since = s.counts[ROUND]
    s.requests[i].computed += rounds
    s.requests[i].generated += rounds
    short = s.requests[i].computed - s.requests[i].room
    if short > 0:
        s.requests[i].room += (short + e.block_size - 1) // e.block_size * e.block_size


@compiled
def seated(s: State) -> int:
    """Requests that hold a seat."""
    return s.counts[DECODING] + s.counts[LEAVING] + (1 if s.counts[PROMPT] >= 0 else 0)


@compiled
def publish(s: State, e: Limits, i: int) -> None:
    """Let others share what request ``i`` has computed of its prefix."""
    g = s.requests[i].group
    if g >= 0 and s.requests[i].shared == s.prefixes[g].blocks:
        s.requests[i].shared = max(
            s.requests[i].shared, min(s.requests[i].computed // e.block_size, s.prefixes[g].limit)
        )
        s.prefixes[g].blocks = s.requests[i].shared


@compiled
def release(s: State, e: Limits, i: int) -> None:
    """Give back all that request ``i`` holds; a prefix stays until its blocks are needed."""
    s.counts[USED] -= s.requests[i].room // e.block_size - s.requests[i].shared
    s.requests[i].room = s.requests[i].shared = s.requests[i].computed = 0
    g = s.requests[i].group
    if g >= 0:
        s.prefixes[g].users -= 1
        if s.prefixes[g].users == 0:
            s.counts[USED] -= s.prefixes[g].blocks
            s.counts[IDLE] += s.prefixes[g].blocks
            s.prefixes[g].tick = s.counts[TICK]
            s.counts[TICK] += 1
