"""What stood apart from the start, which no test of changes sees: a node from its like, steps from the calibration."""

from collections.abc import Mapping

import numpy as np

from calibrate.watch.slices import Slice
from calibrate.watch.thresholds import APART
from calibrate.watch.watch import Watch

_FEWEST = 3  # of two nodes neither is the odd one


def start_notes(watch: Watch, errors: Mapping[str, float]) -> list[str]:
    """Nodes that began apart from the others, and phases that began apart from the run's own ``errors`` (logs)."""
    judged = [one for one in watch.slices.values() if one.stage != "learning"]
    return [*_apart_nodes(watch, judged), *_apart_phases(judged, errors)]


def _apart_nodes(watch: Watch, judged: list[Slice]) -> list[str]:
    if "node" not in watch.by:
        return []
    place = watch.by.index("node")
    groups: dict[tuple[str, ...], list[Slice]] = {}
    for one in judged:
        groups.setdefault(one.key[:place] + one.key[place + 1 :], []).append(one)
    return [
        f"Node {one.key[place] or '(unnamed)'} stands apart from the start: {apart:+.1%} of the median node on "
        f"{' '.join(filter(None, key))}."
        for key, alike in groups.items()
        if len(alike) >= _FEWEST
        for one, apart in _apart(alike)
    ]


def _apart(alike: list[Slice]) -> list[tuple[Slice, float]]:
    middle = float(np.median([one.start for one in alike]))
    far = [one for one in alike if abs(one.start - middle) > APART]
    return [(one, float(np.expm1(one.start - middle))) for one in far]


def _apart_phases(judged: list[Slice], errors: Mapping[str, float]) -> list[str]:
    notes = []
    for phase, own in errors.items():
        starts = [one.start for one in judged if one.key[-1] == phase]
        if starts and abs(float(np.median(starts)) - own) > APART:
            notes.append(
                f"At the start {phase} steps took {np.expm1(np.median(starts)):+.1%} of the prediction; on the run's "
                f"own steps that was {np.expm1(own):+.1%}. Changes since are judged, not this: see --reference run."
            )
    return notes
