"""Bootstrap by run over partitions: whole runs drawn again by the weights of their units, each sample a fit to all."""

from collections.abc import Mapping

import numpy as np

from calibrate.fitting.partitioned import Partitioned
from calibrate.fitting.problem import Pull
from calibrate.fitting.solver import snap
from calibrate.fitting.sums import Terms
from calibrate.trust.bootstrap import Bootstrap, Runs
from calibrate.trust.unit_folds import Solved, refit_weighed

_BATCH = 20
"""Samples that read the rows together."""


def bootstrap_units(
    data: Partitioned,
    terms: Terms,
    solved: Solved,
    samples: int,
    seed: int,
    pulls: Mapping[str, Pull],
) -> Bootstrap:
    """Refit ``samples`` times to runs drawn with replacement, as many of every campaign as it has, from the solution.

    Every sample draws from a stream of its own, as in memory.
    """
    runs = Runs.of(data.units)
    streams = np.random.SeedSequence(seed).spawn(samples)
    fits = []
    for first in range(0, samples, _BATCH):
        drawn = [runs.draw(np.random.default_rng(one)) for one in streams[first : first + _BATCH]]
        weights = [solved.weight * times for times in drawn]
        fits += refit_weighed(data, terms, solved, [solved.values] * len(drawn), weights, pulls)
    good = [fit.values for fit in fits if fit.success]
    values = {
        name: np.array([snap(name, one[name]) for one in good], dtype=np.float64)
        for name in solved.values
    }
    return Bootstrap(values, samples - len(good), data.units["run"].nunique())
