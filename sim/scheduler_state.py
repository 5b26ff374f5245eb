"""What the compiled scheduler knows, all of it in arrays, and the KV-cache blocks that its requests hold."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.runs import Floats
from sim.step_kernels import compiled

Ints = NDArray[np.int64]

RUNNING, PREEMPTED, NEXT, SUBMITTED, LEAVING, USED, IDLE, CURRENT, RECORDED, FINISHED, TICK = range(11)
"""Places in ``State.counts``: how many, the next arrival, blocks in use and idle, the batch in hand (−1: none)."""

ADMITTED, FIRST, LEAVERS, MEMBERS, REASON, HELD = range(6)
"""Places in ``State.batch``: requests that join, that get their first token and that finish; blocks in use."""

FREE_ENTRY, NO_SEAT, NO_BLOCKS, NO_TOKENS = range(4)
"""Why the head of the queue did not join a step: it did or there was none, max_num_seqs, KV cache, token budget."""

START, DURATION, MOMENT, WHY, BLOCKS, RECORD_COLUMNS = 0, 1, 2, 10, 11, 12
"""Columns of ``State.record``: start and duration in µs, the eight moments, the reason, blocks in use."""


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
    think_us: float  # from one request's end to when the engine sees the next of a closed load


class State(NamedTuple):
    """All that changes, and the n requests, g prefixes and b seats it is about."""

    ready_us: Floats  # (n,) when the engine sees a request; infinite until a closed load sends it
    prompt: Ints  # (n,)
    output: Ints
    cached: Ints  # tokens that are cached for this request alone
    group: Ints  # the prefix it shares, −1 for none
    computed: Ints  # tokens whose keys and values lie in the cache
    generated: Ints
    room: Ints  # tokens that the blocks it holds or shares can take
    shared: Ints  # blocks that belong to its prefix
    preemptions: Ints
    joined_us: Floats
    first_us: Floats
    finish_us: Floats
    running: Ints  # (b,) in order of arrival
    stack: Ints  # (n,) preempted requests, the oldest on top
    prefix_limit: Ints  # (g,) whole blocks of each prefix
    prefix_blocks: Ints  # of those in the cache
    prefix_users: Ints
    prefix_tick: Ints  # when its last user left
    moments: Floats  # (2, 8): of the batch in hand and of the next
    batch: Ints  # (2, 6)
    listed: Ints  # (2, 3, b): requests that join, get their first token, finish
    members: Ints  # (2, b, 3): prefill or not, context, new tokens; where step times come from outside
    record: Floats  # (capacity, 12)
    counts: Ints  # (11,)
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
        for g in range(len(s.prefix_users)):
            idle = s.prefix_users[g] == 0 and s.prefix_blocks[g] > 0
            if idle and (oldest < 0 or s.prefix_tick[g] < s.prefix_tick[oldest]):
                oldest = g
        s.counts[IDLE] -= s.prefix_blocks[oldest]
        s.prefix_blocks[oldest] = 0
    s.counts[USED] += blocks


@compiled
def claim(s: State, e: Limits, i: int, tokens: int) -> bool:
    """Find room for ``tokens`` of request ``i`` in all, if there is."""
    if tokens <= s.room[i]:
        return True
    blocks = (tokens - s.room[i] + e.block_size - 1) // e.block_size
    if blocks > free(s, e):
        return False
    take(s, e, blocks)
    s.room[i] += blocks * e.block_size
    return True


@compiled
def publish(s: State, e: Limits, i: int) -> None:
    """Let others share what request ``i`` has computed of its prefix."""
    g = s.group[i]
    if g >= 0 and s.shared[i] == s.prefix_blocks[g]:
        s.shared[i] = max(s.shared[i], min(s.computed[i] // e.block_size, s.prefix_limit[g]))
        s.prefix_blocks[g] = s.shared[i]


@compiled
def release(s: State, e: Limits, i: int) -> None:
    """Give back all that request ``i`` holds; a prefix stays until its blocks are needed."""
    s.counts[USED] -= s.room[i] // e.block_size - s.shared[i]
    s.room[i] = s.shared[i] = s.computed[i] = 0
    g = s.group[i]
    if g >= 0:
        s.prefix_users[g] -= 1
        if s.prefix_users[g] == 0:
            s.counts[USED] -= s.prefix_blocks[g]
            s.counts[IDLE] += s.prefix_blocks[g]
            s.prefix_tick[g] = s.counts[TICK]
            s.counts[TICK] += 1
