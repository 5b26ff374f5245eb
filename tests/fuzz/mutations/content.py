"""Accidents to bytes: flipped, cut off, taken out, put in, moved."""

from collections.abc import Callable
from random import Random

_ODD = (
    b"\0",
    b"\xff",
    b"\xfe\xff",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"\x1b[2J",
    b"\r",
    b"\n",
    b'"',
)


def damaged(content: bytes, chance: Random) -> bytes:
    """The content after one accident."""
    at = chance.randrange(len(content) + 1)
    end = min(len(content), at + chance.choice((1, 2, 8, 60)))
    return chance.choice(_ACCIDENTS)(content, at, end, chance)


def _flip(content: bytes, at: int, end: int, chance: Random) -> bytes:
    flipped = bytes(byte ^ (1 << chance.randrange(8)) for byte in content[at:end])
    return content[:at] + flipped + content[end:]


def _cut_off(content: bytes, at: int, end: int, chance: Random) -> bytes:
    return content[:at]


def _take_out(content: bytes, at: int, end: int, chance: Random) -> bytes:
    return content[:at] + content[end:]


def _scramble(content: bytes, at: int, end: int, chance: Random) -> bytes:
    return content[:at] + chance.randbytes(end - at) + content[end:]


def _put_in(content: bytes, at: int, end: int, chance: Random) -> bytes:
    return content[:at] + chance.choice(_ODD) * chance.choice((1, 1, 50)) + content[at:]


def _splice(content: bytes, at: int, end: int, chance: Random) -> bytes:
    """A part from elsewhere in the place of this one."""
    start = chance.randrange(len(content) + 1)
    return content[:at] + content[start : start + end - at] + content[end:]


_ACCIDENTS: tuple[Callable[[bytes, int, int, Random], bytes], ...] = (
    *(_flip, _cut_off, _take_out, _scramble, _put_in, _splice),
)
