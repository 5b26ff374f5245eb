"""Text and JSON as files hold them; what nothing can be computed with is refused, with its line and the fix."""

import itertools
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST_LEVELS = 64
"""How deep the values of a file may be nested; what people and tools write stays below 20."""
MOST_DIGITS = 300
"""How long a whole number may be: beyond 308 digits it has no floating-point value."""
_CONFIGURATION_BYTES = 1 << 26
_FEW_VALUES = 1_000_000  # a small file may name a value again, by reference
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_NESTED = (dict, list, tuple, set)


class ContentError(ValueError):
    """A file whose content cannot be used: what is wrong, the fix, and the line where there is one."""

    def __init__(self, what: str, fix: str, line: int | None = None) -> None:
        super().__init__(f"{what}. {fix}")
        self.what = what
        self.fix = fix
        self.line = line

    def at(self, path: str | Path) -> str:
        """The message for a user, which begins with the file and the line."""
        return f"{path}{'' if self.line is None else f':{self.line}'}: {self}"


def read_json(path: Path, *, strict: bool = False) -> object:
    """The value of a JSON file of at most 64 MiB; ``strict`` as in :func:`json_value`.

    Raises ContentError if the file holds no such value, OSError if it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(_CONFIGURATION_BYTES + 1)
    if len(content) > _CONFIGURATION_BYTES:
        raise ContentError("is larger than 64 MiB", "Is it the right file?")
    return json_value(decoded(content), strict=strict)


def encoding_of(start: bytes) -> str:
    """The codec of a text that starts so; it takes off the mark."""
    return "utf-16" if start[:2] in _UTF_16 else "utf-8-sig"


def decoded(content: bytes) -> str:
    """The text of UTF-8, or of UTF-16 that begins with its mark; no mark is left.

    Raises ContentError, with the byte and its line, for anything else and for zero bytes.
    """
    encoding = encoding_of(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        byte = content[error.start]
        line = content.count(b"\n", 0, error.start) + 1
        what = f"is not {name} text (byte {error.start}, 0x{byte:02x}, is no part of it)"
        raise ContentError(what, "Save it as UTF-8", line) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        what = "holds zero bytes: a binary file, or text in another encoding"
        raise ContentError(what, "Save it as UTF-8", line)
    return text


def json_value(text: str, *, strict: bool = False) -> object:
    """The one JSON value of a text; ``strict`` refuses keys that stand twice, and NaN and infinity.

    Raises ContentError for a text that is not JSON, and for what :func:`check_value` refuses.
    """
    if not text.strip():
        raise ContentError("is empty: not readable JSON", "Copy it again")
    value, end = next_json(text, len(text) - len(text.lstrip()), strict=strict)
    if rest := text[end:].lstrip():
        line = text.count("\n", 0, len(text) - len(rest)) + 1
        raise ContentError("not readable JSON: more than one value", "Keep one of them", line)
    return value


def next_json(text: str, start: int, *, strict: bool = False) -> tuple[object, int]:
    """The JSON value that begins at a place in a text, and the place where it ends; raises as :func:`json_value`.

    Only an error of the JSON itself has a line.
    """
    try:
        value, end = (_STRICT if strict else _LENIENT).raw_decode(text, start)
    except json.JSONDecodeError as error:
        line = text.count("\n", 0, error.pos) + 1
        what = f"not readable JSON: {error.msg}"
        raise ContentError(
            what, "Was the file cut off? Copy it again, or correct it", line
        ) from error
    except RecursionError as error:
        raise _nested_too_deep() from error
    except ContentError:
        raise
    except ValueError as error:  # Python refuses to read numbers of thousands of digits
        raise _too_long("a number") from error
    check_value(value, end - start)
    return value, end


def check_value(value: object, characters: int) -> None:
    """Raise ContentError for values that nothing can be computed with, or written.

    These are whole numbers of more than 300 digits, half characters (lone surrogates), more than 64 levels, and
    more values than a text of so many ``characters`` can hold unless it repeats itself by reference.
    """
    count, level = 1, [value]
    for _ in range(MOST_LEVELS):
        if any(map(_is_unusable, level)):
            raise _unusable(value)
        nodes = [node for node in level if isinstance(node, _NESTED)]
        count += sum(map(len, nodes))
        if count > max(characters, _FEW_VALUES):
            raise ContentError("repeats itself by reference", "Write it out")
        level = [*itertools.chain.from_iterable(map(_children, nodes))]
        if not level:
            return
    raise _nested_too_deep()


def _children(node: Any) -> Iterator[object]:
    return itertools.chain(node.keys(), node.values()) if isinstance(node, dict) else iter(node)


def _is_unusable(value: object) -> bool:
    if isinstance(value, str):
        return not value.isascii() and _LONE_SURROGATE.search(value) is not None
    return isinstance(value, int) and value.bit_length() > MOST_DIGITS / math.log10(2.0)


def _unusable(value: object) -> ContentError:
    """What is wrong with the first unusable value inside another, with the name of its field."""
    field, culprit = next(_unusable_fields(value, ""))
    name = ascii(field)[1:-1] or "the value"
    if isinstance(culprit, int):
        return _too_long(name)
    what = f"{name} = {ascii(culprit)[:60]}: holds half a character"
    return ContentError(what, "Write the whole character, or remove it")


def _unusable_fields(value: object, field: str) -> Iterator[tuple[str, object]]:
    if _is_unusable(value):
        yield field, value
    if isinstance(value, dict):
        for key, entry in value.items():
            name = f"{field}.{key}".lstrip(".")
            yield from ((name, key) for _ in range(_is_unusable(key)))
            yield from _unusable_fields(entry, name)
    elif isinstance(value, _NESTED):
        for place, entry in enumerate(value):
            yield from _unusable_fields(entry, f"{field}[{place}]")


def _too_long(name: str) -> ContentError:
    what = f"{name} is too large: it has more than {MOST_DIGITS} digits"
    return ContentError(what, "Correct it")


def _nested_too_deep() -> ContentError:
    return ContentError(f"is nested more than {MOST_LEVELS} levels deep", "Is it the right file?")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ContentError(f"the key {key!r} stands there twice", "Keep one")
        found[key] = value
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ContentError(
            f"{text[:40]} is not a number that a configuration may hold", "Correct it"
        )
    return value


_LENIENT = json.JSONDecoder()
_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite)
