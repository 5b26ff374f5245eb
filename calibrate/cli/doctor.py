"""``calibrate doctor``: what is installed, where data is found, and whether anything is broken."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from calibrate.cli.console import JsonOption, print_json, stderr, stdout
from calibrate.cli.doctor_checks import Check, compiled_simulator, folders, packages, terminal

if TYPE_CHECKING:
    from rich.console import Console

_EXIT_BROKEN = 1
_COLOURS = {"ok": "green", "absent": "dim", "attention": "yellow", "broken": "red"}


def command(json: JsonOption = False) -> None:
    """Say what is installed, where data is found, and whether the compiled simulator works. Exit 1 if it does not."""
    with stderr().status("looking at packages, simulator and folders"):
        checks = [*packages(), *compiled_simulator(), *folders()]
    checks += terminal()  # once standard output is the terminal again
    broken = [check for check in checks if check.status == "broken"]
    if json:
        print_json({"broken": len(broken), "checks": [dataclasses.asdict(one) for one in checks]})
    else:
        _show(stdout(), checks)
    if broken:
        raise typer.Exit(_EXIT_BROKEN)


def _show(console: "Console", checks: Sequence[Check]) -> None:
    from rich.table import Table

    for part, found in itertools.groupby(checks, lambda check: check.part):
        rows = Table.grid(padding=(0, 2, 0, 0))
        rows.add_column(width=9, no_wrap=True)
        rows.add_column(no_wrap=True)
        rows.add_column(overflow="fold")
        for check in found:
            rows.add_row(*_cells(check))
        console.print(part, style="bold")
        console.print(rows)
    console.print(_verdict(checks))


def _cells(check: Check) -> tuple[str, str, str]:
    from rich.markup import escape

    colour = _COLOURS[check.status]
    fix = f". [dim]{escape(check.fix)}[/]" if check.fix else ""
    return f"[{colour}]{check.status}[/]", escape(check.name), f"{escape(check.found)}{fix}"


def _verdict(checks: Sequence[Check]) -> str:
    counts = {
        status: sum(check.status == status for check in checks)
        for status in ("broken", "attention", "absent")
    }
    if not counts["broken"] and not counts["attention"]:
        return f"All that is needed works; {counts['absent']} optional things are not there."
    return f"{counts['broken']} broken, {counts['attention']} want attention."
