"""The minimum of sums over partitions: the same optimiser as in memory, shown the sums as a few rows that have them.

Any cost C with gradient g and Gauss-Newton matrix H is that of k + 1 residuals f with Jacobian J: JᵀJ = H, Jᵀf = g,
|f|² = 2C. So that as many rows are fitted at the price of sums over them.
"""

import dataclasses
import queue
import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from calibrate.fitting.objective import weighted_loss
from calibrate.fitting.problem import Pull, precision_of
from calibrate.fitting.solver import Estimate, least_squares
from calibrate.fitting.sums import Sums
from sim.steps.batch import Floats

TOLERANCE = 1e-12
"""Share of the cost below which a step gains nothing: the values are then good to 1e-7."""

SumsAt = Callable[[Mapping[str, float]], Sums]
Asked = tuple[int, Mapping[str, float]]

_NEVER_ABOVE = 1.9
_LARGEST_GROWTH = 1e3
"""Above it the cost is but what rounding left, of rows that are fitted without an error."""
_KNOWN = 1e-14


def minimise_sums(
    sums_at: SumsAt,
    start: Mapping[str, float],
    pulls: Mapping[str, Pull] | None = None,
    tolerance: float = TOLERANCE,
) -> Estimate:
    """The minimum of a cost that is known by its sums, from one start, within the physical bounds."""
    seen: dict[tuple[float, ...], tuple[Floats, Floats]] = {}

    def rows(values: Mapping[str, float]) -> tuple[Floats, Floats]:
        at = tuple(values.values())
        if at not in seen:
            seen.clear()
            seen[at] = as_rows(with_pulls(sums_at(dict(values)), values, pulls or {}))
        return seen[at]

    one = weighted_loss("linear", np.ones(len(start) + 1))
    return least_squares(lambda v: rows(v)[0], lambda v: rows(v)[1], start, one, tolerance)


def with_pulls(sums: Sums, values: Mapping[str, float], pulls: Mapping[str, Pull]) -> Sums:
    """The sums with the priors' terms."""
    names = [name for name in values if name in pulls]
    if not names:
        return sums
    at = [[*values].index(name) for name in names]
    off = np.array([pulls[name].off(name, values[name]) for name in names])
    slope = np.array([pulls[name].slope(name, values[name]) for name in names])
    precision = precision_of(pulls, names, names)
    gradient, curvature = sums.gradient.copy(), sums.curvature.copy()
    gradient[at] += slope * (precision @ off)
    curvature[np.ix_(at, at)] += precision * np.outer(slope, slope)
    cost = sums.cost + 0.5 * (off @ precision @ off)
    return dataclasses.replace(sums, cost=cost, gradient=gradient, curvature=curvature)


def as_rows(sums: Sums) -> tuple[Floats, Floats]:
    """Residuals (k + 1,) and their Jacobian (k + 1, k) that have these sums of all rows.

    A robust loss may bend less than its cost allows; the matrix is then taken larger, and the step is shorter.
    """
    size = np.sqrt(np.maximum(np.diag(sums.curvature), np.finfo(float).tiny))
    values, vectors = np.linalg.eigh(sums.curvature / np.outer(size, size))
    known = values > _KNOWN * max(float(values[-1]), np.finfo(float).tiny)
    root = np.sqrt(np.where(known, values, 0.0))
    residual = np.where(known, vectors.T @ (sums.gradient / size), 0.0) / np.where(known, root, 1.0)
    cost = float(sums.cost)
    share = float(residual @ residual) / max(_NEVER_ABOVE * cost, np.finfo(float).tiny)
    growth = min(max(1.0, share) ** 0.5, _LARGEST_GROWTH)
    residual, root = residual / growth, root * growth
    rest = np.sqrt(max(2.0 * cost - float(residual @ residual), 0.0))
    jacobian = (root[:, None] * vectors.T) * size
    return np.append(residual, rest), np.vstack([jacobian, np.zeros(len(size))])


def side_by_side(
    sums_at: Callable[[Sequence[Asked]], Sequence[Sums]],
    tasks: Sequence[Callable[[SumsAt], Estimate]],
) -> list[Estimate]:
    """What each task returns; what they ask at once is summed at once, so that the rows are read once for all.

    Each task is given a function to ask for sums; ``sums_at`` is asked with the tasks' numbers.
    """
    asked: queue.Queue[tuple[int, Mapping[str, float] | None]] = queue.Queue()
    answers: list[queue.Queue[Sums | None]] = [queue.Queue() for _ in tasks]
    done: dict[int, Estimate | BaseException] = {}

    def run(number: int) -> None:
        def ask(values: Mapping[str, float]) -> Sums:
            asked.put((number, values))
            answer = answers[number].get()
            if answer is None:
                raise _StoppedError
            return answer

        try:
            done[number] = tasks[number](ask)
        except BaseException as error:  # raised again where the tasks were asked for
            done[number] = error
        asked.put((number, None))

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(len(tasks))]
    for thread in threads:
        thread.start()
    try:
        _answer(sums_at, asked, answers, len(tasks))
    finally:
        for answer in answers:
            answer.put(None)
    for found in done.values():
        if isinstance(found, BaseException):
            raise found
    return [done[number] for number in range(len(tasks))]  # type: ignore[misc]  # errors were raised


class _StoppedError(Exception):
    """The one that answers has failed."""


def _answer(
    sums_at: Callable[[Sequence[Asked]], Sequence[Sums]],
    asked: "queue.Queue[tuple[int, Mapping[str, float] | None]]",
    answers: "Sequence[queue.Queue[Sums | None]]",
    running: int,
) -> None:
    """Answer until no task is running: whenever all that are have asked."""
    waiting: list[Asked] = []
    while running:
        number, values = asked.get()
        if values is None:
            running -= 1
        else:
            waiting.append((number, values))
        if waiting and len(waiting) == running:
            for (task, _), sums in zip(waiting, sums_at(waiting), strict=True):
                answers[task].put(sums)
            waiting = []
