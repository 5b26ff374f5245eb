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
        loads = np.unique(self.load_of[rows])
        points_s = self.point_s[rows].sum()
        loads_s = self.load_s[loads].sum()
        return float(points_s + loads_s)


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
        of_parameters = sd**-2.0
        of_slices = np.full(slices, noise.shared**-2.0)
        precision = np.concatenate([of_parameters, of_slices])

        matrix = np.diag(precision)
        return cls(np.tile(matrix, (sets, 1, 1)), len(sd))

    def add(self, slopes: Floats, slice_of: NDArray[np.intp], own: Floats | float) -> "Information":
        """With rows (k, n, p) of these slices, their own errors ``own`` (n,) or one for all."""
        own_of_row = np.broadcast_to(own, len(slice_of))
        rows = self.rows(slopes, slice_of) / own_of_row[:, None]
        transposed = np.swapaxes(rows, 1, 2)
        matrix = self.matrix + transposed @ rows
        return dataclasses.replace(self, matrix=matrix)

    def covariance(self) -> Floats:
        """Of ln θ, the shared errors integrated out, shape (k, p, p)."""
        whole = _inverse(self.matrix)
        return whole[:, : self.size, : self.size]

    def standard_errors(self) -> Floats:
        """Of ln θ, root mean square over the sets, shape (p,)."""
        variances = np.diagonal(self.covariance(), axis1=1, axis2=2)
        mean_variance = variances.mean(axis=0)
        errors: Floats = np.sqrt(mean_variance)
        return errors

    def joint_error(self) -> float:
        """det(covariance)^(1/2p): the geometric mean half-axis of the error ellipsoid, averaged over the sets."""
        log_determinants = np.linalg.slogdet(self.covariance())[1]
        log_error = log_determinants.mean() / (2 * self.size)
        return float(np.exp(log_error))

    def rows(self, slopes: Floats, slice_of: NDArray[np.intp]) -> Floats:
        """Rows by parameter and by shared error, shape (k, n, p + slices)."""
        sets = len(slopes)
        slices = self.matrix.shape[1] - self.size
        indicator = np.eye(slices)[slice_of]
        of_each_set = np.broadcast_to(indicator, (sets, *indicator.shape))

        rows: Floats = np.concatenate([slopes, of_each_set], axis=2)
        return rows


def choose_points(
    candidates: Candidates,
    start: Information,
    noise: Noise,
    budget: int,
    price_per_s: float,
    most_s: float,
) -> NDArray[np.intp]:
    """At most ``budget`` distinct candidates, sorted, that together teach most about ln θ beside ``start``.

    Maximises ln det of the precision of ln θ (Kiefer 1959: D-optimality), averaged over the sets of values (Chaloner
    and Larntz 1989), less ``price_per_s`` a second, within ``most_s`` seconds: greedily, then by Fedorov's (1972)
    exchanges, the best of all pairs each time, until none is worth it. No chance is involved.
    """
    search = _Search(candidates, start, noise, price_per_s, most_s)
    most_rows = min(budget, len(candidates.point_s))
    chosen = _choose_greedily(search, most_rows)
    if chosen:
        _exchange(search, chosen)

    return np.array(sorted(chosen), dtype=np.intp)


def _choose_greedily(search: "_Search", most_rows: int) -> list[int]:
    """Candidates, the best addition each time, until there are enough or none is allowed."""
    chosen: list[int] = []
    while len(chosen) < most_rows:
        gain = search.additions(chosen)
        best = int(gain.argmax())
        if not np.isfinite(gain[best]):
            break
        chosen.append(best)
    return chosen


def _exchange(search: "_Search", chosen: list[int]) -> None:
    """Improve a choice in place, by the best exchange each time, until none is worth it."""
    for _ in range(_MOST_EXCHANGES):
        gain = search.exchanges(chosen)
        candidates = gain.shape[1]
        best = int(gain.argmax())
        out, into = divmod(best, candidates)
        if gain[out, into] < _WORTH_AN_EXCHANGE:
            break
        chosen[out] = into


def taught(
    candidates: Candidates, start: Information, noise: Noise, chosen: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Of each chosen row, the parameter whose variance would grow by the largest factor without it, shape (m,)."""
    slopes = candidates.slopes[:, chosen]
    slice_of = candidates.slice_of[chosen]
    information = start.add(slopes, slice_of, noise.own)
    rows = information.rows(slopes, slice_of) / noise.own

    inverse = _inverse(information.matrix)
    shift = rows @ inverse
    left = 1.0 - np.einsum("kmq,kmq->km", shift, rows)
    variance = np.diagonal(inverse, axis1=1, axis2=2)
    growth = shift**2 / left[:, :, None] / variance[:, None, :]

    of_parameters = growth[:, :, : start.size]
    mean_growth = of_parameters.mean(axis=0)
    most: NDArray[np.intp] = mean_growth.argmax(axis=1)
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
        whole_gain = np.log1p(variance).mean(axis=0)
        slices_gain = np.log1p(self._own / of_slices)
        gain: Floats = whole_gain - slices_gain[self.candidates.slice_of]

        extra_s = self._addition_s(chosen)
        gain -= self.price_per_s * extra_s
        gain[self._is_too_long(chosen, extra_s)] = -np.inf
        gain[chosen] = -np.inf
        return gain

    def exchanges(self, chosen: list[int]) -> Floats:
        """Scores of putting each candidate in the place of each chosen one, shape (m, n)."""
        rows, inverse, of_slices = self._state(chosen)
        across = rows @ inverse
        variance = np.einsum("knq,knq->kn", across, rows)
        mixed = rows[:, chosen] @ np.swapaxes(across, 1, 2)
        growth = 1.0 + variance[:, None, :]
        loss = 1.0 - variance[:, chosen, None]
        ratio = growth * loss + mixed**2

        least = np.finfo(float).tiny
        gain: Floats = np.log(np.maximum(ratio, least)).mean(axis=0)
        slices_gain = self._slices_gain(chosen, of_slices)
        extra_s = self._exchange_s(chosen)
        gain -= slices_gain + self.price_per_s * extra_s

        gain[self._is_too_long(chosen, extra_s)] = -np.inf
        gain[:, chosen] = -np.inf
        return gain

    @property
    def _own(self) -> float:
        return 1.0 / self.noise.own**2

    def _state(self, chosen: list[int]) -> tuple[Floats, Floats, Floats]:
        """Scaled rows of all candidates, the inverse information, and the precision of each slice's shared error."""
        slopes = self.candidates.slopes
        slice_of = self.candidates.slice_of
        own = self.noise.own
        information = self.start.add(slopes[:, chosen], slice_of[chosen], own)

        rows: Floats = self.start.rows(slopes, slice_of) / own
        inverse = _inverse(information.matrix)
        precision = np.diagonal(information.matrix[0])
        of_slices = precision[self.start.size :]
        return rows, inverse, of_slices

    def _slices_gain(self, chosen: list[int], of_slices: Floats) -> Floats:
        """Change of ln det of the shared errors' precision, shape (m, n)."""
        into = self.candidates.slice_of
        out = into[chosen]
        gain = np.log1p(self._own / of_slices)[into]
        loss = np.log1p(-self._own / of_slices[out])

        change = gain[None, :] + loss[:, None]
        is_same = into[None, :] == out[:, None]
        return np.where(is_same, 0.0, change)

    def _loads(self, chosen: list[int]) -> NDArray[np.intp]:
        """How many chosen rows each load has, shape (number of loads,)."""
        loads = len(self.candidates.load_s)
        load_of = self.candidates.load_of[chosen]
        return np.bincount(load_of, minlength=loads)

    def _is_too_long(self, chosen: list[int], extra_s: Floats) -> NDArray[np.bool_]:
        """Whether the choice and each of the extra times together exceed the limit, in the shape of ``extra_s``."""
        rows = np.array(chosen, dtype=np.intp)
        total_s = self.candidates.seconds(rows) + extra_s
        is_too_long: NDArray[np.bool_] = total_s > self.most_s
        return is_too_long

    def _addition_s(self, chosen: list[int]) -> Floats:
        """Change of the time to measure by each addition, shape (n,)."""
        load_s = self._new_load_s(chosen)
        return self.candidates.point_s + load_s

    def _exchange_s(self, chosen: list[int]) -> Floats:
        """Change of the time to measure by each exchange, shape (m, n)."""
        point_s = self.candidates.point_s
        load_of = self.candidates.load_of
        load_out_of = load_of[chosen]

        load_in_s = self._new_load_s(chosen)
        only = self._loads(chosen) == 1
        load_out_s = np.where(only, self.candidates.load_s, 0.0)[load_out_of]
        loads_s = load_in_s[None, :] - load_out_s[:, None]

        is_same = load_of[None, :] == load_out_of[:, None]
        points_s = point_s[None, :] - point_s[chosen][:, None]
        return points_s + np.where(is_same, 0.0, loads_s)

    def _new_load_s(self, chosen: list[int]) -> Floats:
        """The time for each candidate's load, 0 where a chosen row has taken it, shape (n,)."""
        is_taken = self._loads(chosen) > 0
        load_s: Floats = np.where(is_taken, 0.0, self.candidates.load_s)
        return load_s[self.candidates.load_of]


def _inverse(matrix: Floats) -> Floats:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)
