"""What a watch says in words: what drifted, where, since when, what that may be, and what to do."""

import dataclasses
import datetime
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from calibrate.watch.causes import question
from calibrate.watch.episodes import Episode
from calibrate.watch.refit import Moved, Refit

Kind = Literal["node", "engine", "model", "tp", "phase", "all", "outside", "nothing", "unknown"]

_ADVICE = {
    "node": "Throttled, another GPU, or a neighbour: look at its clocks, power and temperature.",
    "engine": "An upgrade, or other flags: calibrate that engine anew if it stays.",
    "model": "Other weights, another quantisation, or flags of that model's servers.",
    "tp": "Links between GPUs, or the engine's all-reduce.",
    "phase": "A kernel or a scheduler change of the engine: calibrate anew if it stays.",
    "all": "An engine upgrade, driver or clock policy: calibrate anew if it stays.",
}
EARLIEST_DATE = 1e8  # seconds since 1970: below, it is a step's number


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One statement of a watch: what ``kind`` of drift, and a sentence or two."""

    kind: Kind
    sentence: str
    advice: str = ""


def moment(at: float) -> str:
    """When a step ran: its time of day in UTC, or its number where the rows do not say."""
    if not np.isfinite(at):
        return "an unknown time"
    if at < EARLIEST_DATE:
        return f"step {at:,.0f}"
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def kind_of(episode: Episode) -> Kind:
    """The first dimension in which something was spared: that is where the cause lies."""
    order: tuple[Kind, ...] = ("node", "engine", "model", "tp", "phase")
    for dimension in order:
        if dimension in episode.dimensions and episode.spared(dimension):
            return dimension
    return "all"


def verdict(episode: Episode, found: Refit | None) -> Verdict:
    """What an episode says, with the parameter that moved where one explains it."""
    kind = kind_of(episode)
    change = float(np.expm1(episode.log_change))
    way = "longer" if change > 0 else "shorter"
    again = "again as calibrated" if episode.is_over else f"{abs(change):.1%} {way}"
    took = f"Steps take {again} since {moment(episode.since)}: {where(episode)}."
    moved = parameter_words(found, slower=change > 0)
    advice = "" if episode.is_over else _ADVICE[kind]
    alone = _only_one(episode)
    return Verdict(kind, " ".join(part for part in (took, moved, alone) if part), advice)


def where(episode: Episode) -> str:
    """What moved and what did not, by dimension: ``decode on node n7 alone (n1, n2 did not move)``."""
    parts = []
    for dimension in reversed(episode.dimensions):
        reached, spared = episode.reached(dimension), episode.spared(dimension)
        if spared:
            parts.append(f"{dimension} {listed(reached)} alone ({listed(spared)} did not move)")
        elif len(reached) > 1:
            parts.append(f"all {len(reached)} {dimension}s")
        elif reached[0]:
            parts.append(f"{dimension} {reached[0]}")
    return ", ".join(parts)


def listed(names: Sequence[str], most: int = 5) -> str:
    """The names, the first few of many."""
    shown = ", ".join(name or "(unnamed)" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def parameter_words(found: Refit | None, *, slower: bool) -> str:
    """``BwEffConstant 0.74 → 0.69 (0.68–0.7): memory clock?``, its rivals, and those that stayed."""
    if found is None or not found.moved:
        return "No parameter of the model explains it."
    told = [_sentence(_arrow(one, slower=slower) for one in found.moved)]
    if found.rivals:
        told.append("Or as well " + _sentence(_arrow(one, slower=slower) for one in found.rivals))
    if found.stayed:
        told.append(f"Not moved: {', '.join(one.name for one in found.stayed)}.")
    return " ".join(told)


def _sentence(parts: Iterable[str]) -> str:
    text = "; ".join(parts)
    return text if text.endswith("?") else f"{text}."


def _arrow(one: Moved, *, slower: bool) -> str:
    low, high = one.ci90
    asked = question(one.name, slower=slower)
    return f"{one.name} {one.was:.4g} → {one.now:.4g} ({low:.4g} to {high:.4g})" + (
        f": {asked}" if asked else ""
    )


def _only_one(episode: Episode) -> str:
    """That one node alone cannot tell a node's trouble from the fleet's."""
    if "node" not in episode.dimensions:
        return "Nodes are not told apart: give --by node to see whether one stands alone."
    if len(episode.reached("node")) + len(episode.spared("node")) == 1:
        return "One node is watched: whether others drift is not known."
    return ""
