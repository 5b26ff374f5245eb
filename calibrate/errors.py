"""Errors and findings that a user can act on: where, what, and the fix."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

_SHOWN_LINES = 8


class CalibrateError(Exception):
    """Base of every error that :mod:`calibrate` raises on purpose; the message is for the user."""


class CampaignError(CalibrateError):
    """Campaigns that cannot be used; ``problems`` holds every finding, ``advice`` ends the message."""

    def __init__(self, problems: Sequence["Problem"], advice: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join([*(str(problem) for problem in self.problems), *([advice] if advice else [])]))


class ConfigError(CalibrateError):
    """A configuration that cannot be written."""


class ImportFormatError(CalibrateError):
    """A source that an importer cannot read."""


class WorseFitError(CalibrateError):
    """A fit whose held-out error is above the starting configuration's; nothing was written."""


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
