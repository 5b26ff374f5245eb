"""``calibrate compare``: two configurations or two runs, side by side."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrate.cli.console import (
    SERVING_NAMES,
    JsonOption,
    gpu_option,
    interval,
    number,
    percent,
    print_json,
    table,
)
from calibrate.cli.output import check_output, words_beside

if TYPE_CHECKING:
    from rich.console import Console

    from calibrate.outcome.comparison import Comparison

Side = Annotated[
    Path,
    typer.Argument(
        help="A hardware configuration file, or the folder of a run or of a profile.",
        show_default=False,
    ),
]


def command(
    a: Side,
    b: Side,
    gpu: Annotated[str | None, gpu_option("GPU, where a configuration holds several.")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write a page to this file.")
    ] = None,
    fail_on_regression: Annotated[
        float | None,
        typer.Option(
            "--fail-on-regression",
            min=0,
            help="Exit with 1 if a slice's mean error rose by more than so many points, or its steps take so many "
            "percent longer.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show what two configurations or two runs have in common and where they part."""
    from calibrate.outcome.comparison import compare
    from calibrate.records.errors import CalibrateError

    if html is not None:
        check_output(html, json=json)
    found = compare(a, b, gpu)
    if fail_on_regression is not None and not found.has_errors:
        raise CalibrateError(
            "--fail-on-regression: the two have no error in common, of steps or of serving, so that nothing could "
            "fail; give two runs that were fitted to the same kind of measurements"
        )
    worse = [] if fail_on_regression is None else found.regressions(fail_on_regression)
    if html is not None:
        from calibrate.report import draw_comparison

        draw_comparison(found, html)
    if json:
        print_json({**found.to_dict(), "regressions": worse})
    else:
        _show(words_beside(html), found)
    for text in worse:
        print(f"calibrate: regression: {text}", file=sys.stderr)
    if worse:
        raise typer.Exit(1)


def _show(console: "Console", found: "Comparison") -> None:
    from rich.markup import escape

    console.print(f"a  {found.a}\nb  {found.b}", markup=False, soft_wrap=True)
    with_intervals = any(pair.ci90_a or pair.ci90_b for pair in found.parameters)
    columns = (
        ["a", "90% of a", "b", "90% of b", "change"] if with_intervals else ["a", "b", "change"]
    )
    parameters = table("Parameters", ["parameter", *columns], ["a", "b", "change"])
    for p in found.parameters:
        change = ("≠ " if p.overlap is False else "") + (
            f"{p.b / p.a - 1:+.0%}" if p.a and p.b is not None else "–"
        )
        sides = ((number(p.a), p.ci90_a), (number(p.b), p.ci90_b))
        cells = [
            cell
            for value, ends in sides
            for cell in ((value, interval(ends)) if with_intervals else (value,))
        ]
        parameters.add_row(
            p.name,
            *cells,
            change,
            style="yellow" if p.overlap is False else "dim" if p.a == p.b else "",
        )
    console.print(parameters)
    if any(pair.overlap is False for pair in found.parameters):
        console.print("≠ the intervals lie apart", style="dim")
    if found.slices:
        console.print()
        title = "Mean error on the points both measured" + (
            "" if found.same_rows else ", as b measured them"
        )
        columns = ["points", "a", "b", *([] if found.same_rows else ["b takes"])]
        slices = table(title, ["slice", *columns], columns)
        for one in found.slices:
            drift = [] if found.same_rows else [f"{one.drift:+.1%}"]
            label = escape(one.slice.replace(":", " ", 1))
            slices.add_row(label, f"{one.n:,}", percent(one.error_a), percent(one.error_b), *drift)
        for label, (old, new) in found.own.items():
            if label.startswith("held out"):
                slices.add_row(
                    label, "", percent(old), percent(new), *([] if found.same_rows else [""])
                )
        console.print(slices)
    elif found.own:
        console.print()
        slices = table(
            "Mean error of steps after each run's own fit", ["slice", "a", "b"], ["a", "b"]
        )
        for label, (old, new) in found.own.items():
            slices.add_row(escape(label.replace(":", " ", 1)), percent(old), percent(new))
        console.print(slices)
        if all(None not in pair for pair in found.own.values()):
            console.print("The two runs have no point in common.", style="dim")
    if found.serving:
        _show_serving(console, found)


def _show_serving(console: "Console", found: "Comparison") -> None:
    from rich.markup import escape

    console.print()
    title = "Mean error of serving" + (
        "" if found.same_serving else ", of each run's own load points"
    )
    errors = table(title, ["", "points of a", "of b", "a", "b"], ["points of a", "of b", "a", "b"])
    for one in found.serving:
        first = one.slice == "all" and one.fit == "after"
        within = one.fit if one.slice == "all" else escape(one.slice.replace(":", " ", 1))
        counts = ("–" if n is None else f"{n:,}" for n in (one.n_a, one.n_b))
        label = SERVING_NAMES[one.metric] if first else f"  {within}"
        errors.add_row(
            label, *counts, percent(one.error_a), percent(one.error_b), style="" if first else "dim"
        )
    console.print(errors)
