"""The CSV exports of AIPerf and GenAI-Perf as what their JSON exports hold: metrics by name."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from calibrate.records.errors import ImportFormatError
from calibrate.records.reading.content import read_text

_NAME = re.compile(r"^(?P<name>[^(]+?)\s*(?:\((?P<unit>[^)]*)\))?$")  # Time to First Token (ms)
_NOTHING = ("", "N/A")
_AVERAGE = {"Value": "avg"}


def read_csv_metrics(path: Path) -> list[object]:
    """The one run of an export; empty where its JSON twin lies beside it.

    A table is a header that begins with ``Metric``, then rows; ``Value`` is an average. Tables of other things (GPU
    telemetry) are passed over. Raises ImportFormatError if a cell holds no number or there is no metric.
    """
    text = read_text(path)
    if path.with_suffix(".json").exists():
        return []
    metrics: dict[str, object] = {}
    header: list[str] = []
    for line, cells in _lines(text, path):
        if not cells or cells[0] == "Metric" or not header:
            header = cells if cells[:1] == ["Metric"] else []
        elif len(cells) != len(header):
            counts = f"has {len(cells)} fields, its header {len(header)}"
            raise ImportFormatError(f"{path}:{line}: {counts}. Was the file cut off? Copy it again")
        elif match := _NAME.match(cells[0]):
            found = {
                name: cell
                for name, cell in zip(header[1:], cells[1:], strict=True)
                if cell not in _NOTHING
            }
            values = {
                _AVERAGE.get(name, name): _number(cell, f"{path}:{line}: {name}")
                for name, cell in found.items()
            }
            metrics[match["name"].lower().replace(" ", "_")] = {"unit": match["unit"], **values}
    if not metrics:
        raise ImportFormatError(
            f"{path}: holds no table of metrics (a header that begins with Metric)"
        )
    return [metrics]


def _lines(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in rows:
            yield rows.line_num, cells
    except csv.Error as error:
        raise ImportFormatError(f"{path}:{rows.line_num}: is not CSV: {error}") from error


def _number(cell: str, where: str) -> float:
    try:
        return float(cell.replace(",", ""))  # 1,234.50
    except ValueError as error:
        raise ImportFormatError(f"{where} must be a number, got {cell[:60]!r}") from error
