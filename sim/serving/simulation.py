"""Simulates a serving engine request by request: continuous batching as vLLM V1 does it, with any latency model.

The rules:

- **Step.** At most ``max_num_batched_tokens`` tokens and ``max_num_seqs`` requests. Running requests come first, in
  order of arrival: a decode computes one token, an unfinished prompt the next chunk. What is left of the budget goes
  to the queue, first come first served; a head that does not fit holds up those behind it. Without
  ``chunked_prefill`` a prompt must fit whole.
- **First token.** It comes from the step that completes the prompt; each later step gives one more. TTFT = first
  token − arrival, E2E = last token − arrival, ITL = (E2E − TTFT)/(output − 1), queueing = start of the first step it
  is in − arrival.
- **Asynchronous scheduling.** A step's batch is fixed when the step before it begins: a request that arrives during a
  step waits for the next to pass, and a request that ends gives seat and memory back one step late. An idle engine
  starts at once. If nothing can be scheduled ahead, it is when the step ends.
- **KV cache.** Whole blocks, taken as tokens are computed. Where a running request finds none, the youngest running
  request is preempted (itself, if it is the youngest): it goes to the head of the queue without its blocks, and
  prompt and generated tokens are computed anew, but for what is cached. A token of the step in flight is kept.
  Nothing joins a step that preempts.
- **Prefix caching.** Whole blocks of a known prefix are not computed; the last token of a prompt always is, so of a
  fully cached prompt the last block. What a step computes of a prefix can be shared from then on, in that step too.
  Shared blocks count once; without a user they stay until memory is short, when the prefix used longest ago goes,
  whole.
- **Prefill first** (SGLang). As long as there is a prompt to compute that fits, steps hold prompts only; decodes
  wait.
- A remaining single token of a request that has generated some is a decode, whether or not it was preempted.
"""

import functools
import operator

import numpy as np

from sim.architecture import Architecture
from sim.errors import SimError, WorkloadError
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.serving.engine import EngineLimits
from sim.serving.result import ServingResult, StepTotals
from sim.serving.workload import Trace, Workload
from sim.steps.runs import Floats


def simulate(
    workload: Workload | Trace,
    engine: EngineLimits,
    model: LatencyModel,
    arch: Architecture,
    hardware: Hardware,
    tp: int = 1,
    seed: int = 0,
    *,
    keep_steps: bool = True,
) -> ServingResult:
    """Serve ``workload`` on ``tp`` GPUs until every request has its last token.

    Without ``keep_steps`` the result has their totals only: of ten million requests they would fill gigabytes.
    roofline-v1 and roofline-v3 run compiled; another model is asked in Python for every step. Raises WorkloadError for
    a request that could never be served, SimError for a step without a duration, and what the model raises.
    """
    from sim.serving import scheduler_start, step_loop  # numba is loaded here and nowhere before
    from sim.serving.step_kernels import step_kernel

    requests = workload.draw(seed)
    check_servable(requests, engine)
    model.check_length(arch, requests.longest)
    kernel = step_kernel(model, arch, hardware, tp)
    limits = scheduler_start.limits(requests, engine, kernel)
    state = scheduler_start.state(requests, engine, limits)
    records: list[Floats] = []
    totals: list[StepTotals] = []

    def take_record() -> None:
        record = scheduler_start.recorded(state)
        totals.append(scheduler_start.totals_of(record))
        if keep_steps:
            records.append(record.copy())
        scheduler_start.clear_record(state)

    while (
        why := step_loop.advance(state, limits, kernel.kind, kernel.constants)
    ) != step_loop.DONE:
        if why == step_loop.NEED_TIME:
            duration = model.step_time_us(scheduler_start.batch_in_hand(state), arch, hardware, tp)
            # NaN would be asked for again
            state.clock[1] = -1.0 if np.isnan(duration) else duration
        elif why == step_loop.RECORD_FULL:
            take_record()
        elif why == step_loop.BAD_TIME:
            raise SimError(
                f"{model.name} gives a step of {arch.name} on {hardware.gpu} no finite duration ≥ 0"
            )
        else:
            raise AssertionError("the scheduler found nothing to do with requests waiting")
    take_record()
    whole = functools.reduce(operator.add, totals)
    return scheduler_start.result(requests, engine, state, records, whole, arch, tp)


def check_servable(requests: Trace, engine: EngineLimits) -> None:
    """Raise WorkloadError, naming the first such request, if the engine could never serve one."""
    tokens = requests.prompt_tokens + requests.output_tokens - 1  # the last one is never fed back
    blocks = -(-tokens // engine.block_size) + (requests.prefix >= 0)
    i = int(np.argmax(blocks))
    if blocks[i] > engine.blocks:
        raise WorkloadError(
            f"request {i} needs {blocks[i]} blocks of {engine.block_size} tokens; the KV cache has {engine.blocks}: "
            "raise kv_cache_tokens, or shorten prompts and outputs"
        )
    i = int(np.argmax(tokens))
    if not engine.chunked_prefill and tokens[i] > engine.max_num_batched_tokens:
        raise WorkloadError(
            f"request {i} has {tokens[i]} tokens, above max_num_batched_tokens ({engine.max_num_batched_tokens}): "
            "without chunked prefill a step must hold all of them"
        )
