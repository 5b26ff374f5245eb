"""The closed form of load points compiled: a fit asks for it hundreds of times."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from calibrate.serving import mean_step
from calibrate.serving.mean_load import ROUNDS, SETTLED
from calibrate.serving.mean_step import Means
from sim.models.compiled import compiled, kept_on_disk, source_stamp
from sim.serving import step_kernels
from sim.serving.step_kernels import COMPILED, StepKernel, step_time_us
from sim.steps.batch import Floats

_mean_steps = compiled(mean_step.mean_steps)
_mean_moments = compiled(mean_step.mean_moments)
_next_guess = compiled(mean_step.next_guess)
_latencies_us = compiled(mean_step.latencies_us)

_MOMENTS = 8


def latencies_of_all(
    kernels: Sequence[StepKernel], which: NDArray[np.intp], loads: Means
) -> Floats:
    """TTFT, ITL and E2E in µs, shape (n, 3), the i-th load's by ``kernels[which[i]]``; none is EXTERNAL."""
    constants = np.array([kernel.constants for kernel in kernels])
    found = np.empty((len(which), 3))
    rows = np.column_stack(loads)
    _fill(kernels[0].kind, constants, which, rows, np.empty(_MOMENTS), found)
    return found


@compiled
def _step_us(
    kind: int, constants: Floats, load: Means, prompts: float, decodes: float, moments: Floats
) -> float:
    """Duration in µs of a mean step, the sampler's time in it; ``moments`` (8,) is written over."""
    found = _mean_moments(load, prompts, decodes)
    for k in range(_MOMENTS):
        moments[k] = found[k]
    time = step_time_us(kind, constants, moments)
    return time + load.sampler + load.sampler_each * (prompts + decodes)  # type: ignore[no-any-return]  # floats


def _filling(stamp: int) -> Callable[[int, Floats, NDArray[np.intp], Floats, Floats, Floats], None]:
    def fill(
        kind: int,
        constants: Floats,
        which: NDArray[np.intp],
        rows: Floats,
        moments: Floats,
        found: Floats,
    ) -> None:
        for i in range(len(which) if stamp >= 0 else 0):
            row, own = rows[i], constants[which[i]]
            load = Means(
                *(row[0], row[1], row[2], row[3], row[4], row[5], row[6]),
                *(row[7], row[8], row[9], row[10], row[11], row[12]),
            )
            itl = _step_us(kind, own, load, 0.0, 1.0, moments)
            ttft = itl
            for _ in range(ROUNDS):
                steps = _mean_steps(load, ttft, itl)
                bare = _step_us(kind, own, load, 0.0, steps.batch, moments)
                mixed = _step_us(kind, own, load, steps.some, steps.batch, moments)
                chunk = _step_us(kind, own, load, steps.chunk, steps.batch, moments)
                known, before = ttft, itl
                ttft, itl, mean = _next_guess(load, steps, ttft, itl, bare, mixed, chunk)
                if max(abs(ttft / known - 1.0), abs(mean / before - 1.0)) < SETTLED:
                    break
            found[i, 0], found[i, 1], found[i, 2] = _latencies_us(load, ttft, itl)

    return kept_on_disk(fill)


_places = (__file__, mean_step.__file__, step_kernels.__file__)
_fill = _filling(source_stamp((model.name for model in COMPILED), *_places))
