"""The smooth maximum (a³ + b³)^(1/3) of compute and memory time, and what each side has of it."""

import dataclasses

import numpy as np

from sim.steps.batch import Floats


@dataclasses.dataclass(frozen=True)
class Roofline:
    """A smooth maximum ``us`` and its parts, all of shape (n,): a part is the share of its cube."""

    us: Floats
    compute_us: Floats
    memory_us: Floats


def roofline(compute_cubed: Floats, memory_cubed: Floats) -> Roofline:
    """Of both sides' times, cubed."""
    total = compute_cubed + memory_cubed
    us = np.cbrt(total)
    share = us / np.maximum(total, np.finfo(np.float64).tiny)
    return Roofline(us, compute_cubed * share, memory_cubed * share)


def cubed(values: Floats) -> Floats:
    """x³; a power takes ten times as long."""
    return values * values * values
