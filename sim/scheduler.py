"""Which requests an engine step computes: continuous batching, compiled. The rules are those of :mod:`sim.serving`."""

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
from sim.step_kernels import compiled


@compiled
def _preempt_youngest(s: State, e: Limits) -> int:
    s.counts[RUNNING] -= 1
    i = s.running[s.counts[RUNNING]]
    release(s, e, i)
    s.preemptions[i] += 1
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
    moments, context, missing = s.moments[b], s.computed[i], s.prompt[i] + s.generated[i] - s.computed[i]
    decodes = s.generated[i] > 0 and missing == 1
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
    s.computed[i] += new
    publish(s, e, i)
    if new < missing:
        return False
    s.generated[i] += 1
    if s.generated[i] == 1:
        _list(s, b, FIRST, i)
    if s.generated[i] < s.output[i]:
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
        i = s.running[r]
        missing = s.prompt[i] + s.generated[i] - s.computed[i]
        if e.prefill_first and (s.generated[i] == 0 or missing > 1):
            s.running[kept] = i
            r, kept = r + 1, kept + 1
            continue
        new, alive = min(missing, budget), True
        while alive and not claim(s, e, i, s.computed[i] + new):
            alive = _preempt_youngest(s, e) != i
            preempted = 1
        if not alive:
            break
        budget -= new
        if not _compute(s, e, b, i, new):
            s.running[kept] = i
            kept += 1
        r += 1
    s.counts[RUNNING] = kept
    return -1 if preempted else budget


@compiled
def head(s: State, known_us: float) -> int:
    """The first request of the queue as it is known at that time, −1 where it is empty."""
    if s.counts[PREEMPTED] > 0:
        return s.stack[s.counts[PREEMPTED] - 1]
    i = s.counts[NEXT]
    return i if i < len(s.ready_us) and s.ready_us[i] <= known_us else -1


@compiled
def _cached_blocks(s: State, e: Limits, i: int) -> int:
    """Whole blocks of request ``i`` that need not be computed; its last token always is."""
    known = s.prefix_blocks[s.group[i]] if s.group[i] >= 0 else s.cached[i] // e.block_size
    return min(known, (s.prompt[i] + s.generated[i] - 1) // e.block_size)


@compiled
def entry(s: State, e: Limits, i: int, budget: int) -> int:
    """Tokens of the waiting request ``i`` that a step can compute, or minus the reason why none."""
    if s.counts[RUNNING] + s.counts[LEAVING] >= e.seats:
        return -NO_SEAT
    cached, g = _cached_blocks(s, e, i), s.group[i]
    new = s.prompt[i] + s.generated[i] - cached * e.block_size
    if budget <= 0 or (new > budget and not e.chunked):
        return -NO_TOKENS
    new = min(new, budget)
    blocks = cached + (new + e.block_size - 1) // e.block_size
    if g >= 0:
        blocks += (s.prefix_blocks[g] if s.prefix_users[g] == 0 else 0) - cached
    return new if blocks <= free(s, e) else -NO_BLOCKS


@compiled
def _join(s: State, e: Limits, b: int, i: int, new: int) -> None:
    """Take request ``i`` from the head of the queue into batch ``b``."""
    if s.counts[PREEMPTED] > 0:
        s.counts[PREEMPTED] -= 1
    else:
        s.counts[NEXT] += 1
    cached, g = _cached_blocks(s, e, i), s.group[i]
    s.computed[i] = cached * e.block_size
    if g >= 0:
        if s.prefix_users[g] == 0:
            s.counts[USED] += s.prefix_blocks[g]
            s.counts[IDLE] -= s.prefix_blocks[g]
        s.prefix_users[g] += 1
        s.shared[i] = cached
        s.room[i] = cached * e.block_size
    claim(s, e, i, s.computed[i] + new)
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
    missing = s.prompt[i] + s.generated[i] - s.computed[i]
    if s.generated[i] > 0 and missing == 1:
        return e.tokens
    new = min(missing, e.tokens)
    if not claim(s, e, i, s.computed[i] + new):
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
