"""One parameter over several GPUs: what they have in common, how far they differ, and what that says of the next.

GPU g's point on the parameter's scale is y_g = μ + u_g + e_g. The effects u have covariance τ²·R, where R holds what
GPUs share by group (:func:`kinship`); e_g has the known variance of the GPU's own fit. τ² is that of the largest
restricted likelihood (REML: Patterson and Thompson 1971), with the guide's range as a prior of few GPUs' weight. A GPU
that stands apart counts less towards the mean (weights of Student's t with one degree of freedom: Lange, Little and
Taylor 1989), but in full towards τ². The next GPU's point is the best linear unbiased prediction.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats

from calibrate.transfer.thresholds import PRIOR_GPUS, ROUNDS, SHARED
from sim.steps.batch import Floats

Groups = Sequence[str]
"""What a GPU belongs to, the widest first; those of another length or order are not compared."""

_LEAST, _MOST = 1e-4, 1e2  # of the prior's variance


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Student's t on the parameter's scale: ``mean``, ``sd`` of its normal core and degrees of ``freedom``."""

    mean: float
    sd: float
    freedom: float

    @property
    def half_width(self) -> float:
        """Of the 90% interval."""
        return float(stats.t.ppf(0.95, self.freedom) * self.sd)


def kinship(groups: Sequence[Groups]) -> Floats:
    """Correlations of the effects of m GPUs by their groups, shape (m, m)."""
    related = np.zeros((len(groups), len(groups)))
    left = 1.0
    for labels in zip(*groups, strict=True):
        names = np.array(labels)
        related += left * SHARED * (names[:, None] == names[None, :])
        left *= 1.0 - SHARED
    return related + left * np.eye(len(groups))


def between_variance(points: Floats, variances: Floats, related: Floats, prior_sd: float) -> float:
    """τ² of points (m,) with known variances (m,) and correlations (m, m); ``prior_sd`` is the guide's."""
    prior = prior_sd**2

    def cost(log_variance: float) -> float:
        variance = np.exp(log_variance)
        whole = variance * related + np.diag(variances)
        mean, precision, inverse = _mean(points, whole)
        off = points - mean
        fit = np.linalg.slogdet(whole)[1] + np.log(precision) + off @ inverse @ off
        return float(fit + PRIOR_GPUS * (log_variance + prior / variance))

    ends = (np.log(_LEAST * prior), np.log(_MOST * prior))
    return float(np.exp(optimize.minimize_scalar(cost, bounds=ends, method="bounded").x))


def predict(
    points: Floats, variances: Floats, groups: Sequence[Groups], new: Groups, prior_sd: float
) -> Prediction:
    """The point of a new GPU, of groups ``new``, from those of m others; see the module.

    ``points`` and ``variances`` have shape (m,), m ≥ 1; ``prior_sd`` is the standard deviation that the guide's range
    suggests.
    """
    whole = kinship([*groups, new])
    related, toward = whole[:-1, :-1], whole[:-1, -1]
    variance = between_variance(points, variances, related, prior_sd)
    extra = _extra_of_apart(points, variance * related + np.diag(variances), variance, groups)
    mean, precision, inverse = _mean(
        points, variance * related + np.diag(variances) + np.diag(extra)
    )
    gain = variance * toward @ inverse
    unexplained = 1.0 - gain.sum()
    spread = variance - variance * gain @ toward + unexplained**2 / precision
    return Prediction(
        mean=float(mean + gain @ (points - mean)),
        sd=float(np.sqrt(spread)),
        freedom=len(points) - 1 + PRIOR_GPUS,
    )


def _extra_of_apart(
    points: Floats, whole: Floats, variance: float, groups: Sequence[Groups]
) -> Floats:
    """What the variance of each GPU's own effect grows by, shape (m,), as it stands apart; it may shrink."""
    own = variance * (1.0 - SHARED) ** len(groups[0])
    scaled = np.full(len(points), own)
    for _ in range(ROUNDS):
        mean, _, inverse = _mean(points, whole + np.diag(scaled - own))
        effect = scaled * (inverse @ (points - mean))
        left = scaled - scaled**2 * np.diag(inverse)
        scaled = own * (1.0 + (effect**2 + left) / own) / 2.0
    return scaled - own


def _mean(points: Floats, whole: Floats) -> tuple[float, float, Floats]:
    """The generalised least-squares mean of points (m,) with covariance (m, m), its precision, and the inverse."""
    inverse: Floats = np.asarray(np.linalg.inv(whole))
    precision = float(inverse.sum())
    return float(inverse.sum(axis=0) @ points) / precision, precision, inverse
