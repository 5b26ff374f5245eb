"""Findings of a table that is read in parts: those that say the same of many files are one, with how many rows."""

import dataclasses
import re
from collections.abc import Iterable

from calibrate.records.errors import Problem

_SHOWN_LINES = 9
_FIGURES = re.compile(r"\d[\d.,e+-]*")


@dataclasses.dataclass(frozen=True)
class Finding:
    """A problem of one part with its first lines only, and of how many ``rows`` it is true."""

    problem: Problem
    rows: int

    @classmethod
    def of(cls, problem: Problem) -> "Finding":
        """A problem, without the millions of lines that it may have."""
        lines = problem.lines[:_SHOWN_LINES]
        return cls(dataclasses.replace(problem, lines=lines), len(problem.lines))


def joined(findings: Iterable[Finding]) -> list[Problem]:
    """One problem for all that say the same but for figures: where it is first, in how many rows of how many files."""
    same: dict[tuple[str, str | None, str, str], list[Finding]] = {}
    for finding in findings:
        problem = finding.problem
        what = _FIGURES.sub("#", problem.message)
        same.setdefault((problem.severity, problem.column, what, problem.fix), []).append(finding)
    return [_joined(found) for found in same.values()]


def _joined(found: list[Finding]) -> Problem:
    first = found[0].problem
    rows = sum(finding.rows for finding in found)
    files = len({finding.problem.file for finding in found})
    if rows == len(first.lines) and files == 1:
        return first
    where = f"{rows:,} rows of {files:,} files" if rows else f"{files:,} files"
    if files == 1:
        where = f"{rows:,} rows of this file"
    message = f"{first.message} (true of {where})"
    return dataclasses.replace(first, message=message, lines=first.lines[:1])
