"""How a command says that it failed: words on standard error and, with ``--json``, a document on standard output."""

import dataclasses
import json
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from calibrate.records.errors import CampaignError, Problem, UnreadableError, printable

_JSON = "--json"
_PLACE = re.compile(r"(?P<file>[^\s:]+\.(?:json|toml|csv|parquet|yaml))(?::(?P<line>\d+))?: ")
"""How a message begins that names a file, and perhaps a line."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a command failed: its exit code, the words for a person, and the findings where there are such."""

    exit_code: int
    message: str
    problems: tuple[Problem, ...] = ()
    file: str | None = None

    @classmethod
    def of(cls, error: Exception, exit_code: int) -> "Failure":
        """What one of our own errors says."""
        return cls(exit_code, str(error), tuple(_problems(error)))

    def to_dict(self) -> dict[str, Any]:
        """``message`` whole; file, line, column, value and fix of the first error, each None where it is not known."""
        first = next((one for one in self.problems if one.severity == "error"), None)
        place = self._stated_place() if first is None else _place_of(first)
        problems = [dataclasses.asdict(problem) for problem in self.problems]
        return {
            "message": self.message,
            **place,
            "exit_code": self.exit_code,
            "problems": problems,
        }

    def _stated_place(self) -> dict[str, Any]:
        """What the message itself says of where: a file that it begins with, and its line."""
        found = _PLACE.match(self.message)
        file = found["file"] if found else self.file
        line = int(found["line"]) if found and found["line"] else None
        return {"file": file, "line": line, "column": None, "value": None, "fix": None}


def fail(failure: Failure) -> NoReturn:
    """Say it in words, and end the process."""
    print(f"calibrate: {printable(failure.message)}", file=sys.stderr)
    end(failure)


def end(failure: Failure) -> NoReturn:
    """End the process for a failure whose words are said: its document too, where JSON was asked for."""
    if wants_json(sys.argv[1:]):
        # ASCII, which every terminal takes: a name in it may be no text at all
        print(json.dumps({"error": failure.to_dict()}, indent=2))
    sys.exit(failure.exit_code)


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether the arguments ask for JSON; they may be such that no command takes them."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return _JSON in options


def of_system(error: OSError, exit_code: int) -> Failure:
    """What the operating system refused, and of which file."""
    file = str(error.filename) if error.filename else None
    return Failure(exit_code, f"{file or 'a file'}: {error.strerror or error}", file=file)


def of_encoding(error: UnicodeEncodeError, exit_code: int) -> Failure:
    """A sign that the output's encoding lacks; `calibrate doctor` says so beforehand."""
    sign = ascii(error.object[error.start])
    fix = "set PYTHONUTF8=1, or write to a file"
    return Failure(exit_code, f"standard output is {error.encoding}, which lacks {sign}: {fix}")


def _problems(error: Exception) -> Sequence[Problem]:
    if isinstance(error, CampaignError):
        return error.problems
    return [error.problem] if isinstance(error, UnreadableError) else []


def _place_of(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.file,
        "line": problem.lines[0] if problem.lines else None,
        "column": problem.column,
        "value": problem.value,
        "fix": problem.fix,
    }
