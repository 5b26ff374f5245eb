"""What load requests made, told from when each arrived and ended: its stages, and each stage's kind."""

import numpy as np
import pandas as pd

from calibrate.importers.run_folder import Row
from sim.serving.lengths import Ints
from sim.steps.batch import Floats

_PAUSE_S = 3.0
_LONG_GAP = 2.0  # times the usual gap around it
_NEIGHBOURS = 11
_FOLLOWS_S = 0.1
_MOST = 0.9
_BURST = 0.1  # of the requests' mean time
_EVEN = 0.1


def stages(start_s: Floats, end_s: Floats) -> Ints:
    """The stage (0, 1, …) of each request, shape (n,); ``start_s`` ascends.

    A stage begins where no request was under way for 3 s and the gap since the last arrival is above twice the
    median of the ten around it: clients pause between loads, while at a low rate every request stands alone.
    """
    if len(start_s) < 2:
        return np.zeros(len(start_s), dtype=np.int64)
    gap_s = np.diff(start_s)
    idle_s = start_s[1:] - np.maximum.accumulate(end_s)[:-1]
    usual_s = pd.Series(gap_s).rolling(_NEIGHBOURS, center=True, min_periods=1).median().to_numpy()
    begins = (idle_s > _PAUSE_S) & (gap_s > _LONG_GAP * usual_s)
    return np.concatenate([[0], np.cumsum(begins)]).astype(np.int64)


def load_of(start_s: Floats, end_s: Floats) -> Row:
    """Columns ``load`` and ``concurrency`` or ``request_rate`` of one stage.

    Closed, if requests arrive all at once or each as another ends. Else open: constant if the middle half of the
    gaps are within a tenth of one another, else Poisson.
    """
    order = np.sort(end_s)
    in_flight = np.arange(1, len(start_s) + 1) - np.searchsorted(order, start_s, side="right")
    most = int(in_flight.max())
    if _is_closed(start_s, order, most):
        return {"load": "closed", "concurrency": most}
    gap_s = np.diff(start_s)
    low, middle, high = np.percentile(gap_s, [25, 50, 75])
    if high - low < _EVEN * middle:
        return {"load": "constant", "request_rate": round(1.0 / middle, 4)}
    return {"load": "poisson", "request_rate": round(1.0 / gap_s.mean(), 4)}


def _is_closed(start_s: Floats, ended_s: Floats, most: int) -> bool:
    """``ended_s`` ascends; ``most`` is the largest number in flight."""
    others = len(start_s) - most
    if not others:
        return bool(start_s[-1] - start_s[0] <= _BURST * (ended_s - start_s).mean())
    waited_s = start_s[most:] - ended_s[:others]
    return bool(np.mean(np.abs(waited_s) < _FOLLOWS_S) >= _MOST)
