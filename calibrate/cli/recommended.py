"""Shows a recommendation: candidates best first, the choice in words, what is excluded, what to measure."""

from typing import TYPE_CHECKING

from calibrate.cli.console import number, percent, table

if TYPE_CHECKING:
    from rich.console import Console

    from calibrate.capacity.recommendation import Choice, Recommendation

_SHOWN = 12


def show_recommendation(console: "Console", found: "Recommendation") -> None:
    """A table, best first, and sentences under it."""
    from rich.markup import escape
    from rich.padding import Padding

    console.print(_table(found))
    if len(found.choices) > _SHOWN:
        console.print(f"… and {len(found.choices) - _SHOWN} more (--json, -o)", style="dim")
    console.print()
    for text in _sentences(found):
        console.print(text, markup=False)
    for one in found.excluded:
        console.print(f"left out: {one}", style="dim", markup=False)
    for note in found.notes:
        console.print(Padding(f"[yellow]![/] {escape(note)}", (0, 0, 0, 2)))


def _table(found: "Recommendation") -> "object":
    priced = any(one.cost_per_million_tokens is not None for one in found.choices)
    carried = found.demand is not None
    figures = ["requests/s", "80% band", "output tok/s/GPU"]
    figures += ["per 1M tok"] if priced else []
    figures += ["replicas", "GPUs"] if carried else []
    figures += ["an hour"] if carried and priced else []
    figures += ["P(SLO)", "sure"] if carried else []
    title = f"{found.model} within {found.slo}"
    shown = table(title, ["GPU", "TP", "seqs", "tokens", *figures, "binds"], figures, ["binds"])
    for one in found.choices[:_SHOWN]:
        shown.add_row(*_cells(one, priced=priced))
    return shown


def _cells(one: "Choice", *, priced: bool) -> list[str]:
    candidate, fleet = one.candidate, one.fleet
    cells = [candidate.gpu, str(candidate.tp), str(candidate.max_num_seqs)]
    cells += [str(candidate.max_num_batched_tokens), number(one.rate)]
    cells += [f"{one.band.low:.3g}–{one.band.high:.3g}" if len(one.rates) else "–"]
    cells += [number(one.output_tokens_per_s_per_gpu)]
    cells += [number(one.cost_per_million_tokens)] if priced else []
    if fleet is not None:
        cells += [str(fleet.replicas), str(fleet.gpus)]
        cells += [number(fleet.cost_per_hour)] if priced else []
        cells += [percent(fleet.probability) if len(one.rates) else "–"]
        cells += [("–" if fleet.sure is None else str(fleet.sure)) if len(one.rates) else "–"]
    return [*cells, one.binding.words]


def _sentences(found: "Recommendation") -> list[str]:
    best = found.choices[0]
    said = [f"best by {found.ranked_by}: {best.candidate}"]
    if found.demand is not None and best.fleet is not None:
        said.append(_fleet_sentence(found, best))
    if found.next:
        said.append(found.next)
    return said


def _fleet_sentence(found: "Recommendation", best: "Choice") -> str:
    fleet, demand = best.fleet, found.demand
    assert fleet is not None
    assert demand is not None
    cost = "" if fleet.cost_per_hour is None else f", {number(fleet.cost_per_hour)} an hour"
    said = f"for {demand.source}: {fleet.replicas} replicas, {fleet.gpus} GPUs{cost}"
    if fleet.mean != fleet.replicas:
        mean = (
            ""
            if fleet.mean_cost_per_hour is None
            else f", {number(fleet.mean_cost_per_hour)} an hour"
        )
        said += f" ({fleet.mean} replicas carry the mean load{mean})"
    if not len(best.rates):
        return said
    said += f"; they meet the objective with a probability of {fleet.probability:.0%}"
    if fleet.sure is None:
        return f"{said}; no number of replicas makes it 90%"
    if fleet.sure > fleet.replicas:
        dear = (
            ""
            if fleet.sure_cost_per_hour is None
            else f", {number(fleet.sure_cost_per_hour)} an hour"
        )
        return f"{said}; {fleet.sure} replicas{dear}, make it 90%"
    return said
