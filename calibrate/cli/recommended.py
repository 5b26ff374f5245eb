"""Shows a recommendation: candidates best first, the choice in words, what is excluded, what to measure."""

from typing import TYPE_CHECKING

from calibrate.cli.console import number, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from calibrate.capacity.recommendation import Choice, Recommendation

_SHOWN = 12
_ALIKE = 0.005  # relative difference of rates below which limits are shown in one row


def show_recommendation(console: "Console", found: "Recommendation") -> None:
    """A table, best first, and sentences under it."""
    from rich.markup import escape
    from rich.padding import Padding

    rows = _rows(found.choices)
    console.print(
        f"{found.model} within {found.slo}, best first by {found.ranked_by}", markup=False
    )
    console.print(_table(found, rows[:_SHOWN]))
    if len(rows) > _SHOWN:
        console.print(f"… and {len(rows) - _SHOWN} more rows (--json, -o)", style="dim")
    console.print()
    console.print(
        "rate: requests a second; tok/s/GPU: output tokens; 2048+: larger limits do alike; n: replicas",
        style="dim",
    )
    for words, names in _bindings(rows[:_SHOWN]).items():
        console.print(f"binds: {words} ({'; '.join(names)})", markup=False, style="dim")
    console.print()
    for text in _sentences(found):
        console.print(text, markup=False)
    for one in found.excluded:
        console.print(f"left out: {one}", style="dim", markup=False)
    for note in found.notes:
        console.print(Padding(f"[yellow]![/] {escape(note)}", (0, 0, 0, 2)))


def _rows(choices: "Sequence[Choice]") -> "list[list[Choice]]":
    """Choices of a GPU, degree and number of seats that differ in a limit of tokens that binds none of them."""
    rows: list[list[Choice]] = []
    for one in choices:
        row = next((row for row in rows if _alike(row[0], one)), None)
        if row is None:
            rows.append([one])
        else:
            row.append(one)
    return rows


def _alike(a: "Choice", b: "Choice") -> bool:
    same = (a.candidate.gpu, a.candidate.tp, a.candidate.max_num_seqs) == (
        b.candidate.gpu,
        b.candidate.tp,
        b.candidate.max_num_seqs,
    )
    return same and abs(a.rate / b.rate - 1.0) < _ALIKE


def _bindings(rows: "list[list[Choice]]") -> dict[str, list[str]]:
    """What binds in words, with the candidates that it binds."""
    found: dict[str, list[str]] = {}
    for row in rows:
        candidate = row[0].candidate
        name = f"{candidate.gpu} × {candidate.tp} of {candidate.max_num_seqs} seqs"
        found.setdefault(row[0].binding.words, []).append(name)
    return found


def _table(found: "Recommendation", rows: "list[list[Choice]]") -> "Table":
    priced = any(one.cost_per_million_tokens is not None for one in found.choices)
    figures = ["rate/s", "80% band", "tok/s/GPU"]
    figures += ["1M tok"] if priced else []
    figures += ["n"] if found.demand is not None else []
    figures += ["an hour"] if found.demand is not None and priced else []
    figures += ["P(SLO)"] if found.demand is not None else []
    shown = table("", ["GPU × TP", "seqs", "tokens", *figures], figures)
    for row in rows:
        shown.add_row(*_cells(row, priced=priced))
    return shown


def _cells(row: "list[Choice]", *, priced: bool) -> list[str]:
    one, drawn = row[0], len(row[0].rates) > 0
    candidate, fleet = one.candidate, one.fleet
    cells = [f"{candidate.gpu} × {candidate.tp}", str(candidate.max_num_seqs)]
    cells += [_tokens(row), number(one.rate)]
    cells += [f"{one.band.low:.3g}–{one.band.high:.3g}" if drawn else "–"]
    cells += [number(one.output_tokens_per_s_per_gpu)]
    cells += [number(one.cost_per_million_tokens)] if priced else []
    if fleet is not None:
        cells += [str(fleet.replicas)]
        cells += [number(fleet.cost_per_hour)] if priced else []
        cells += [f"{fleet.probability:.0%}" if drawn else "–"]
    return cells


def _tokens(row: "list[Choice]") -> str:
    """The limit of tokens, all that do alike: ``2048+``."""
    least = min(other.candidate.max_num_batched_tokens for other in row)
    return f"{least}{'+' if len(row) > 1 else ''}"


def _sentences(found: "Recommendation") -> list[str]:
    best = found.choices[0]
    said = [f"best: {best.candidate}"]
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
    said = (
        f"for {demand.source}: {_many(fleet.replicas, 'replica')}, {_many(fleet.gpus, 'GPU')}{cost}"
    )
    if fleet.mean != fleet.replicas:
        mean = (
            ""
            if fleet.mean_cost_per_hour is None
            else f", {number(fleet.mean_cost_per_hour)} an hour"
        )
        said += f" ({_many(fleet.mean, 'replica')} for the mean load{mean})"
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
        return f"{said}; {_many(fleet.sure, 'replica')}{dear}, for 90% or more"
    return said


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' if count != 1 else ''}"
