"""Which requests an engine step computes: continuous batching, compiled. The rules are those of :mod:`sim.serving`."""

from sim.compiled import compiled
from sim.scheduler_state import (
    ADMITTED,
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
    REASON,
    RUNNING,
    USED,
    Limits,
    State,
    claim,
    free,
    publish,
    release,
)


@compiled
def _preempt_youngest(s: State, e: Limits) -> int:
    s.counts[RUNNING] -= 1
    i = s.running[s.counts[RUNNING]]
    release(s, e, i)
    s.requests[i].preemptions += 1
    s.stack[s.counts[PREEMPTED]] = i
    s.counts[PREEMPTED] += 1
    return i


@compiled
def _list(s: State, b: int, what: int, i: int) -> None:
    s.listed[b, what, s.batch[b, what]] = i
    s.batch[b, what] += 1


@compiled
def _compute(s: State, e: Limits, b: int, i: int, new: int) -> bool:
    """Put ``new`` tokens of request ``i`` into batch ``b``; whether it ends with this step."""
    moments, context, missing = (
        s.moments[b],
        s.requests[i].computed,
        s.requests[i].prompt + s.requests[i].generated - s.requests[i].computed,
    )
    decodes = s.requests[i].generated > 0 and missing == 1
    if decodes:
        moments[6] += 1
        moments[7] += context
    else:
        moments[0] += 1
        moments[3 if new == 1 else 1] += new
        moments[4 if new == 1 else 2] += context
        moments[5] += new * (context + (new - 1) / 2)
    if e.external:
        member = s.members[b, s.batch[b, MEMBERS]]
        member[0], member[1], member[2] = 0 if decodes else 1, context, new
    s.batch[b, MEMBERS] += 1
    s.requests[i].computed += new
    publish(s, e, i)
    if new < missing:
        return False
    s.requests[i].generated += 1
    if s.requests[i].generated == 1:
        _list(s, b, FIRST, i)
    if s.requests[i].generated < s.requests[i].output:
        return False
    _list(s, b, LEAVERS, i)
    s.counts[LEAVING] += 1
    return True


@compiled
def _compute_running(s: State, e: Limits, b: int, budget: int) -> int:
    """Put the running requests into batch ``b``, oldest first; what is left of the budget, −1 after a preemption.

    Where prompts go first, those that are not yet through with theirs are passed over.
    """
    r = kept = preempted = 0
    while r < s.counts[RUNNING]:
        r, kept, budget = _decode_like_before(s, e, b, r, kept, budget)
        if r == s.counts[RUNNING]:
            break
        i = s.running[r]
        missing = s.requests[i].prompt + s.requests[i].generated - s.requests[i].computed
        r += 1
        if e.prefill_first and (s.requests[i].generated == 0 or missing > 1):
            s.running[kept] = i
            kept += 1
            continue
        new, alive = min(missing, budget), True
        while alive and not claim(s, e, i, s.requests[i].computed + new):
            alive = _preempt_youngest(s, e) != i
            preempted = 1
        if not alive:
            break
        budget -= new
        if not _compute(s, e, b, i, new):
            s.running[kept] = i
            kept += 1
    s.counts[RUNNING] = kept
    return -1 if preempted else budget


@compiled
def _decode_like_before(s: State, e: Limits, b: int, r: int, kept: int, budget: int) -> tuple[int, int, int]:
    """Most decodes need no block and do not end: they go by here, without a call for each, up to one that does."""
    start, context = r, 0
    while r < s.counts[RUNNING] and not e.external:
        request = s.requests[s.running[r]]
        generated, computed = request.generated, request.computed
        plain = generated > 0 and request.prompt + generated == computed + 1
        if not plain or computed == request.room or generated + 1 == request.output:
            break
        context += computed
        request.computed, request.generated = computed + 1, generated + 1
        s.running[kept] = s.running[r]
        r, kept = r + 1, kept + 1
    s.moments[b, 6] += r - start
    s.moments[b, 7] += context
    s.batch[b, MEMBERS] += r - start
    return r, kept, budget - (r - start)


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
    known = s.prefixes[s.requests[i].group].blocks if s.requests[i].group >= 0 else s.requests[i].cached // e.block_size
    return min(known, (s.requests[i].prompt + s.requests[i].generated - 1) // e.block_size)


@compiled
def entry(s: State, e: Limits, i: int, budget: int) -> int:
    """Tokens of the waiting request ``i`` that a step can compute, or minus the reason why none."""
    if s.counts[RUNNING] + s.counts[LEAVING] >= e.seats:
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
    if not _compute(s, e, b, i, new):
        s.running[s.counts[RUNNING]] = i
        s.counts[RUNNING] += 1


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
def _continue_prompt(s: State, e: Limits, b: int) -> int:
    """Go on with the prompt that the last step left unfinished; what is left of the budget, −1 without blocks."""
    last = s.counts[RUNNING] - 1
    if last < 0:
        return e.tokens
    i = s.running[last]
    missing = s.requests[i].prompt + s.requests[i].generated - s.requests[i].computed
    if s.requests[i].generated > 0 and missing == 1:
        return e.tokens
    new = min(missing, e.tokens)
    if not claim(s, e, i, s.requests[i].computed + new):
        return -1
    if _compute(s, e, b, i, new):
        s.counts[RUNNING] -= 1
    return e.tokens - new


@compiled
def schedule(s: State, e: Limits, b: int, known_us: float) -> bool:
    """Make batch ``b`` of what is known at that time; whether there is anything to compute."""
    s.moments[b] = 0.0
    s.batch[b] = 0
    budget = _continue_prompt(s, e, b) if e.prefill_first else _compute_running(s, e, b, e.tokens)
    if budget >= 0:
        _admit(s, e, b, known_us, budget)
    elif head(s, known_us) >= 0:
        s.batch[b, REASON] = NO_BLOCKS
    if e.prefill_first and s.batch[b, MEMBERS] == 0:
        _compute_running(s, e, b, e.tokens)
    s.batch[b, HELD] = s.counts[USED]
    return s.batch[b, MEMBERS] > 0
