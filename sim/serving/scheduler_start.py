"""The compiled scheduler's arrays: made from requests and an engine's limits, and read back."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.architecture import Architecture
from sim.serving.engine import EngineLimits
from sim.serving.result import ServingResult, Steps, StepTotals
from sim.serving.scheduler_state import (
    BLOCKS,
    COUNTS,
    CURRENT,
    DURATION,
    IDLE,
    MEMBERS,
    MOMENT,
    PREFIX,
    PROMPT,
    RECORD_ROWS,
    RECORDED,
    REQUEST,
    START,
    SUBMITTED,
    TICK,
    TIMES,
    WHY,
    Ints,
    Limits,
    State,
)
from sim.serving.step_kernels import EXTERNAL, StepKernel
from sim.serving.workload import Trace
from sim.steps.batch import Batch, StepTable
from sim.steps.runs import Floats

_RECORDED_STEPS = 30_000  # no power of two, whose rows would take the same places of a cache


def limits(requests: Trace, engine: EngineLimits, kernel: StepKernel) -> Limits:
    """The engine's limits as numbers; the load is closed where an arrival is infinite."""
    sent = int(np.isfinite(requests.arrival_us).sum())
    return Limits(
        tokens=int(engine.max_num_batched_tokens),
        seats=int(engine.max_num_seqs),
        blocks=int(engine.blocks),
        block_size=int(engine.block_size),
        chunked=int(engine.chunked_prefill),
        ahead=int(engine.async_scheduling),
        prefill_first=int(engine.prefill_first),
        external=int(kernel.kind == EXTERNAL),
        concurrency=sent if sent < len(requests) else 0,
        sampler_us=float(engine.sampler_us),
        sampler_request_us=float(engine.sampler_us_per_request),
        reply_us=float(engine.api_us_per_output_token),
    )


def state(requests: Trace, engine: EngineLimits, limits: Limits) -> State:
    """An idle engine before the first request."""
    prefixes = _prefixes(requests, limits)
    counts = np.zeros(COUNTS, dtype=np.int64)
    counts[CURRENT], counts[PROMPT] = -1, -1
    counts[IDLE], counts[TICK] = prefixes["blocks"].sum(), len(prefixes)
    counts[SUBMITTED] = limits.concurrency
    return State(
        requests=_requests(requests, engine),
        times=np.full((TIMES, len(requests)), np.nan),
        prefixes=prefixes,
        decoding=np.zeros(limits.seats, dtype=np.int64),
        ends=np.zeros(limits.seats, dtype=np.int64),
        need=np.zeros(limits.block_size, dtype=np.int64),
        stack=np.zeros(limits.seats, dtype=np.int64),
        moments=np.zeros((2, 8)),
        batch=np.zeros((2, 6), dtype=np.int64),
        listed=np.zeros((2, 3, limits.seats), dtype=np.int64),
        members=np.zeros((2, limits.seats, 3), dtype=np.int64),
        record=np.empty((RECORD_ROWS, _RECORDED_STEPS)),
        counts=counts,
        clock=np.array([0.0, np.nan]),
    )


def _requests(requests: Trace, engine: EngineLimits) -> Any:
    made = np.zeros(len(requests), dtype=REQUEST)
    made["delay_us"] = engine.delay_us(requests.prompt_tokens)
    ready_us = np.add(requests.arrival_us, made["delay_us"], out=made["ready_us"])
    np.maximum.accumulate(ready_us, out=ready_us)  # the queue keeps their order
    made["prompt"], made["output"] = requests.prompt_tokens, requests.output_tokens
    made["cached"] = requests.cached_tokens * engine.prefix_caching
    made["group"] = requests.prefix if engine.prefix_caching else -1
    return made


def _prefixes(requests: Trace, limits: Limits) -> Any:
    made = np.zeros(len(requests.prefix_tokens), dtype=PREFIX)
    made["limit"] = requests.prefix_tokens // limits.block_size
    made["tick"] = np.arange(len(made))
    if requests.warm:
        made["blocks"] = _warm_blocks(made["limit"], limits.blocks)
    return made


def _warm_blocks(limit: Ints, blocks: int) -> Ints:
    """Blocks of each prefix that lie in the cache from the start: whole prefixes, in order, until it is full."""
    return np.where(np.cumsum(limit) <= blocks, limit, 0)


def batch_in_hand(state: State) -> Batch:
    """The batch whose duration the loop asks for."""
    b = state.counts[CURRENT]
    members = state.members[b, : state.batch[b, MEMBERS]]
    prompts = members[:, 0] == 1
    one = np.ones(len(members))
    return Batch.from_requests(
        np.column_stack([members[prompts, 1:], one[prompts]]),
        np.column_stack([members[~prompts, 1], one[~prompts]]),
    )


def recorded(state: State) -> Floats:
    """The steps recorded so far, as they lie in the state."""
    steps: Floats = state.record[:, : state.counts[RECORDED]]
    return steps


def clear_record(state: State) -> None:
    """Make room for more steps."""
    state.counts[RECORDED] = 0


def totals_of(record: Floats) -> StepTotals:
    """What a summary needs of the steps that :func:`recorded` gave."""
    reasons, blocks = (record[row].astype(np.int64) for row in (WHY, BLOCKS))
    return StepTotals.of(record[DURATION], reasons, blocks)


def result(
    requests: Trace,
    engine: EngineLimits,
    state: State,
    records: Sequence[Floats],
    totals: StepTotals,
    arch: Architecture,
    tp: int,
) -> ServingResult:
    """What became of every request, and every step, from all that :func:`recorded` gave and was kept.

    Columns of the state go into the result, which ends its use.
    """
    record = np.concatenate([np.empty((RECORD_ROWS, 0)), *records], axis=1)
    size = record.shape[1]
    table = StepTable(
        (arch,),
        np.zeros(size, dtype=np.intp),
        np.full(size, tp, dtype=np.int64),
        record[MOMENT:WHY],
    )
    reasons, blocks = (record[row].astype(np.int64) for row in (WHY, BLOCKS))
    steps = Steps(table, record[START], record[DURATION], reasons, blocks)
    joined_us, first_token_us, finish_us = state.times
    first_token_us += engine.api_us_per_output_token
    finish_us += engine.api_us_per_output_token * requests.output_tokens
    closed = bool(np.isinf(requests.arrival_us[-1]))
    return ServingResult(
        engine=engine,
        closed=closed,
        prompt_tokens=requests.prompt_tokens,
        output_tokens=requests.output_tokens,
        arrival_us=_sent_us(requests, state) if closed else requests.arrival_us,
        joined_us=joined_us,
        first_token_us=first_token_us,
        finish_us=finish_us,
        preemptions=state.requests["preemptions"].copy(),  # of a view all would be kept
        steps=steps,
        totals=totals,
    )


def _sent_us(requests: Trace, state: State) -> Floats:
    """When the requests of a closed load were sent: the first ones at once, each other when one was answered."""
    follows = np.isinf(requests.arrival_us)
    sent_us = state.requests["ready_us"] - state.requests["delay_us"]
    return np.where(follows, sent_us, requests.arrival_us)
