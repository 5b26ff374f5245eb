"""Which of many candidate rows teach most about the parameters: a D-optimal design, greedy, then by exchange."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from sim.steps.batch import Floats

_WORTH_AN_EXCHANGE = 1e-6
_MOST_EXCHANGES = 500


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """Rows that could be measured: n of them, p parameters, k sets of values that the parameters may have.

    ``slopes`` (k, n, p) is ∂ln t/∂ln θ; ``slice_of`` (n,) numbers the slices whose rows share an error of the model;
    ``point_s`` (n,) is the time to measure a row, once the ``load_of`` (n,) that it belongs to has taken its
    ``load_s`` (number of loads,).
    """

    slopes: Floats
    slice_of: NDArray[np.intp]
    point_s: Floats
    load_of: NDArray[np.intp]
    load_s: Floats

    def seconds(self, rows: NDArray[np.intp]) -> float:
        """The time to measure some rows."""
        return float(self.point_s[rows].sum() + self.load_s[np.unique(self.load_of[rows])].sum())


@dataclasses.dataclass(frozen=True)
class Noise:
    """Relative error of a row: ``shared`` by all rows of its slice, and its ``own``; standard deviations."""

    shared: float
    own: float


@dataclasses.dataclass(frozen=True, eq=False)
class Information:
    """What is known of ln θ and of the slices' shared errors: their precision, (k, p + slices, p + slices).

    ``size`` is p.
    """

    matrix: Floats
    size: int

    @classmethod
    def prior(cls, sd: Floats, slices: int, sets: int, noise: Noise) -> "Information":
        """Independent normal priors: ``sd`` (p,) of ln θ, and the shared error of every slice."""
        precision = np.concatenate([sd**-2.0, np.full(slices, noise.shared**-2.0)])
        return cls(np.tile(np.diag(precision), (sets, 1, 1)), len(sd))

    def add(self, slopes: Floats, slice_of: NDArray[np.intp], own: Floats | float) -> "Information":
        """With rows (k, n, p) of these slices, their own errors ``own`` (n,) or one for all."""
        rows = self.rows(slopes, slice_of) / np.broadcast_to(own, len(slice_of))[:, None]
        return dataclasses.replace(self, matrix=self.matrix + np.swapaxes(rows, 1, 2) @ rows)

    def covariance(self) -> Floats:
        """Of ln θ, the shared errors integrated out, shape (k, p, p)."""
        return _inverse(self.matrix)[:, : self.size, : self.size]

    def standard_errors(self) -> Floats:
        """Of ln θ, root mean square over the sets, shape (p,)."""
        variances = np.diagonal(self.covariance(), axis1=1, axis2=2)
        errors: Floats = np.sqrt(variances.mean(axis=0))
        return errors

    def joint_error(self) -> float:
        """det(covariance)^(1/2p): the geometric mean half-axis of the error ellipsoid, averaged over the sets."""
        return float(np.exp(np.linalg.slogdet(self.covariance())[1].mean() / (2 * self.size)))

    def rows(self, slopes: Floats, slice_of: NDArray[np.intp]) -> Floats:
        """Rows by parameter and by shared error, shape (k, n, p + slices)."""
        indicator = np.eye(self.matrix.shape[1] - self.size)[slice_of]
        rows: Floats = np.concatenate([slopes, np.broadcast_to(indicator, (len(slopes), *indicator.shape))], axis=2)
        return rows


def choose_points(
    candidates: Candidates, start: Information, noise: Noise, budget: int, price_per_s: float, most_s: float
) -> NDArray[np.intp]:
    """At most ``budget`` distinct candidates, sorted, that together teach most about ln θ beside ``start``.

    Maximises ln det of the precision of ln θ (Kiefer 1959: D-optimality), averaged over the sets of values (Chaloner
    and Larntz 1989), less ``price_per_s`` a second, within ``most_s`` seconds: greedily, then by Fedorov's (1972)
    exchanges, the best of all pairs each time, until none is worth it. No chance is involved.
    """
    search = _Search(candidates, start, noise, price_per_s, most_s)
    chosen: list[int] = []
    while len(chosen) < min(budget, len(candidates.point_s)):
        gain = search.additions(chosen)
        best = int(gain.argmax())
        if not np.isfinite(gain[best]):
            break
        chosen.append(best)
    for _ in range(_MOST_EXCHANGES if chosen else 0):
        gain = search.exchanges(chosen)
        out, into = divmod(int(gain.argmax()), gain.shape[1])
        if gain[out, into] < _WORTH_AN_EXCHANGE:
            break
        chosen[out] = into
    return np.array(sorted(chosen), dtype=np.intp)


def taught(candidates: Candidates, start: Information, noise: Noise, chosen: NDArray[np.intp]) -> NDArray[np.intp]:
    """Of each chosen row, the parameter whose variance would grow by the largest factor without it, shape (m,)."""
    information = start.add(candidates.slopes[:, chosen], candidates.slice_of[chosen], noise.own)
    rows = information.rows(candidates.slopes[:, chosen], candidates.slice_of[chosen]) / noise.own
    inverse = _inverse(information.matrix)
    shift = rows @ inverse
    left = 1.0 - np.einsum("kmq,kmq->km", shift, rows)
    variance = np.diagonal(inverse, axis1=1, axis2=2)
    growth = shift**2 / left[:, :, None] / variance[:, None, :]
    most: NDArray[np.intp] = growth[:, :, : start.size].mean(axis=0).argmax(axis=1)
    return most


@dataclasses.dataclass(frozen=True, eq=False)
class _Search:
    """Scores of all single additions and exchanges to a choice; −∞ where one is not allowed.

    The shared errors stand as parameters beside ln θ; their own precision is diagonal, so the determinant of ln θ's
    is that of all over theirs, and a row changes both by rank one.
    """

    candidates: Candidates
    start: Information
    noise: Noise
    price_per_s: float
    most_s: float

    def additions(self, chosen: list[int]) -> Floats:
        """Scores of adding each candidate, shape (n,)."""
        rows, inverse, of_slices = self._state(chosen)
        variance = np.einsum("knq,knq->kn", rows @ inverse, rows)
        gain: Floats = np.log1p(variance).mean(axis=0) - np.log1p(self._own / of_slices)[self.candidates.slice_of]
        used = self._loads(chosen)
        extra_s = self.candidates.point_s + np.where(used > 0, 0.0, self.candidates.load_s)[self.candidates.load_of]
        gain -= self.price_per_s * extra_s
        gain[self.candidates.seconds(np.array(chosen, dtype=np.intp)) + extra_s > self.most_s] = -np.inf
        gain[chosen] = -np.inf
        return gain

    def exchanges(self, chosen: list[int]) -> Floats:
        """Scores of putting each candidate in the place of each chosen one, shape (m, n)."""
        rows, inverse, of_slices = self._state(chosen)
        across = rows @ inverse
        variance = np.einsum("knq,knq->kn", across, rows)
        mixed = rows[:, chosen] @ np.swapaxes(across, 1, 2)
        out = variance[:, chosen, None]
        ratio = (1.0 + variance[:, None, :]) * (1.0 - out) + mixed**2
        gain: Floats = np.log(np.maximum(ratio, np.finfo(float).tiny)).mean(axis=0)
        gain -= self._slices_gain(chosen, of_slices) + self.price_per_s * (extra_s := self._extra_s(chosen))
        gain[self.candidates.seconds(np.array(chosen, dtype=np.intp)) + extra_s > self.most_s] = -np.inf
        gain[:, chosen] = -np.inf
        return gain

    @property
    def _own(self) -> float:
        return 1.0 / self.noise.own**2

    def _state(self, chosen: list[int]) -> tuple[Floats, Floats, Floats]:
        """Scaled rows of all candidates, the inverse information, and the precision of each slice's shared error."""
        slice_of = self.candidates.slice_of
        information = self.start.add(self.candidates.slopes[:, chosen], slice_of[chosen], self.noise.own)
        rows: Floats = self.start.rows(self.candidates.slopes, slice_of) / self.noise.own
        of_slices = np.diagonal(information.matrix[0])[self.start.size :]
        return rows, _inverse(information.matrix), of_slices

    def _slices_gain(self, chosen: list[int], of_slices: Floats) -> Floats:
        """Change of ln det of the shared errors' precision, shape (m, n)."""
        to, gone = self.candidates.slice_of, self.candidates.slice_of[chosen]
        change = np.log1p(self._own / of_slices)[to][None, :] + np.log1p(-self._own / of_slices[gone])[:, None]
        return np.where(to[None, :] == gone[:, None], 0.0, change)

    def _loads(self, chosen: list[int]) -> NDArray[np.intp]:
        return np.bincount(self.candidates.load_of[chosen], minlength=len(self.candidates.load_s))

    def _extra_s(self, chosen: list[int]) -> Floats:
        """Change of the time to measure, shape (m, n)."""
        c, used = self.candidates, self._loads(chosen)
        load_in = np.where(used > 0, 0.0, c.load_s)[c.load_of][None, :]
        load_out = np.where(used == 1, c.load_s, 0.0)[c.load_of[chosen]][:, None]
        same = c.load_of[None, :] == c.load_of[chosen][:, None]
        points = c.point_s[None, :] - c.point_s[chosen][:, None]
        return points + np.where(same, 0.0, load_in - load_out)


def _inverse(matrix: Floats) -> Floats:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)
