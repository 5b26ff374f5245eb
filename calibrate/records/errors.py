"""Errors and findings that a user can act on: where, what, and the fix."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Literal

NO_TEXT = re.compile("[\x00-\x1f\ud800-\udfff]")
"""Characters that a name or a label cannot have: those that control a terminal, and halves of characters."""
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # all but tab and new line
_SHOWN_LINES = 8
_SHOWN_NAMES = 4


class CalibrateError(Exception):
    """Base of every error that :mod:`calibrate` raises on purpose; the message is for the user."""


class CampaignError(CalibrateError):
    """Campaigns that cannot be used; ``problems`` holds every finding, ``advice`` ends the message."""

    def __init__(self, problems: Sequence["Problem"], advice: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__(
            "\n".join([*(str(problem) for problem in self.problems), *([advice] if advice else [])])
        )


class ConfigError(CalibrateError):
    """A configuration that cannot be written."""


class ImportFormatError(CalibrateError):
    """A source that an importer cannot read."""


class UnreadableError(ImportFormatError):
    """A file that cannot be read, or is not what its name says; ``problem`` says where, what and the fix."""

    def __init__(self, problem: "Problem") -> None:
        super().__init__(str(problem))
        self.problem = problem


class RefusedFitError(CalibrateError):
    """A fit that is not written to the configuration: poor, with parameters at physical bounds."""


class WorseFitError(RefusedFitError):
    """One whose held-out error is above the starting configuration's."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """One finding about a file: ``lines`` are all the rows it concerns, ``value`` is the first one's.

    Lines count from 1, the header being line 1; rows of a Parquet file count likewise.
    """

    severity: Literal["error", "warning"]
    file: str
    message: str
    fix: str
    lines: tuple[int, ...] = ()
    column: str | None = None
    value: str | None = None

    def __str__(self) -> str:
        where = self.file + (f":{self.lines[0]}" if self.lines else "")
        what = (
            ""
            if self.column is None
            else f"{self.column} = {self.value}: "
            if self.value is not None
            else f"{self.column}: "
        )
        more = f" ({self._other_lines()})" if len(self.lines) > 1 else ""
        return f"{where}: {what}{self.message}{more}. {self.fix}"

    def _other_lines(self) -> str:
        others = self.lines[1 : 1 + _SHOWN_LINES]
        rest = len(self.lines) - 1 - len(others)
        return f"also line{'s' if len(others) > 1 else ''} {', '.join(map(str, others))}" + (
            f" and {rest} more" if rest else ""
        )


def printable(text: str) -> str:
    """The text as a terminal may show it: characters that would control it as escapes."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def merge(problems: Sequence[Problem]) -> list[Problem]:
    """One problem for those that say the same of a file but for the value: their lines, columns and values joined."""
    same: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in problems:
        message = (
            problem.message.replace(repr(problem.value), "of this name")
            if problem.value
            else problem.message
        )
        same.setdefault((problem.severity, problem.file, message), []).append(problem)
    return [
        _merged(found, message) if len(found) > 1 else found[0]
        for (*_, message), found in same.items()
    ]


def line_ranges(lines: Sequence[int]) -> list[str]:
    """Ascending lines as ranges: ``["2–5", "9"]``."""
    ranges: list[list[int]] = []
    for line in lines:
        if ranges and line == ranges[-1][1] + 1:
            ranges[-1][1] = line
        else:
            ranges.append([line, line])
    return [str(first) if first == last else f"{first}–{last}" for first, last in ranges]


def _merged(found: Sequence[Problem], message: str) -> Problem:
    return dataclasses.replace(
        found[0],
        message=message,
        lines=tuple(sorted({line for problem in found for line in problem.lines})),
        column=_listed([problem.column for problem in found]),
        value=_listed([problem.value for problem in found]),
    )


def _listed(names: Sequence[str | None]) -> str | None:
    """The distinct names, the first few of them."""
    distinct = [name for name in dict.fromkeys(names) if name is not None]
    more = f" and {len(distinct) - _SHOWN_NAMES} more" if len(distinct) > _SHOWN_NAMES else ""
    return ", ".join(distinct[:_SHOWN_NAMES]) + more or None
