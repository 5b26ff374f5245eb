"""The engine's loop over steps, compiled: it stops where Python is needed (:data:`NEED_TIME` …) and goes on from there.

Steps that only decode the same requests again are run through without touching a request: :func:`_decode_run`.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from sim.models.compiled import compiled, kept_on_disk, source_stamp, written_out
from sim.serving.scheduler import entry, head, schedule
from sim.serving.scheduler_state import (
    ADMITTED,
    BLOCKS,
    CONTEXT,
    CURRENT,
    DECODING,
    DURATION,
    ENDING,
    FINISHED,
    FIRST,
    FIRST_TOKEN,
    HELD,
    IDLE,
    JOINED,
    LAST_TOKEN,
    LEAVERS,
    LEAVING,
    MOMENT,
    NEXT,
    REASON,
    RECORDED,
    ROUND,
    START,
    SUBMITTED,
    USED,
    WHY,
    Limits,
    State,
    free,
    release,
    seated,
    take,
)
from sim.serving.step_kernels import COMPILED, EXTERNAL, decode_lines, decode_time_us, step_time_us
from sim.steps.runs import Floats

Loop = Callable[[State, Limits, int, Floats], int]

DONE, RECORD_FULL, NEED_TIME, BAD_TIME, STUCK = range(5)
"""Why :func:`advance` returned."""


@compiled
def _record(s: State, n: int, b: int, duration: float) -> None:
    """Write batch ``b``, which begins now, down as step ``n``."""
    s.record[START, n], s.record[DURATION, n] = s.clock[0], duration
    for k in range(WHY - MOMENT):
        s.record[MOMENT + k, n] = s.moments[b, k]
    s.record[WHY, n], s.record[BLOCKS, n] = s.batch[b, REASON], s.batch[b, HELD]


@compiled
def _finish(s: State, e: Limits, b: int) -> None:
    """What becomes known when batch ``b`` ends."""
    now = s.clock[0]
    for k in range(s.batch[b, FIRST]):
        s.times[FIRST_TOKEN, s.listed[b, FIRST, k]] = now
    for k in range(s.batch[b, LEAVERS]):
        i = s.listed[b, LEAVERS, k]
        s.times[LAST_TOKEN, i] = now
        release(s, e, i)
        if e.concurrency > 0 and s.counts[SUBMITTED] < len(s.requests):
            s.requests[s.counts[SUBMITTED]].ready_us = (
                now + e.reply_us * s.requests[i].output + s.requests[s.counts[SUBMITTED]].delay_us
            )
            s.counts[SUBMITTED] += 1
    s.counts[LEAVING] -= s.batch[b, LEAVERS]
    s.counts[FINISHED] += s.batch[b, LEAVERS]


@compiled
def _next_ready_us(s: State) -> float:
    return s.requests[s.counts[NEXT]].ready_us if s.counts[NEXT] < len(s.requests) else np.inf


@compiled
def _repeats(s: State, b: int) -> int:
    """How many steps can follow batch ``b`` that decode the same requests, until one of them ends."""
    if s.moments[b, 6] != seated(s) or s.moments[b, 0] > 0 or s.counts[LEAVING] > 0:
        return 0
    return s.counts[ENDING] - s.counts[ROUND]


@compiled
def _decode_run(s: State, e: Limits, b: int, kind: int, constants: Floats) -> None:
    """Run batch ``b`` and its repetitions up to where a request ends or joins, or blocks are short; leave the last."""
    most = min(_repeats(s, b), s.record.shape[1] - 1 - s.counts[RECORDED])
    if most <= 0:
        return
    moments = s.moments[b]
    batch = s.batch[b]
    recorded = s.counts[RECORDED]
    lines = decode_lines(kind, constants, moments[6])
    sampler = _sampler_us(s, e, b)
    known = s.clock[0] if e.ahead else s.clock[0] + decode_time_us(lines, moments[7]) + sampler
    waiting = head(s, known)
    reason = 0
    ready = _next_ready_us(s)
    if waiting >= 0:
        reason = -entry(s, e, waiting, e.tokens - (0 if e.prefill_first else s.counts[DECODING]))
        ready = np.inf
        if reason < 0:
            return
    # Dropping a prefix may let the head of the queue in
    held = s.counts[IDLE] if waiting >= 0 else 0
    done, place = 0, s.counts[ROUND] % e.block_size
    while done < most:
        duration = decode_time_us(lines, moments[7]) + sampler
        known = s.clock[0] if e.ahead else s.clock[0] + duration
        if ready <= known or s.need[place] > free(s, e) - held or not duration >= 0:
            break
        _record(s, recorded + done, b, duration)
        s.clock[0] += duration
        if s.need[place] > 0:
            take(s, e, s.need[place])
        moments[7] += moments[6]
        batch[REASON], batch[HELD] = reason, s.counts[USED]
        done += 1
        place = place + 1 if place + 1 < e.block_size else 0
    s.counts[RECORDED] += done
    s.counts[ROUND] += done
    s.counts[CONTEXT] += done * s.counts[DECODING]


@compiled
def _begin(s: State, b: int) -> None:
    for k in range(s.batch[b, ADMITTED]):
        i = s.listed[b, ADMITTED, k]
        if np.isnan(s.times[JOINED, i]):
            s.times[JOINED, i] = s.clock[0]


@compiled
def _sampler_us(s: State, e: Limits, b: int) -> float:
    """Time that batch ``b`` takes to choose its tokens."""
    return e.sampler_us + e.sampler_request_us * (s.moments[b, 0] + s.moments[b, 6])


@compiled
def _duration(s: State, e: Limits, b: int, kind: int, constants: Floats) -> float:
    sampler = _sampler_us(s, e, b)
    if kind == EXTERNAL:
        duration = s.clock[1]
        s.clock[1] = np.nan
        return duration + sampler
    return step_time_us(kind, constants, s.moments[b]) + sampler


@written_out
def _first_batch(s: State, e: Limits) -> bool:
    """Find work for an idle engine, now or when the next request arrives; whether there is any."""
    while not schedule(s, e, 0, s.clock[0]):
        ready = _next_ready_us(s)
        if not s.clock[0] < ready < np.inf:
            return False
        s.clock[0] = ready
    s.counts[CURRENT] = 0
    return True


@written_out
def _step(s: State, e: Limits, kind: int, constants: Floats) -> bool:
    """Run the batch in hand; where steps are scheduled ahead, schedule the next with what is known when it begins."""
    b = s.counts[CURRENT]
    _begin(s, b)
    found = schedule(s, e, 1 - b, s.clock[0]) if e.ahead else False
    duration = _duration(s, e, b, kind, constants)
    if not (duration >= 0 and duration < np.inf):
        return False
    _record(s, s.counts[RECORDED], b, duration)
    s.counts[RECORDED] += 1
    s.clock[0] += duration
    _finish(s, e, b)
    s.counts[CURRENT] = 1 - b if found else -1
    return True


def _loop(stamp: int) -> Loop:
    """Compile the loop, or read it from the disk, where it lies under ``stamp`` (see :func:`source_stamp`)."""

    def loop(s: State, e: Limits, kind: int, constants: Floats) -> int:
        while stamp >= 0 and s.counts[FINISHED] < len(s.requests):
            if s.counts[CURRENT] < 0 and not _first_batch(s, e):
                return STUCK
            if s.counts[RECORDED] == s.record.shape[1]:
                return RECORD_FULL
            if kind != EXTERNAL:
                _decode_run(s, e, s.counts[CURRENT], kind, constants)
            elif np.isnan(s.clock[1]):
                return NEED_TIME
            if not _step(s, e, kind, constants):
                return BAD_TIME
        return DONE

    return kept_on_disk(loop)


advance = _loop(source_stamp((model.name for model in COMPILED), str(Path(__file__).parent)))
"""``advance(state, limits, kind, constants)``: run until one of :data:`DONE` …"""
