"""Shows what a watch found: verdicts first, then a row a slice, points to measure, and notes."""

import json
from typing import TYPE_CHECKING

from calibrate.cli.console import number, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from calibrate.watch.slices import Slice
    from calibrate.watch.watched import Change, Watched

_SHOWN = 40
_POINT = (
    "model",
    "tp",
    "num_prefill_requests",
    "sum_prefill_tokens",
    "num_decode_requests",
    "sum_decode_kv_tokens",
    "steps",
)


def alarm_line(change: "Change") -> str:
    """A change as one line of JSON."""
    from calibrate.outcome.result_json import to_plain
    from calibrate.watch.as_plain import change_dict

    return json.dumps({"change": to_plain(change_dict(change))}, allow_nan=False)


def last_line(found: "Watched", published: "Sequence[str]") -> str:
    """All that was found as one line of JSON."""
    from calibrate.watch.as_plain import as_plain

    content = {**as_plain(found), "published": list(published)}
    return json.dumps({"watched": content}, allow_nan=False)


def show_alarm(console: "Console", change: "Change") -> None:
    """A change in words, as it comes."""
    from calibrate.records.errors import printable

    said = change.verdict
    console.print(printable(f"drift  {said.sentence} {said.advice}"), markup=False)


def show_watched(console: "Console", found: "Watched", published: "Sequence[str]") -> None:
    """Verdicts, slices, points and notes."""
    from calibrate.records.errors import printable
    from calibrate.watch.verdicts import moment

    between = f"{moment(found.begins)} to {moment(found.ends)}"
    header = (
        f"{found.gpu} · {found.latency_model} · {found.against} · {found.steps:,} steps, {between}"
    )
    console.print(printable(header), markup=False, soft_wrap=True)
    console.print()
    for said in found.verdicts:
        words = f"{said.kind}  {said.sentence} {said.advice}".rstrip()
        console.print(printable(words), markup=False)
    console.print()
    console.print(_slices(found))
    if len(found.points):
        console.print()
        console.print(_points(found))
    console.print()
    for note in (*found.notes, *published):
        console.print(printable(f"! {note}"), markup=False)
    console.print(found.definition, style="dim", markup=False)


def _slices(found: "Watched") -> "Table":
    """A row a slice: the last window's factor with its interval, and the change against the reference."""
    from rich.markup import escape

    from calibrate.records.errors import printable

    right = ("steps", "factor", "90%", "change", "outside", "alarms")
    rows = table("Last windows, measured over predicted", ["slice", *right], right, ["slice"])
    for one in sorted(found.slices, key=lambda one: -len(one.alarms))[:_SHOWN]:
        label = escape(printable(" ".join(filter(None, one.key))))
        rows.add_row(label, *_figures(one), style="yellow" if one.alarms else "")
    if len(found.slices) > _SHOWN:
        rows.caption = f"… and {len(found.slices) - _SHOWN} more (--json, --html)"
    return rows


def _figures(one: "Slice") -> list[str]:
    if not one.windows:
        return [f"{one.steps:,}", "–", "", "–", "", ""]
    last = one.windows[-1]
    low, high = last.ci90
    change = "–" if last.change is None or one.stage == "learning" else f"{last.change:+.1%}"
    return [
        f"{one.steps:,}",
        f"{last.factor:.3f}",
        f"{low:.3f}–{high:.3f}",
        change,
        f"{last.outside:.0%}",
        str(len(one.alarms) or ""),
    ]


def _points(found: "Watched") -> "Table":
    from rich.markup import escape

    columns = [name for name in _POINT if name in found.points]
    rows = table(
        "Points to measure, where traffic is outside of what is known", columns, columns[1:]
    )
    for point in found.points[columns].itertuples(index=False):
        rows.add_row(*(escape(cell) if isinstance(cell, str) else number(cell) for cell in point))
    return rows
