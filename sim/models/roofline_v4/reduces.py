"""All-reduces: in one step, in two or around a ring, as their size and the number of GPUs decide.

Small ones an engine leaves to a kernel of its own. In one step every GPU reads all that every other has. In two it
reads its share first, and then the sums of the others. Large ones, and those of more GPUs than the kernel reaches, go
to NCCL. Where one step ends is vLLM's choice (csrc/custom_all_reduce.cuh), whose kernel SGLang has, too.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sim.steps.batch import Floats

WAYS = ONE_STEP, TWO_STEPS, RING = range(3)
RING_BYTES = 8.0 * 2**20
"""The size at which a ring sends at the rate of the parameter; it sends larger messages faster."""

OwnKernel = Sequence[tuple[int, float]]
"""Below how many bytes an engine's own kernel reduces, by the most GPUs that this holds for, few GPUs first."""

_ONE_STEP = ((2, np.inf), (4, 512.0 * 1024.0), (8, 256.0 * 1024.0))


def limits_bytes(tp: Floats, own: OwnKernel) -> tuple[Floats, Floats]:
    """Below which size an all-reduce takes one step, and from which on a ring; both of the shape of ``tp``."""
    most = _limit(tp, own)
    return np.minimum(_limit(tp, _ONE_STEP), most), most


def ways(size: Floats, few: Floats, most: Floats) -> NDArray[np.intp]:
    """The way of all-reduces of ``size`` bytes under their limits, all (n,)."""
    return (size >= few).astype(np.intp) + (size >= most)


def token_us(count: Floats, size: Floats, tp: Floats, values: Mapping[str, float]) -> Floats:
    """µs of each token in ``count`` all-reduces to which it adds ``size`` bytes, (p, ways): kB over GB/s are µs."""
    kilobytes = 1e-3 * count * size * (tp - 1.0)
    kilobytes *= (tp / 2.0) ** values["allReduceTpExponent"]
    one_step = kilobytes / values["allReduceDirectGBps"]
    others = kilobytes * 2.0 / tp / values["allReduceBwGBps"]
    return np.stack([one_step, others, others], axis=-1)


def fixed_us(count: Floats, tp: Floats, values: Mapping[str, float]) -> Floats:
    """µs of ``count`` all-reduces whatever their size, (p, ways)."""
    hops = values["allReduceHopMicros"] * np.log2(2.0 * tp)
    one_step = values["allReduceMicros"] + hops
    two_steps = one_step + values["allReduceTwoStepMicros"] * np.log2(tp)
    ring = np.full_like(tp, values["allReduceRingMicros"])
    fixed: Floats = count[:, None] * np.stack([one_step, two_steps, ring], axis=-1)
    return fixed


def _limit(tp: Floats, by_gpus: OwnKernel) -> Floats:
    """The limit of the least number of GPUs that has so many; 0 above them all."""
    found = np.zeros_like(tp)
    for gpus, limit in sorted(by_gpus, reverse=True):
        found[tp <= gpus] = limit
    return found
