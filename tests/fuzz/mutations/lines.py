"""Accidents to text: lines gone, twice there or moved, and a word that is another."""

import re
from collections.abc import Callable
from random import Random

from tests.fuzz.mutations import odd

_WORD = re.compile(rb"[\w.+-]+")
_Lines = list[bytes]


def damaged(content: bytes, chance: Random) -> bytes:
    """A text after one accident."""
    lines = content.split(b"\n")
    at = chance.randrange(len(lines))
    chance.choice(_ACCIDENTS)(lines, at, chance)
    return b"\n".join(lines)


def damaged_setting(content: bytes, chance: Random) -> bytes:
    """A text of ``name = value`` lines (TOML) with another value, or another name, in one of them."""
    lines = content.split(b"\n")
    at = chance.randrange(len(lines))
    name, equals, _ = lines[at].partition(b"=")
    if not equals:
        return damaged(content, chance)
    value = chance.choice((*odd.TOML, *odd.JSON)).encode()
    names = (
        name,
        name,
        name,
        b"[x]\na",
        name.strip() + b".a",
        b"[[a]]\nb",
        lines[0].partition(b"=")[0],
    )
    lines[at] = chance.choice(names) + b"= " + value
    return b"\n".join(lines)


def _other_word(lines: _Lines, at: int, chance: Random) -> None:
    words = [*_WORD.finditer(lines[at])]
    if words:
        word = chance.choice(words)
        new = _odd_word(chance)
        lines[at] = lines[at][: word.start()] + new + lines[at][word.end() :]


def _odd_word(chance: Random) -> bytes:
    return chance.choice(odd.WORDS).encode("utf-8", "surrogatepass")


def _drop(lines: _Lines, at: int, chance: Random) -> None:
    del lines[at]


def _repeat(lines: _Lines, at: int, chance: Random) -> None:
    lines[at:at] = [lines[at]] * chance.choice((1, 2, 20))


def _move(lines: _Lines, at: int, chance: Random) -> None:
    lines.insert(chance.randrange(len(lines)), lines.pop(at))


def _cut(lines: _Lines, at: int, chance: Random) -> None:
    del lines[at:]


def _insert(lines: _Lines, at: int, chance: Random) -> None:
    lines.insert(at, _odd_word(chance))


def _halve(lines: _Lines, at: int, chance: Random) -> None:
    lines[at] = lines[at][: len(lines[at]) // 2]


def _join(lines: _Lines, at: int, chance: Random) -> None:
    lines[at : at + 2] = [b"".join(lines[at : at + 2])]


_ACCIDENTS: tuple[Callable[[_Lines, int, Random], None], ...] = (
    *(_other_word, _other_word, _other_word, _other_word, _drop, _repeat, _move, _cut, _insert),
    *(_halve, _join),
)
