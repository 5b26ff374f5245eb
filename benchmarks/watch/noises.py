"""What the time of a step does by chance, in ln of it."""

from collections.abc import Callable

import numpy as np
from scipy.signal import lfilter

from sim.steps.batch import Floats

Noise = Callable[[np.random.Generator, int], Floats]


def correlated(spread: float, correlation: float) -> Noise:
    def drawn(rng: np.random.Generator, rows: int) -> Floats:
        white = rng.standard_normal(rows)
        scale = spread * np.sqrt(1 - correlation**2)
        return np.asarray(scale * lfilter([1.0], [1.0, -correlation], white))

    return drawn


def _heavy(rng: np.random.Generator, rows: int) -> Floats:
    return 0.035 * rng.standard_t(3, rows)


def _skewed(rng: np.random.Generator, rows: int) -> Floats:
    return 0.02 * rng.standard_normal(rows) + rng.exponential(0.03, rows)


def _pauses(rng: np.random.Generator, rows: int) -> Floats:
    long = np.where(rng.random(rows) < 0.01, rng.uniform(1.0, 4.0, rows), 0.0)
    return 0.04 * rng.standard_normal(rows) + long


def _bursts(rng: np.random.Generator, rows: int) -> Floats:
    """Ten steps in a thousand, in a row, take half as long again: a neighbour's work."""
    busy = lfilter(np.ones(10), [1.0], rng.random(rows) < 0.001) > 0
    return np.asarray(0.04 * rng.standard_normal(rows) + np.log(1.5) * busy)


def _swinging(rng: np.random.Generator, rows: int) -> Floats:
    """Clocks that swing by half a percent in an hour."""
    return 0.04 * rng.standard_normal(rows) + 0.005 * np.sin(np.arange(rows) / 65_000.0)


NOISES: dict[str, Noise] = {
    "independent, 5%": correlated(0.05, 0.0),
    "independent, 10%": correlated(0.10, 0.0),
    "correlated 0.5, 5%": correlated(0.05, 0.5),
    "correlated 0.8, 3%": correlated(0.03, 0.8),
    "correlated 0.9, 2%": correlated(0.02, 0.9),
    "heavy tails (t, 3 degrees), 3.5%": _heavy,
    "skewed (exponential), 3%": _skewed,
    "pauses of 1% of steps, 4%": _pauses,
    "bursts of ten steps, 4%": _bursts,
    "clocks that swing 0.5%, 4%": _swinging,
}
