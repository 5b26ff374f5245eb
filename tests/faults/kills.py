"""SIGKILL at drawn moments, and before every change to the file system: what is there is the old or the new."""

import collections
import dataclasses
import signal
import statistics
from typing import Any

import numpy as np

from tests.faults import place
from tests.faults.children import end_after, kill_before_change, seconds
from tests.faults.place import BrokenError

BETWEEN_SWEEPS = 10  # rounds: what they leave gathers until a whole run, which clears it away
TERMINATED = 128 + signal.SIGTERM


@dataclasses.dataclass
class Figures:
    """How often what was found; ``broken`` says in words what should not be."""

    what: str
    rounds: int = 0
    found: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    broken: list[str] = dataclasses.field(default_factory=list)


def kill_at_moments(what: str, scenario: Any, kills: int, rng: np.random.Generator) -> Figures:
    """Kill at moments drawn uniformly over how long the work takes undisturbed (the median of three)."""
    figures = Figures(what)
    whole_s = statistics.median(_undisturbed(scenario) for _ in range(3))
    for number in range(kills):
        scenario.reset()
        moment_s = rng.uniform(0, whole_s)
        code = end_after(scenario.work, moment_s, scenario.said, signal.SIGKILL)
        killed = code == -signal.SIGKILL
        _judge(figures, scenario, killed=killed, sweep=number == kills - 1)
    return figures


def terminate_at_moments(what: str, scenario: Any, ends: int, rng: np.random.Generator) -> Figures:
    """Send SIGTERM at such moments: exit code 143, and nothing is left but a bootstrap's samples, which go on."""
    figures = Figures(what)
    whole_s = _undisturbed(scenario)
    for number in range(ends):
        scenario.reset()
        moment_s = rng.uniform(0, whole_s)
        code = end_after(scenario.work, moment_s, scenario.said, signal.SIGTERM)
        ended = code in (TERMINATED, -signal.SIGTERM)
        left = [path for path in place.hidden(scenario.root) if not path.endswith(".bootstrap")]
        if left or not (ended or code == 0):
            words = f"exit code {code}, {left}: {scenario.said.read_text()[-300:]}"
            figures.broken.append(f"{what}, round {number + 1}: {words}")
        _judge(figures, scenario, killed=ended, sweep=number == ends - 1)
    return figures


def kill_at_changes(what: str, scenario: Any, most: int = 10_000) -> Figures:
    """Kill before the first change to the file system, before the second, and so on until the work comes to its end."""
    figures = Figures(what)
    for number in range(1, most + 1):
        scenario.reset()
        killed = kill_before_change(scenario.work, number, scenario.said)
        _judge(figures, scenario, killed=killed, sweep=not killed)
        if not killed:
            break
    return figures


def _undisturbed(scenario: Any) -> float:
    scenario.reset()
    return seconds(scenario.work, scenario.said)


def _judge(figures: Figures, scenario: Any, *, killed: bool, sweep: bool) -> None:
    figures.rounds += 1
    figures.found["killed"] += killed
    try:
        state = scenario.state()
        figures.found[state] += 1
        if sweep or state == "parted" or figures.rounds % BETWEEN_SWEEPS == 0:
            scenario.next_run()
    except (BrokenError, AssertionError) as error:
        figures.broken.append(f"{figures.what}, round {figures.rounds}: {error}")
