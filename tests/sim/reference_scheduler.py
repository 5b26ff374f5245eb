"""The rules of sim.serving.simulation in plain Python, a request at a time; nothing is kept that can be counted."""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(eq=False)
class Prefix:
    limit: int
    blocks: int = 0
    users: list = dataclasses.field(default_factory=list)
    left_at: int = 0


@dataclasses.dataclass(eq=False)
class Request:
    ready: float
    prompt: int
    output: int
    cached: int
    prefix: Prefix | None
    computed: int = 0
    generated: int = 0
    blocks: int = 0  # its own, without those it shares
    shared: int = 0
    preemptions: int = 0
    joined: float | None = None
    first: float | None = None
    finish: float | None = None

    @property
    def missing(self):
        return self.prompt + self.generated - self.computed

    @property
    def decodes(self):
        return self.generated > 0 and self.missing == 1


@dataclasses.dataclass(eq=False)
class Plan:
    prefill: list = dataclasses.field(default_factory=list)  # (context, new)
    decode: list = dataclasses.field(default_factory=list)  # context
    joining: list = dataclasses.field(default_factory=list)
    first: list = dataclasses.field(default_factory=list)
    leaving: list = dataclasses.field(default_factory=list)
    reason: int = 0
    held: int = 0

    def __bool__(self):
        return bool(self.prefill or self.decode)

    def moments(self):
        several = [(s, n) for s, n in self.prefill if n != 1]
        single = [(s, n) for s, n in self.prefill if n == 1]
        return np.array(
            [
                len(self.prefill),
                sum(n for _, n in several),
                sum(s for s, _ in several),
                len(single),
                sum(s for s, _ in single),
                sum(n * s + n * (n - 1) // 2 for s, n in self.prefill),
                len(self.decode),
                sum(self.decode),
            ],
            dtype=np.float64,
        )


class Reference:
    def __init__(self, trace, engine, step_time_us):
        caching = engine.prefix_caching
        self.engine, self.step_time_us = engine, step_time_us
        self.prefixes = [
            Prefix(int(n) // engine.block_size, left_at=i)
            for i, n in enumerate(trace.prefix_tokens)
        ]
        filled = 0
        for prefix in self.prefixes if trace.warm else ():
            filled += prefix.limit
            prefix.blocks = prefix.limit if filled <= engine.blocks else 0
        self.requests = [
            Request(
                float(trace.arrival_us[i]) + engine.api_us,
                int(trace.prompt_tokens[i]),
                int(trace.output_tokens[i]),
                int(trace.cached_tokens[i]) if caching else 0,
                self.prefixes[trace.prefix[i]] if caching and trace.prefix[i] >= 0 else None,
            )
            for i in range(len(trace))
        ]
        self.queue = list(self.requests)  # preempted ones are put back in front
        self.running, self.leaving, self.steps = [], [], []
        self.departures = len(self.prefixes)

    # memory

    def used(self):
        holders = self.running + self.leaving
        return sum(r.blocks for r in holders) + sum(p.blocks for p in self.prefixes if p.users)

    def take(self, request, tokens, extra=0):
        """Room for so many tokens of a request in all."""
        size = self.engine.block_size
        more = -(-tokens // size) - request.blocks - request.shared
        if more > self.engine.blocks - self.used() - extra:
            return False
        while more > self.engine.blocks - self.used() - sum(
            p.blocks for p in self.prefixes if not p.users
        ):
            idle = [p for p in self.prefixes if not p.users and p.blocks]
            min(idle, key=lambda p: p.left_at).blocks = 0
        request.blocks += more
        return True

    def drop(self, request):
        request.blocks = request.shared = request.computed = 0
        if request.prefix:
            request.prefix.users.remove(request)
            if not request.prefix.users:
                request.prefix.left_at = self.departures
                self.departures += 1

    def preempt(self):
        request = self.running.pop()
        self.drop(request)
        request.preemptions += 1
        self.queue.insert(0, request)
        return request

    # one step

    def plan(self, known):
        plan = Plan()
        budget = self.unfinished_prompt(plan) if self.engine.prefill_first else self.go_on(plan)
        waiting = self.queue and (self.queue[0].ready <= known or self.queue[0].preemptions)
        if budget is not None:
            self.admit(plan, known, budget)
        elif waiting:
            plan.reason = 2
        if self.engine.prefill_first and not plan:
            self.go_on(plan)
        plan.held = self.used()
        return plan

    def unfinished_prompt(self, plan):
        budget = self.engine.max_num_batched_tokens
        if not self.running or self.running[-1].decodes:
            return budget
        last = self.running[-1]
        new = min(last.missing, budget)
        if not self.take(last, last.computed + new):
            return None
        self.compute(plan, last, new)
        return budget - new

    def go_on(self, plan):
        budget = self.engine.max_num_batched_tokens
        preempted = False
        for request in list(self.running):
            if request not in self.running or (self.engine.prefill_first and not request.decodes):
                continue
            new = min(request.missing, budget)
            while request in self.running and not self.take(request, request.computed + new):
                self.preempt()
                preempted = True
            if request in self.running:
                self.compute(plan, request, new)
                budget -= new
        return None if preempted else budget

    def admit(self, plan, known, budget):
        size = self.engine.block_size
        while self.queue and (self.queue[0].ready <= known or self.queue[0].preemptions):
            request, prefix = self.queue[0], self.queue[0].prefix
            if len(self.running) + len(self.leaving) >= self.engine.max_num_seqs:
                plan.reason = 1
                return
            hit = min(
                prefix.blocks if prefix else request.cached // size, (request.missing - 1) // size
            )
            new = request.missing - hit * size
            if budget == 0 or (new > budget and not self.engine.chunked_prefill):
                plan.reason = 3
                return
            new = min(new, budget)
            if prefix:
                woken = 0 if prefix.users else prefix.blocks
                request.shared = hit
                if -(-(hit * size + new) // size) - hit + woken > self.engine.blocks - self.used():
                    request.shared = 0
                    plan.reason = 2
                    return
                prefix.users.append(request)
            if not self.take(request, hit * size + new):
                plan.reason = 2
                return
            self.queue.pop(0)
            self.running.append(request)
            request.computed = hit * size
            plan.joining.append(request)
            self.compute(plan, request, new)
            budget -= new

    def compute(self, plan, request, new):
        if request.decodes:
            plan.decode.append(request.computed)
        else:
            plan.prefill.append((request.computed, new))
        request.computed += new
        prefix = request.prefix
        if prefix and request.shared == prefix.blocks:
            grown = max(
                min(request.computed // self.engine.block_size, prefix.limit) - prefix.blocks, 0
            )
            prefix.blocks += grown
            request.shared += grown
            request.blocks -= grown
        if request.missing:
            return
        request.generated += 1
        if request.generated == 1:
            plan.first.append(request)
        if request.generated == request.output:
            plan.leaving.append(request)
            self.running.remove(request)
            self.leaving.append(request)

    # all steps

    def run(self):
        now, plan = 0.0, None
        while any(request.finish is None for request in self.requests):
            if not plan:
                plan = self.plan(now)
                if not plan:
                    now = max(now, self.queue[0].ready)
                    assert math.isfinite(now)
                    plan = self.plan(now)
            for request in plan.joining:
                request.joined = now if request.joined is None else request.joined
            ahead = self.plan(now) if self.engine.async_scheduling else None
            duration = self.step_time_us(plan.moments())
            self.steps.append((now, duration, *plan.moments(), plan.reason, plan.held))
            now += duration
            for request in plan.first:
                request.first = now
            for request in plan.leaving:
                request.finish = now
                self.leaving.remove(request)
                self.drop(request)
                waiting = next((r for r in self.queue if r.ready == math.inf), None)
                if waiting:
                    waiting.ready = now + self.engine.api_us
            plan = ahead if self.engine.async_scheduling else self.plan(now)
        return self
