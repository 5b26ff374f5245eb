"""Traffic outside of what the reference knows: which shapes, how often, and which of them to measure."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from calibrate.fitting.objective import MODEL_FLOOR
from calibrate.planning.design import choose_points
from calibrate.planning.experiment import set_up
from calibrate.watch.ring import Steps
from calibrate.watch.served import Served
from calibrate.watch.shapes import cells
from calibrate.watch.thresholds import MOST_CELLS, POINTS
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.steps.batch import Floats

_COLUMNS = (
    "num_prefill_requests",
    "sum_prefill_tokens",
    "sum_prefill_kv_tokens",
    "num_decode_requests",
    "sum_decode_kv_tokens",
)


@dataclasses.dataclass
class Outside:
    """Counts of steps by shape (model, degree, octaves), with the sums of their requests: [steps, served, …sums]."""

    cells: dict[int, list[float]] = dataclasses.field(default_factory=dict)

    def count(self, steps: Steps, sizes: Floats) -> None:
        """Add some steps, of these octaves (3, n)."""
        numbers = cells(sizes, steps.served)
        distinct, first, which = np.unique(numbers, return_index=True, return_inverse=True)
        sums = np.stack([np.bincount(which, row) for row in _sums(steps)])
        counts = np.bincount(which)
        for place, number in enumerate(distinct.tolist()):
            if number not in self.cells and len(self.cells) >= MOST_CELLS:
                continue
            known = self.cells.setdefault(
                number, [0.0, float(steps.served[first[place]]), *[0.0] * len(_COLUMNS)]
            )
            known[0] += float(counts[place])
            known[2:] = (np.array(known[2:]) + sums[:, place]).tolist()

    def typical(self, served: Served) -> pd.DataFrame:
        """A mean step of every shape, most frequent first, as rows of a steps table with ``steps``, their number."""
        keys = list(served.numbers)
        rows = []
        for count, number, *sums in sorted(self.cells.values(), reverse=True):
            if not served.is_there(int(number)):
                continue
            model, dtype, *_, tp = keys[int(number)]
            mean = [round(total / count) for total in sums]
            rows.append({"model": model, "tp": tp, "dtype": dtype, "steps": int(count)})
            rows[-1] |= dict(zip(_COLUMNS, mean, strict=True))
        return pd.DataFrame(rows)

    def points(self, served: Served, model: LatencyModel, hardware: Hardware) -> pd.DataFrame:
        """Steps to measure, as ``calibrate plan`` would choose them of the most frequent shapes; with ``steps``."""
        seen = self.typical(served)
        if not len(seen):
            return seen
        seen = seen.head(8 * POINTS).reset_index(drop=True)
        architectures = [
            served.architectures[number]
            for number in {int(cell[1]) for cell in self.cells.values()}
            if served.is_there(number)
        ]
        with threadpool_limits(limits=1, user_api="blas"):
            experiment = set_up(
                model, hardware, architectures, seen, None, replicates=1, seed=0, floor=MODEL_FLOOR
            )
            rows = choose_points(
                experiment.candidates,
                experiment.start,
                experiment.noise,
                POINTS,
                0.0,
                most_s=float("inf"),
            )
        return experiment.steps.iloc[rows].sort_values("steps", ascending=False, ignore_index=True)

    def to_plain(self) -> dict[str, Any]:
        """The counts as JSON has them."""
        return {str(number): cell for number, cell in self.cells.items()}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Outside":
        """The counts of which :meth:`to_plain` made this."""
        return cls({int(number): [float(n) for n in cell] for number, cell in plain.items()})


def _sums(steps: Steps) -> Floats:
    """The sums named by the columns, shape (5, n)."""
    prefills, new, cached, single, single_cached, _, decodes, context = steps.moments
    sums: Floats = np.stack([prefills, new + single, cached + single_cached, decodes, context])
    return sums
