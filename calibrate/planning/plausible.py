"""Which values of the parameters are plausible before anything is measured."""

from collections.abc import Mapping, Sequence

import numpy as np

from calibrate.planning.thresholds import PRIOR_ABOVE, PRIOR_BELOW
from calibrate.records.interval import Z90
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.models.registry import PARAMETERS, parameter_in
from sim.steps.batch import Floats

SETS = 8  # sets of values over which a first campaign is averaged
_SPREAD = 1.5  # they lie between the guide's range divided and multiplied by this


def plausible_sets(model: LatencyModel, hardware: Hardware, seed: int) -> list[Hardware]:
    """Configurations spread over the guide's range and somewhat more, by a Latin hypercube."""
    names = _varied(model, hardware)
    shares = _latin_hypercube(len(names), seed)

    values_of = {}
    for name, share in zip(names, shares, strict=True):
        parameter = PARAMETERS[name]
        low, high = parameter.widened(_SPREAD, _SPREAD)
        values_of[name] = parameter.between(low, high, share).tolist()

    sets = []
    for i in range(SETS):
        values = {name: values[i] for name, values in values_of.items()}
        sets.append(hardware.with_values(values))
    return sets


def _varied(model: LatencyModel, hardware: Hardware) -> list[str]:
    """Parameters that a set of values draws: neither tied to another nor switched off by a 0."""
    given = model.parameters(hardware)
    names = []
    for name in model.parameter_names:
        parameter = parameter_in(model, name)
        off = parameter.zero == "off" and given[name] == 0
        if parameter.tied_to is None and not off:
            names.append(parameter.name)
    return names


def _latin_hypercube(count: int, seed: int) -> Floats:
    """Shares of the range of each parameter, shape (count, sets): every set in a stratum of its own."""
    rng = np.random.default_rng(seed)
    strata = np.tile(np.arange(SETS), (count, 1))
    ranks = rng.permuted(strata, axis=1)
    shares: Floats = (ranks + rng.random(ranks.shape)) / SETS
    return shares


def prior_sd(names: Sequence[str], known: Mapping[str, float]) -> Floats:
    """Of ln θ, shape (p,): what is ``known``, else the guide's range, widened, as the 90% interval of a value."""
    extents = []
    for name in names:
        parameter = PARAMETERS[name]
        low, high = parameter.widened(PRIOR_BELOW, PRIOR_ABOVE)
        extents.append(parameter.extent(low, high))
    of_guide = np.array(extents) / (2 * Z90)
    return np.array([known.get(name, sd) for name, sd in zip(names, of_guide, strict=True)])
