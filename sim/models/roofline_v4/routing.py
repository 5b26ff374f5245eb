"""How a router spreads the tokens of a step over experts and GPUs.

Routing is uneven: with power laws of exponent 1.0 to 1.2 an expert of mean load μ is chosen by some token with
probability μ/(1 + μ), not 1 − exp(−μ), and a GPU's experts have twice the spread of load that chance alone gives. Of
several GPUs the busiest sets the time. Fitted freely, both figures are the same on four GPUs: properties of routing,
so constants. Sources: the routed kernels of aiconfigurator-core 0.12; the expected maximum of normal draws.
"""

import numpy as np

from sim.steps.batch import Floats

_SPREAD_OF_LOAD = 2.0
_TINY = 1e-9
_DRAWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
_BUSIEST = (0.0, 0.564, 1.029, 1.424, 1.766, 2.070, 2.344, 2.595, 2.826, 3.041)


def above_mean(ranks: Floats) -> Floats:
    """By how many standard deviations the largest of ``ranks`` normal draws is above their mean, expected."""
    return np.interp(np.log2(ranks), np.log2(_DRAWS), _BUSIEST)


def busiest(
    tokens: Floats, per_token: Floats, experts: Floats, ranks: Floats
) -> tuple[Floats, Floats]:
    """Rows and touched experts of the busiest GPU, each of the shape of ``tokens``; 0 in a step without a token.

    ``per_token`` of ``experts`` serve a token; ``ranks`` GPUs share them. A GPU has one row and one expert at the
    least, a row for each token and expert at the most.
    """
    return busiest_above(tokens, per_token, experts, ranks, above_mean(ranks))


def busiest_above(
    tokens: Floats, per_token: Floats, experts: Floats, ranks: Floats, above: Floats
) -> tuple[Floats, Floats]:
    """The same with :func:`above_mean` of the ranks given: arrays, or numbers in compiled code."""
    here = experts / ranks
    load = tokens * per_token / experts
    share = load / (1.0 + load)
    chosen = here * share
    touched = chosen + above * np.sqrt(chosen * (1.0 - share))
    mean = tokens * per_token / ranks
    some = np.maximum(mean, _TINY)
    excess = above * np.sqrt(_SPREAD_OF_LOAD**2 / here + 1.0 / some)
    room = np.maximum(ranks * np.minimum(per_token, here) / per_token - 1.0, _TINY)
    excess = excess / np.cbrt(1.0 + (excess / room) ** 3)
    any_token = np.minimum(tokens, 1.0)
    rows = np.maximum(mean * (1.0 + excess), any_token)
    return rows, np.minimum(np.maximum(touched, any_token), here)
