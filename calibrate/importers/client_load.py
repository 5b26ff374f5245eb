"""The load that a client put on a server, as the columns of ``serving`` say it.

Clients that draw gamma gaps state the distribution's shape (vLLM: burstiness, AIPerf: smoothness), of which 1 is
Poisson; the gaps' standard deviation over their mean is 1/√shape.
"""

import math

from calibrate.importers.run_folder import Row
from calibrate.records.errors import ImportFormatError
from sim.units import MS_PER_S

_FULL = 0.8


def load_columns(
    row: Row, rate: float, limit: float | None, arrivals: str, shape: float = 1.0
) -> Row:
    """The load of a client that sends ``rate`` requests a second (inf: all at once), at most ``limit`` at a time.

    Without a rate it is closed, at the limit or at all the run's requests. With both it is closed once the requests
    in flight fill four fifths of the limit: from there the client waits for the server, not for the clock.
    ``arrivals`` is poisson, constant, gamma with its ``shape``, or empty for a process that the table does not know.
    ``row`` holds the run's other columns. Raises ImportFormatError for a shape of 0.
    """
    if math.isinf(rate):
        sent = _float(row, "num_requests") or math.inf
        return {"load": "closed", "concurrency": sent if limit is None else min(limit, sent)}
    if limit is not None and _in_flight(row) > _FULL * limit:
        return {"load": "closed", "concurrency": limit}
    if arrivals != "gamma":
        return {"load": arrivals, "request_rate": rate}
    return {**_gamma(shape), "request_rate": rate}


def _gamma(shape: float) -> Row:
    if shape <= 0:
        raise ImportFormatError(f"the shape of gamma gaps must be positive, got {shape:g}")
    cv = round(1.0 / math.sqrt(shape), 6)
    return {"load": "poisson"} if shape == 1.0 else {"load": "gamma", "arrival_cv": cv}


def _in_flight(row: Row) -> float:
    """Requests in the server on average, by Little's law: throughput × end-to-end time."""
    parts_ms = _float(row, "ttft_ms_mean") + _float(row, "itl_ms_mean") * (
        _float(row, "output_tokens_mean") - 1.0
    )
    return _float(row, "requests_per_s") * (_float(row, "e2e_ms_mean") or parts_ms) / MS_PER_S


def _float(row: Row, column: str) -> float:
    value = row.get(column, 0.0)
    return float(value) if isinstance(value, int | float) else 0.0
