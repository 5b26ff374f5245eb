"""How findings about campaigns are shown: by campaign and file, one entry a finding."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from calibrate.records.errors import line_ranges, merge, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from calibrate.campaign.campaign import Campaign
    from calibrate.records.errors import Problem

_SHOWN_FINDINGS = 15
_SHOWN_RANGES = 2


def show_left_out(
    console: "Console", ground_truth: Path, gpu: str, latency_models: Sequence[str]
) -> None:
    """A dim line for each campaign that is for other latency models."""
    from calibrate.campaign.folders import campaigns_for_others

    for text in campaigns_for_others(ground_truth, gpu, latency_models):
        console.print(text, style="dim", markup=False)


def show_findings(console: "Console", campaign: "Campaign", problems: "Sequence[Problem]") -> None:
    """How much of a campaign can be used, and everything that was found about it."""
    from rich.markup import escape

    tables = (
        ", ".join(f"{file.used:,} of {file.rows:,} rows of {file.table}" for file in campaign.files)
        or "no table"
    )
    console.print(f"[bold]{escape(campaign.gpu)}/{escape(campaign.name)}[/]  {tables} usable")
    by_file: dict[str, list[Problem]] = {}
    for problem in sorted(merge(problems), key=lambda problem: problem.severity):
        by_file.setdefault(problem.file, []).append(problem)
    for file, found in by_file.items():
        console.print(f"  [bold]{escape(file)}[/]", soft_wrap=True)
        console.print(_listed(found))


def _listed(problems: "list[Problem]") -> "Table":
    """One entry a finding: severity, rows, and what is wrong with the fix."""
    from rich.markup import escape
    from rich.table import Table

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=2)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, max_width=26)
    grid.add_column(overflow="fold")
    for problem in problems[:_SHOWN_FINDINGS]:
        colour = "red" if problem.severity == "error" else "yellow"
        value = "" if problem.value is None else f" = {problem.value}"
        what = "" if problem.column is None else f"{problem.column}{value}: "
        said, fix = (escape(printable(words)) for words in (what + problem.message, problem.fix))
        text = f"{said}. [dim]{fix}[/]"
        grid.add_row("", f"[{colour}]{problem.severity}[/]", _rows(problem.lines), text)
    if len(problems) > _SHOWN_FINDINGS:
        grid.add_row(
            "",
            "…",
            "",
            f"and {len(problems) - _SHOWN_FINDINGS} more of this file; --json has them all",
        )
    return grid


def _rows(lines: tuple[int, ...]) -> str:
    """Lines as ranges, the first few of them, and how many there are."""
    if not lines:
        return ""
    ranges = line_ranges(lines)
    shown = ", ".join(ranges[:_SHOWN_RANGES]) + (" …" if len(ranges) > _SHOWN_RANGES else "")
    return f"line {shown}" if len(lines) == 1 else f"lines {shown} ({len(lines):,})"
