"""Errors of serving results: time to first token, inter-token and end-to-end latency, through the simulator."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class ServingRow:
    """Mean absolute relative errors over the load ``points`` of a data set, as fractions; None where not measured."""

    dataset: str
    treatment: str
    points: int
    ttft: float | None
    itl: float | None
    e2e: float | None
    note: str = ""


def serving_rows() -> list[ServingRow]:
    """A row for each data set and treatment; none as yet, and the page then leaves the section out."""
    return []
