"""One mean load point: which mean steps its server takes, and what their times make of its latencies.

Each formula takes the numbers of one load point, as compiled code calls it, or arrays of many.
"""

from typing import Any, NamedTuple

import numpy as np

# Floats of one load point, or arrays (n,) of many: compiled code knows no union of the two
Number = Any


class Means(NamedTuple):
    """A load point by its means; times in µs.

    ``rate`` (1/µs) is 0 of a closed load, ``clients`` of any other. ``new`` are the tokens of a prompt that are
    computed, ``context`` those that the prefix cache holds; ``chunks`` is the number of steps that compute a prompt.
    ``sampler`` is the sampler's time a step, ``sampler_each`` a request.
    """

    api: Number
    reply: Number
    new: Number
    context: Number
    output: Number
    rate: Number
    clients: Number
    seats: Number
    budget: Number
    ahead: Number
    chunks: Number
    sampler: Number
    sampler_each: Number


class Steps(NamedTuple):
    """Mean steps: a batch of decodes alone, beside ``some`` prompts, and beside what one ``chunk`` needs.

    ``busy`` is the share of time in which the engine works, ``filled`` the share of steps that have a prompt.
    """

    batch: Number
    some: Number
    chunk: Number
    busy: Number
    filled: Number


def mean_steps(load: Means, ttft: Number, itl: Number) -> Steps:
    """The steps of a server that takes so long, ``ttft`` without the times around the engine."""
    in_engine = ttft + (load.output - 1.0) * itl
    rate = load.rate + load.clients / (load.api + in_engine + load.reply * load.output)
    prompts = np.maximum(rate * itl, 1e-9)
    # The share of steps that have a prompt, as Poisson arrivals make it
    filled = -np.expm1(-prompts * load.chunks)
    return Steps(
        np.minimum(rate * (load.output - 1.0) * itl, load.seats),
        prompts / filled,
        np.maximum(prompts, 1.0 / load.chunks),
        np.minimum(rate * in_engine, 1.0),
        filled,
    )


def mean_moments(load: Means, prompts: Number, decodes: Number) -> tuple[Number, ...]:
    """The eight moments of a mean step of so many prompts and decodes."""
    new = np.minimum(prompts * load.new, load.budget)
    pairs = new * (load.context + (np.minimum(load.new, load.budget) - 1.0) / 2.0)
    length = load.new + load.context + load.output / 2.0
    cached = new / np.maximum(load.new, 1.0) * load.context
    none = 0.0 * new
    return prompts, new, cached, none, none, pairs, decodes, decodes * length


def next_guess(
    load: Means, steps: Steps, ttft: Number, itl: Number, bare: Number, mixed: Number, chunk: Number
) -> tuple[Number, Number, Number]:
    """TTFT and ITL half the way to what those three steps' times make of them; and the mean step's time."""
    mean = bare + steps.filled * (mixed - bare)
    queued = (0.5 + load.ahead) * steps.busy * itl
    return 0.5 * (ttft + queued + chunk * load.chunks), np.sqrt(itl * mean), mean


def latencies_us(load: Means, ttft: Number, itl: Number) -> tuple[Number, Number, Number]:
    """TTFT, ITL and E2E, the times around the engine in them."""
    in_engine = ttft + (load.output - 1.0) * itl
    end = load.api + in_engine + load.reply * load.output
    return load.api + ttft + load.reply, itl + load.reply, end
