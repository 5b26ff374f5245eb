"""Print the accuracy of every latency model on every data set, and write docs/accuracy.md, as `make accuracy` does."""

import argparse
import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmarks.accuracy import page, tables
from benchmarks.accuracy.datasets import (
    ROOT,
    SHARED,
    Absent,
    StepData,
    absent,
    reference_database,
    shipped,
    splitwise,
)
from benchmarks.accuracy.evaluation import MODELS, Evaluation, contenders, evaluate, guide_hardware
from benchmarks.accuracy.noise import replicate_noise
from benchmarks.accuracy.peers import PEERS
from benchmarks.accuracy.serving import serving_rows
from benchmarks.accuracy.transfer import transfers
from calibrate.campaign.campaign import Campaign
from calibrate.cli.console import percent, stderr, stdout
from calibrate.cli.console import table as rich_table

_WIDTH = 140


def main() -> None:
    """Find the data sets, evaluate all models on them, print and write."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    options.add_argument(
        "--shared", type=Path, default=SHARED, help="where data sets lie that are not shipped"
    )
    options.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of accuracy.md")
    given = options.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        beside = splitwise(given.shared, Path(folder))
        found = measure([*shipped(), beside], reference_database(given.shared), _progress)
        rows, missing = serving_rows(
            found.evaluations, given.shared, Path(folder) / "serving", _progress
        )
        found = dataclasses.replace(found, serving=rows, absent=[*found.absent, *missing])
        page.write(found, given.out)
        show(_console(), found)
    _progress(f"written: {given.out / 'accuracy.md'}")


def measure(
    data_sets: list[StepData | Absent], reference: Path | Absent, progress: Callable[[str], None]
) -> page.Accuracy:
    """Every number of the page; ``progress`` is told a line for each fit."""
    present = [data for data in data_sets if isinstance(data, StepData)]
    evaluations = []
    for data in present:
        for contender in contenders(data, reference if isinstance(reference, Path) else None):
            evaluations.append(evaluate(data, contender))
            progress(_told(evaluations[-1]))
    return page.Accuracy(
        evaluations=evaluations,
        transfers=transfers(evaluations, next((data.name for data in present), ""), MODELS[:2]),
        noise=[one for data in present for one in replicate_noise(data.name, _loaded(data))],
        serving=[],
        peers=PEERS,
        absent=absent([*data_sets, reference]),
    )


def show(console: Console, found: page.Accuracy) -> None:
    """Print the tables of the page."""
    shown = [
        tables.headline(found.evaluations, found.noise),
        tables.steps(found.evaluations),
        *tables.by_phase(found.evaluations),
        tables.reference(found.evaluations),
        tables.spread(found.evaluations),
        tables.transfer(found.transfers),
        tables.noise(found.noise),
        tables.serving(found.serving),
        tables.peers(found.peers, links=False),
    ]
    for one in (one for one in shown if one.rows):
        printed = rich_table(one.title, one.columns, one.right, () if one.right else one.columns)
        for row in one.rows:
            printed.add_row(*row)
        console.print(printed)
        console.print()
    for missing in found.absent:
        console.print(f"left out: {missing.name}: {missing.why}", markup=False)


def _loaded(data: StepData) -> Campaign:
    return data.load(guide_hardware(data.gpu, MODELS[0]))


def _console() -> Console:
    """The terminal as wide as it is; elsewhere as wide as the tables."""
    console = stdout()
    return console if console.is_terminal else Console(width=_WIDTH, highlight=False)


def _progress(text: str) -> None:
    stderr().print(text, markup=False, soft_wrap=True)


def _told(one: Evaluation) -> str:
    if one.failure:
        return f"{one.data.name} · {one.contender.label}: {one.failure}"
    return f"{one.data.name} · {one.contender.label}: {percent(one.error('guide'))} → {percent(one.error('fitted'))}"


if __name__ == "__main__":
    main()
