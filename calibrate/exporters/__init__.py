"""Exporters: each writes what is known of a GPU in the format of another tool."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from calibrate.campaign import Campaign
from calibrate.errors import CalibrateError
from calibrate.exporters import bench_data
from sim.errors import nearest
from sim.hardware import Hardware


@dataclasses.dataclass(frozen=True)
class Exporter:
    """``write`` puts campaigns of a GPU, with its configuration, into a folder; it returns the files."""

    write: Callable[[Sequence[Campaign], Hardware, Path], list[Path]]
    summary: str


EXPORTERS = {
    "bench-data": Exporter(
        bench_data.write, "the kernel tables as the benchmark database of the roofline-v2 models (gemm/, mha/)"
    ),
}


def find_exporter(name: str) -> Exporter:
    """The exporter of that name. Raises CalibrateError with the nearest name."""
    if name not in EXPORTERS:
        raise CalibrateError(f"no exporter {name!r} (there are {', '.join(EXPORTERS)}){nearest(name, EXPORTERS)}")
    return EXPORTERS[name]
