"""The blocks of code that pages hold, and whether a command prints what its page shows."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ELISION = "…"
TOLERANCE = 0.02  # of a number that a page shows: processors round sums differently
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_RULE = re.compile(r"─+")


class Shown(NamedTuple):
    """A command as a page shows it, and the lines under it."""

    command: str
    output: list[str]


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a language, in the page's order."""
    text = path.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(block: str) -> Iterator[Shown]:
    """The commands of a console block: each line after ``$``, and what stands under it."""
    for part in re.split(r"^\$ ", block.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield Shown(
            " ".join(command.split()), [line for line in output.splitlines() if line.strip()]
        )


def difference(shown: list[str], printed: str) -> str | None:
    """The first part of what a page shows that was not printed; None where all was.

    A line ``…`` stands for any lines, ``…`` in a line for anything. Spaces do not count, and numbers may be off by
    2%, or by one in their last digit.
    """
    lines = [line for line in printed.splitlines() if line.strip()]
    parts = _parts(shown)
    at = 0
    for number, part in enumerate(parts):
        free = number > 0
        found = _find(part, lines, at, free=free)
        if found is None:
            return "\n".join(part)
        at = found + len(part)
    return None if parts[-1] == [] or at == len(lines) else "\n".join(lines[at:])


def _parts(shown: list[str]) -> list[list[str]]:
    """The lines between elisions."""
    parts: list[list[str]] = [[]]
    for line in shown:
        if line.strip() == ELISION:
            parts.append([])
        else:
            parts[-1].append(line)
    return parts


def _find(part: list[str], lines: list[str], start: int, *, free: bool) -> int | None:
    """Where the part stands in the lines: at the start, or anywhere after it where that is free."""
    last = len(lines) - len(part)
    for at in range(start, (last if free else start) + 1):
        if at <= last and all(same(a, b) for a, b in zip(part, lines[at:], strict=False)):
            return at
    return None


def same(shown: str, printed: str) -> bool:
    """Whether a line says what another says: the same words, and numbers that agree."""
    pattern = re.escape(_words(shown)).replace(re.escape(ELISION), ".*")
    found = re.fullmatch(pattern, _words(printed))
    if found is None:
        return False
    if ELISION in shown:
        return True
    pairs = zip(_NUMBER.findall(shown), _NUMBER.findall(printed), strict=False)
    return all(_agree(a, b) for a, b in pairs)


def _words(line: str) -> str:
    """The line with its numbers as one sign and its spaces single."""
    return _NUMBER.sub("#", " ".join(_RULE.sub("─", line).split()))


def _agree(shown: str, printed: str) -> bool:
    a, b = (float(text.replace(",", "")) for text in (shown, printed))
    decimals = len(shown.partition(".")[2])
    return abs(a - b) <= max(TOLERANCE * abs(a), 1.0001 * 10.0**-decimals)
