"""Which requests an engine step computes: continuous batching, compiled.

The rules are those of :mod:`sim.serving.simulation`.

A request that runs either decodes, with all others that do, or is the one prompt that a step left unfinished: the
youngest, as nothing joins a step whose budget is spent.
"""

import numpy as np

from sim.models.compiled import compiled
from sim.serving.scheduler_state import (
    ADMITTED,
    CONTEXT,
    DECODING,
    ENDING,
    FIRST,
    HELD,
    IDLE,
    LEAVERS,
    LEAVING,
    MEMBERS,
    NEXT,
    NO_BLOCKS,
    NO_SEAT,
    NO_TOKENS,
    PREEMPTED,
    PROMPT,
    REASON,
    ROUND,
    USED,
    Limits,
    State,
    claim,
    free,
    publish,
    release,
    seated,
    settle,
    take,
)


@compiled
def _missing(s: State, i: int) -> int:
    return s.requests[i].prompt + s.requests[i].generated - s.requests[i].computed


@compiled
def _list(s: State, b: int, what: int, i: int) -> None:
    s.listed[b, what, s.batch[b, what]] = i
    s.batch[b, what] += 1


@compiled
def _list_member(s: State, b: int, prompt: int, context: int, new: int) -> None:
    member = s.members[b, s.batch[b, MEMBERS]]
    member[0], member[1], member[2] = prompt, context, new
    s.batch[b, MEMBERS] += 1


@compiled
def _start_decoding(s: State, e: Limits, i: int) -> None:
    """Let request ``i`` go on with the others from the next round on."""
    r, request = s.counts[DECODING], s.requests[i]
    s.decoding[r], request.since = i, s.counts[ROUND]
    s.ends[r] = s.counts[ROUND] + request.output - request.generated - 1
    s.counts[ENDING] = min(s.counts[ENDING], s.ends[r]) if r > 0 else s.ends[r]
    s.counts[CONTEXT] += request.computed
    s.need[(s.counts[ROUND] + request.room - request.computed) % e.block_size] += 1
    s.counts[DECODING] += 1


@compiled
def _stop_decoding(s: State, e: Limits, i: int) -> None:
    """Take what request ``i`` adds out of what is known of all decodes; the caller takes it from their list."""
    settle(s, e, i)
    request = s.requests[i]
    s.counts[CONTEXT] -= request.computed
    s.need[(s.counts[ROUND] + request.room - request.computed) % e.block_size] -= 1


@compiled
def _preempt_youngest(s: State, e: Limits) -> int:
    i = s.counts[PROMPT]
    if i >= 0:
        s.counts[PROMPT] = -1
    else:
        s.counts[DECODING] -= 1
        i = s.decoding[s.counts[DECODING]]
        _stop_decoding(s, e, i)
    release(s, e, i)
    s.requests[i].preemptions += 1
    s.stack[s.counts[PREEMPTED]] = i
    s.counts[PREEMPTED] += 1
    return i


@compiled
def _compute(s: State, e: Limits, b: int, i: int, new: int) -> None:
    """Put ``new`` tokens of request ``i`` into batch ``b``, and the request where it belongs after them."""
    moments = s.moments[b]
    context = s.requests[i].computed
    missing = _missing(s, i)
    decodes = s.requests[i].generated > 0 and missing == 1
    if decodes:
        moments[6] += 1
        moments[7] += context
    else:
        moments[0] += 1
        moments[3 if new == 1 else 1] += new
        moments[4 if new == 1 else 2] += context
        moments[5] += new * (context + (new - 1) / 2)
    _list_member(s, b, 0 if decodes else 1, context, new)
    s.requests[i].computed += new
    publish(s, e, i)
    if new == missing:
        s.requests[i].generated += 1
        if s.requests[i].generated == 1:
            _list(s, b, FIRST, i)
        if s.requests[i].generated == s.requests[i].output:
            _list(s, b, LEAVERS, i)
            s.counts[LEAVING] += 1
            return
    if s.requests[i].generated > 0 and _missing(s, i) == 1:
        _start_decoding(s, e, i)
    else:
        s.counts[PROMPT] = i


@compiled
def _decode(s: State, e: Limits, b: int, budget: int) -> int:
    """Put a token of every decode into batch ``b``; what is left of the budget, −1 after a preemption."""
    blocks = s.need[s.counts[ROUND] % e.block_size]
    preempted = blocks > free(s, e)
    if preempted:
        _make_room(s, e)
    elif blocks > 0:
        take(s, e, blocks)
    count = s.counts[DECODING]
    if count > 0:
        _next_round(s, e, b)
    return -1 if preempted else budget - count


@compiled
def _make_room(s: State, e: Limits) -> None:
    """Take the decodes' blocks, the oldest first, and preempt the youngest for them."""
    r = 0
    while r < s.counts[DECODING]:
        i = s.decoding[r]
        settle(s, e, i)
        alive = True
        while alive and not claim(s, e, i, s.requests[i].computed + 1):
            alive = _preempt_youngest(s, e) != i
        r += 1


@compiled
def _next_round(s: State, e: Limits, b: int) -> None:
    """Let every decode, at least one, go on by a token for which it has room."""
    count, now = s.counts[DECODING], s.counts[ROUND]
    s.moments[b, 6] += count
    s.moments[b, 7] += s.counts[CONTEXT]
    if e.external:
        for r in range(count):
            request = s.requests[s.decoding[r]]
            _list_member(s, b, 0, request.computed + now - request.since, 1)
    else:
        s.batch[b, MEMBERS] += count
    s.counts[ROUND] += 1
    s.counts[CONTEXT] += count
    if now == s.counts[ENDING]:
        _retire(s, e, b)


@compiled
def _retire(s: State, e: Limits, b: int) -> None:
    """List the decodes that have got their last token, and find when the next one will."""
    kept, ending = 0, np.iinfo(np.int64).max
    for r in range(s.counts[DECODING]):
        i, end = s.decoding[r], s.ends[r]
        if end < s.counts[ROUND]:
            _stop_decoding(s, e, i)
            _list(s, b, LEAVERS, i)
        else:
            s.decoding[kept], s.ends[kept] = i, end
            ending, kept = min(ending, end), kept + 1
    s.counts[LEAVING] += s.counts[DECODING] - kept
    s.counts[DECODING], s.counts[ENDING] = kept, ending


@compiled
def _continue_prompt(s: State, e: Limits, b: int, budget: int) -> int:
    """Go on with the prompt that the last step left unfinished; what is left of the budget, −1 without blocks."""
    i = s.counts[PROMPT]
    if i < 0:
        return budget
    new = min(_missing(s, i), budget)
    if not claim(s, e, i, s.requests[i].computed + new):
        return -1
    s.counts[PROMPT] = -1
    _compute(s, e, b, i, new)
    return budget - new


@compiled
def head(s: State, known_us: float) -> int:
    """The first request of the queue as it is known at that time, −1 where it is empty."""
    if s.counts[PREEMPTED] > 0:
        return s.stack[s.counts[PREEMPTED] - 1]
    i = s.counts[NEXT]
    return i if i < len(s.requests) and s.requests[i].ready_us <= known_us else -1


@compiled
def _cached_blocks(s: State, e: Limits, i: int) -> int:
    """Whole blocks of request ``i`` that need not be computed; its last token always is."""
    known = (
        s.prefixes[s.requests[i].group].blocks
        if s.requests[i].group >= 0
        else s.requests[i].cached // e.block_size
    )
    return min(known, (s.requests[i].prompt + s.requests[i].generated - 1) // e.block_size)


@compiled
def entry(s: State, e: Limits, i: int, budget: int) -> int:
    """Tokens of the waiting request ``i`` that a step can compute, or minus the reason why none."""
    if seated(s) >= e.seats:
        return -NO_SEAT
    cached, g = _cached_blocks(s, e, i), s.requests[i].group
    new = s.requests[i].prompt + s.requests[i].generated - cached * e.block_size
    if budget <= 0 or (new > budget and not e.chunked):
        return -NO_TOKENS
    new = min(new, budget)
    blocks = cached + (new + e.block_size - 1) // e.block_size
    if g >= 0:
        blocks += (s.prefixes[g].blocks if s.prefixes[g].users == 0 else 0) - cached
    return new if blocks <= free(s, e) else -NO_BLOCKS


@compiled
def _join(s: State, e: Limits, b: int, i: int, new: int) -> None:
    """Take request ``i`` from the head of the queue into batch ``b``."""
    if s.counts[PREEMPTED] > 0:
        s.counts[PREEMPTED] -= 1
    else:
        s.counts[NEXT] += 1
    cached, g = _cached_blocks(s, e, i), s.requests[i].group
    s.requests[i].computed = cached * e.block_size
    if g >= 0:
        if s.prefixes[g].users == 0:
            s.counts[USED] += s.prefixes[g].blocks
            s.counts[IDLE] -= s.prefixes[g].blocks
        s.prefixes[g].users += 1
        s.requests[i].shared = cached
        s.requests[i].room = cached * e.block_size
    claim(s, e, i, s.requests[i].computed + new)
    _list(s, b, ADMITTED, i)
    _compute(s, e, b, i, new)


@compiled
def _admit(s: State, e: Limits, b: int, known_us: float, budget: int) -> None:
    i = head(s, known_us)
    while i >= 0:
        new = entry(s, e, i, budget)
        if new <= 0:
            s.batch[b, REASON] = -new
            return
        _join(s, e, b, i, new)
        budget -= new
        i = head(s, known_us)


@compiled
def schedule(s: State, e: Limits, b: int, known_us: float) -> bool:
    """Make batch ``b`` of what is known at that time; whether there is anything to compute."""
    s.moments[b] = 0.0
    s.batch[b] = 0
    budget = e.tokens if e.prefill_first else _decode(s, e, b, e.tokens)
    if budget >= 0:
        budget = _continue_prompt(s, e, b, budget)
        if budget < 0 and not e.prefill_first:
            _preempt_youngest(s, e)
    if budget >= 0:
        _admit(s, e, b, known_us, budget)
    elif head(s, known_us) >= 0:
        s.batch[b, REASON] = NO_BLOCKS
    if e.prefill_first and s.batch[b, MEMBERS] == 0:
        _decode(s, e, b, e.tokens)
    s.batch[b, HELD] = s.counts[USED]
    return s.batch[b, MEMBERS] > 0
