"""How well `calibrate watch` finds what is there, and how seldom what is not: `python -m benchmarks.watch`.

Synthetic logs are steps of a server in shapes as they come, in the time that a latency model predicts, times a misfit
that depends on the shape, times noise. Real ones are steps that were measured, drawn in random order, cut in two.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.accuracy.datasets import ROOT
from benchmarks.watch.measured import real, real_rows
from benchmarks.watch.naming import named
from benchmarks.watch.noises import NOISES
from benchmarks.watch.speed import speed
from benchmarks.watch.synthetic import false_alarms, power
from calibrate.cli.console import table as rich_table


def main() -> None:
    """Measure, print, write."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.watch", description=__doc__)
    options.add_argument("--out", type=Path, default=ROOT / "docs" / "watch.json")
    options.add_argument("--logs", type=int, default=100, help="synthetic logs of a kind")
    options.add_argument("--days", type=int, default=3, help="days without a change of a kind")
    asked = options.parse_args()
    found: dict[str, dict[str, Any]] = {
        "power": {name: power(noise, asked.logs) for name, noise in NOISES.items()},
        "false_alarms": {name: false_alarms(noise, asked.days) for name, noise in NOISES.items()},
        "named": {name: named(name, asked.logs) for name in ("roofline-v1", "roofline-v3")},
        "real": {name: real(rows, asked.logs) for name, rows in real_rows().items()},
        "speed": speed(),
    }
    show(Console(width=120), found)
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def show(console: Console, found: dict[str, dict[str, Any]]) -> None:
    """A table for each part."""
    for part, rows in found.items():
        several = all(isinstance(row, dict) for row in rows.values())
        entries = rows if several else {part: rows}
        columns = list(next(iter(entries.values())))
        shown = rich_table(part, ["", *columns], columns)
        for name, row in entries.items():
            shown.add_row(name, *(f"{row[key]:,.4g}" for key in columns))
        console.print(shown)


if __name__ == "__main__":
    main()
