"""What to measure where two candidates cannot be told apart: the step, or the server, that would tell them."""

import numpy as np

from calibrate.capacity.recommendation import Choice
from calibrate.capacity.sweep import Assessed
from calibrate.capacity.thresholds import SURE, TIED
from calibrate.fitting.objective import MODEL_FLOOR
from calibrate.planning.candidates import candidate_steps
from sim.steps.batch import Floats, StepTable


def next_point(best: Choice, others: list[Choice], assessed: dict[str, Assessed]) -> str:
    """A sentence on the first other candidate that may as well be the best, and what to measure; "" without one."""
    for other in others:
        share = _cheaper(best, other)
        if share is None or _alike(best, other):
            continue
        if share >= SURE:
            return ""
        told = f"{best.candidate} is better than {other.candidate} in {share:.0%} of the draws only"
        return f"{told}. Measure next: {_measure(best, other, assessed)}"
    return ""


def _alike(best: Choice, other: Choice) -> bool:
    """Whether two candidates do the same in every draw: limits that bind neither."""
    return best.candidate.tp == other.candidate.tp and bool(
        np.allclose(best.rates, other.rates, rtol=TIED)
    )


def _cheaper(best: Choice, other: Choice) -> float | None:
    """In which share of the draws the first takes less a request, by price where both have one, else by GPU."""
    if not len(best.rates):
        return None
    return float(np.mean(_log_burden(best) <= _log_burden(other)))


def _log_burden(one: Choice) -> Floats:
    cost = one.cost_per_million_tokens
    hourly = one.candidate.tp if cost is None else cost * one.rate
    logs: Floats = np.log(hourly / np.maximum(one.rates, 1e-9))
    return logs


def _measure(best: Choice, other: Choice, assessed: dict[str, Assessed]) -> str:
    one = assessed[str(best.candidate)]
    gap = _log_burden(other) - _log_burden(best)
    step = _telling_step(one, best, other, gap)
    return step or _server(best, other, one)


def _server(best: Choice, other: Choice, one: Assessed) -> str:
    """The load point of the one whose rate is less sure."""
    wider = max((best, other), key=lambda choice: choice.band.high / max(choice.band.low, 1e-9))
    candidate = wider.candidate
    return (
        f"a server of {one.replica.arch.name} on {candidate} at {wider.rate:.3g} requests a second of this workload "
        "(what the fit misses on servers outweighs its parameters; import the result, then calibrate fit --serving)"
    )


def _telling_step(one: Assessed, best: Choice, other: Choice, gap: Floats) -> str:
    """The step of the plan's candidates that shows most of the gap; "" where parameters do not make most of it.

    With Σ the parameters' covariance over the draws, c their covariance with the gap and g the slopes of a step's
    ln t, measuring it takes (g·c)²/(g·Σ·g + σ²) from the gap's variance.
    """
    names = tuple(one.draws[0].values) if one.draws else ()
    if not names or best.candidate.gpu != other.candidate.gpu:
        return ""
    values = np.array([[draw.values[name] for name in names] for draw in one.draws])
    moved = values - values.mean(axis=0)
    spread = moved.T @ moved / len(moved)
    with_gap = moved.T @ (gap - gap.mean()) / len(moved)
    explained = float(with_gap @ np.linalg.pinv(spread) @ with_gap)
    chance = len(names) / len(moved)  # of the variance, which as many random columns would explain
    if explained < (0.5 + 0.5 * chance) * float(gap.var()):
        return ""
    replica = one.replica
    tps = sorted({best.candidate.tp, other.candidate.tp})
    steps = candidate_steps([replica.arch], tps, replica.hardware)
    table = StepTable.from_columns(steps, lambda name, dtype: replica.arch)  # noqa: ARG005 - one model
    predicted, slopes = replica.model.predict_with_jacobian_us(table, replica.hardware, names)
    slopes = slopes / predicted[:, None]
    own = np.einsum("ni,ij,nj->n", slopes, spread, slopes) + MODEL_FLOOR**2
    at = int(np.argmax((slopes @ with_gap) ** 2 / own))
    row = steps.iloc[at]
    return (
        f"a step of {row['model']} at TP {row['tp']} with {row['num_prefill_requests']} prompts of "
        f"{row['sum_prefill_tokens']} tokens in all and {row['num_decode_requests']} decodes over "
        f"{row['sum_decode_kv_tokens']} cached ones (calibrate plan chooses more)"
    )
