"""Prior knowledge of parameters: the guide's ranges, or the intervals of a previous fit."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from calibrate.fitting.covariance import NO_COVARIANCE, Covariance, by_noise
from calibrate.fitting.problem import Problem, Pull, precision_of
from calibrate.outcome.profiles import PROFILE, find_profile, is_profile
from calibrate.outcome.run_files import read_result
from calibrate.records.errors import CalibrateError
from calibrate.records.interval import Z90, Interval
from sim.models.registry import PARAMETERS
from sim.steps.batch import Floats

_SLIVER = 1e-6


@dataclasses.dataclass(frozen=True)
class Prior:
    """A normal distribution of a parameter's value, and where it comes from.

    ``correlated`` has its correlations with others, where they are known. With ``on_scale`` it is that of the point on
    the parameter's scale.
    """

    source: str
    mean: float
    sd: float
    correlated: Mapping[str, float] = dataclasses.field(default_factory=dict)
    on_scale: bool = False

    def value(self, name: str) -> float:
        """The parameter's value at the mean."""
        return PARAMETERS[name].value_at(self.mean) if self.on_scale else self.mean

    def interval(self, name: str) -> Interval:
        """The 90% interval of the parameter's value."""
        low, high = self.mean - Z90 * self.sd, self.mean + Z90 * self.sd
        if not self.on_scale:
            return low, high
        return PARAMETERS[name].value_at(low), PARAMETERS[name].value_at(high)

    def slope(self, name: str, value: float) -> float:
        """What turns an error of the value into one of this distribution."""
        return PARAMETERS[name].slope(value) if self.on_scale else 1.0


PriorSource = str | Mapping[str, Prior]
"""What :func:`read_priors` reads, or priors that are known already."""


def known_priors(source: PriorSource, strength: float, names: Sequence[str]) -> dict[str, Prior]:
    """Priors of some parameters, read or known. Raises CalibrateError as :func:`read_priors` does."""
    if isinstance(source, str):
        return read_priors(source, strength, names)
    return {name: source[name] for name in names if name in source}


def read_priors(source: str, strength: float, names: Sequence[str]) -> dict[str, Prior]:
    """Priors of some parameters: ``guide``, or the folder of a run or a profile (its values with their intervals).

    90% of a prior lie within the guide's range, or the previous interval; ``strength`` counts as so many of them.
    Raises CalibrateError for a strength that is not positive or a run that cannot be read or has no interval.
    """
    if not 0 < strength < float("inf"):
        raise CalibrateError(f"--prior-strength must be positive, got {strength:g}")
    shrink = Z90 * strength**0.5
    if source == "guide":
        ranges = {name: PARAMETERS[name].guide for name in names}
        return {
            n: Prior("guide", (low + high) / 2, (high - low) / 2 / shrink)
            for n, (low, high) in ranges.items()
        }
    if not Path(source).is_dir():
        raise CalibrateError(
            f"--prior {source}: give guide, or the folder of a run, reports/<GPU>/<run>, or of a profile"
        )
    folder = Path(source)
    if is_profile(folder):
        return _of_profile(folder, strength, names)
    priors = {}
    for parameter in read_result(source).parameters:
        low, high = parameter.ci90 or (None, None)
        if parameter.name in names and low is not None and high is not None and high > low:
            sd = (high - low) / 2 / shrink
            priors[parameter.name] = Prior(Path(source).name, parameter.value, sd)
    if not priors:
        raise CalibrateError(
            f"--prior {source}: that run has no interval of a parameter that is fitted here"
        )
    return priors


def _of_profile(folder: Path, strength: float, names: Sequence[str]) -> dict[str, Prior]:
    """A profile's values with their standard errors and correlations."""
    found = find_profile(folder)
    covariance = found.profile.covariance
    known = {one.name: one for one in found.profile.parameters if one.name in names and one.stderr}
    priors = {
        name: Prior(
            found.folder.name,
            one.value,
            (one.stderr or 0.0) / strength**0.5,
            _correlations(covariance, name, list(known)),
        )
        for name, one in known.items()
    }
    if not priors:
        raise CalibrateError(
            f"--prior {folder}: that profile has no standard error of a parameter that is fitted here: publish it "
            "against the folder of a run"
        )
    if np.linalg.eigvalsh(_covariance(priors, list(priors), unit=True))[0] <= 0:
        raise CalibrateError(
            f"{found.folder / PROFILE}: its covariance is that of no distribution: publish it again"
        )
    return priors


def _correlations(
    covariance: Mapping[str, Mapping[str, float]], name: str, names: Sequence[str]
) -> dict[str, float]:
    """Those of one parameter with others, as far as the covariance has both and they are not 0."""
    row = covariance.get(name, {})
    scale = {other: covariance.get(other, {}).get(other, 0.0) for other in names}
    return {
        other: row[other] / (scale[name] * scale[other]) ** 0.5
        for other in names
        if other != name and row.get(other) and scale[name] > 0 and scale[other] > 0
    }


def _covariance(priors: Mapping[str, Prior], names: Sequence[str], *, unit: bool = False) -> Floats:
    """That of some parameters' priors, shape (k, k); in units of their standard deviations if so asked."""
    sd = np.array([1.0 if unit else priors[name].sd for name in names])
    correlation = [
        [1.0 if name == other else priors[name].correlated.get(other, 0.0) for other in names]
        for name in names
    ]
    matrix: Floats = np.array(correlation).reshape(len(names), len(names)) * np.outer(sd, sd)
    return matrix


def pulls(priors: Mapping[str, Prior], intervals: Covariance) -> dict[str, Pull]:
    """How hard each prior pulls in the cost, so that it weighs against the data as its precision against theirs.

    The cost takes rows as independent and its noise as known; ``intervals`` are those of the data alone, which hold
    without. A prior's precision is scaled by the ratio of their variance to that which the cost's curvature suggests.
    """
    scale = misfit_scale(intervals)
    known = list(priors)
    precision = np.linalg.inv(_covariance(priors, known))
    root = np.sqrt([scale.get(name, 1.0) for name in known])
    scaled = precision * np.outer(root, root)
    return {
        name: Pull(
            priors[name].mean,
            float(scaled[row, row]),
            {
                other: float(scaled[row, column])
                for column, other in enumerate(known)
                if column != row and scaled[row, column]
            },
            priors[name].on_scale,
        )
        for row, name in enumerate(known)
    }


def misfit_scale(intervals: Covariance) -> dict[str, float]:
    """By parameter, the variance of intervals that hold over that which the cost's curvature suggests."""
    names = list(intervals.stderr)
    if not names:
        return {}
    suggested = np.diag(np.linalg.inv(intervals.curvature)).tolist()
    return {
        name: intervals.stderr[name] ** 2 / one for name, one in zip(names, suggested, strict=True)
    }


def of_few_rows(
    problem: Problem, values: Mapping[str, float], priors: Mapping[str, Prior], alone: Covariance
) -> Covariance:
    """What rows say at ``values`` that are too few to tell how they err, beside priors of all the parameters.

    A sliver of the priors makes their matrix invertible. Empty where a parameter has no prior.
    """
    if not values.keys() <= priors.keys():
        return NO_COVARIANCE
    known = misfit_scale(alone)
    scale = np.array([known.get(name, 1.0) for name in values])
    slopes = np.array([priors[name].slope(name, value) for name, value in values.items()])
    inverse = np.linalg.inv(_covariance(priors, list(values)))
    precision: Floats = np.asarray(inverse * np.outer(slopes, slopes), dtype=np.float64)
    return by_noise(problem, values, scale, _SLIVER * precision)


def with_priors(
    data: Covariance,
    priors: Mapping[str, Prior],
    pulled: Mapping[str, Pull],
    values: Mapping[str, float],
) -> Covariance:
    """Covariance of data and priors together, at ``values``: their precisions add up."""
    names = list(data.stderr)
    if not names:
        return data
    known = [name for name in names if name in priors]
    places = np.ix_(*[[names.index(name) for name in known]] * 2)
    precision, bend = np.zeros((2, len(names), len(names)))
    slopes = np.array([priors[name].slope(name, values[name]) for name in known])
    on_values = np.outer(slopes, slopes)
    precision[places] = np.linalg.inv(_covariance(priors, known)) * on_values
    covariance: Floats = np.asarray(np.linalg.inv(np.linalg.inv(data.matrix) + precision))
    stderr = dict(zip(names, np.sqrt(np.diag(covariance)).tolist(), strict=True))
    half_width = {name: data.half_width[name] / data.stderr[name] * stderr[name] for name in names}
    bend[places] = precision_of(pulled, known, known) * on_values
    return Covariance(stderr, half_width, covariance, data.curvature + bend)
