"""How large a step is, in octaves: what the misfit of a latency model depends on, and what traffic moves in."""

import numpy as np
from numpy.typing import NDArray

from sim.steps.batch import Floats, StepTable

_OCTAVES = 64  # more than any count has

NAMES = ("batch", "context", "prompt")


def octaves(table: StepTable) -> Floats:
    """log2 of requests, of mean cached tokens + 1, and of prompt tokens + 1 of every step, shape (3, n)."""
    prefills, new, cached, single, single_cached, _, decodes, context = table.moments
    requests = np.maximum(prefills + decodes, 1.0)
    mean_context = (cached + single_cached + context) / requests
    sizes: Floats = np.log2(np.stack([requests, mean_context + 1.0, new + single + 1.0]))
    return sizes


def cells(sizes: Floats, served: NDArray[np.intp]) -> NDArray[np.int64]:
    """A number for each octave of every size, and for what is ``served`` (n,): model, type and degree."""
    batch, context, prompt = np.floor(sizes).astype(np.int64)
    numbers: NDArray[np.int64] = served.astype(np.int64)
    for octave in (batch, context, prompt):
        numbers = numbers * _OCTAVES + octave
    return numbers
