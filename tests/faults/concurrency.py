"""Fits at once on one configuration and one reports folder: no update is lost, every run is whole."""

import collections
from pathlib import Path

from sim.configuration import read_config
from tests.conftest import GUIDE_H100
from tests.faults import place
from tests.faults.children import command, finish_all, start
from tests.faults.kills import Figures
from tests.faults.place import BrokenError, demand

FITS = 8
GPUS = ("H100", "H200", "A100-SXM", "B200")


def fit_at_once(folder: Path, rounds: int) -> Figures:
    """Rounds of eight fits at once, two to each of four GPUs."""
    figures = Figures(f"{FITS} fits at once")
    for number in range(rounds):
        root = place.make_place(folder / str(number), GPUS)
        figures.rounds += 1
        try:
            _fit_all(root)
            figures.found["new"] += 1
        except BrokenError as error:
            figures.broken.append(f"{figures.what}, round {number + 1}: {error}")
    return figures


def _fit_all(root: Path) -> None:
    fitted = collections.Counter(GPUS[number % len(GPUS)] for number in range(FITS))
    said = [root.with_suffix(f".{number}.said") for number in range(FITS)]
    work = [command(*place.fit_arguments(root, gpu=gpu)) for gpu in fitted.elements()]
    codes = finish_all(list(map(start, work, said)))
    for code, file in zip(codes, said, strict=True):
        demand(code == 0, f"a fit ends with {code}: {file.read_text()[-500:]}")
    place.check_config(root)
    config = read_config(root / "hardware_config.json")
    for gpu, times in fitted.items():
        demand(config[gpu] != GUIDE_H100, f"the update of {gpu} is lost")
        demand(len(place.whole_runs(root, gpu)) == times, f"a run of {gpu} is missing")
    left = place.hidden(root)
    demand(not left, f"left over: {', '.join(left)}")
