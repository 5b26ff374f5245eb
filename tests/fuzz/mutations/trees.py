"""Accidents to JSON and YAML as trees: other values, keys that are gone, twice there or called otherwise."""

import json
import sys
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import yaml

from tests.fuzz.mutations import lines, odd

_HOLE = "\x00hole\x00"
_HOLE_TEXT = json.dumps(_HOLE)
_Holder = dict[str, Any] | list[Any]
_Place = tuple[_Holder, Any]


def damaged(content: bytes, chance: Random) -> bytes:
    """A JSON or YAML text after one accident, as JSON."""
    tree = _parsed(content)
    return _damaged_tree(tree, chance, odd.JSON) if tree else lines.damaged(content, chance)


def damaged_yaml(content: bytes, chance: Random) -> bytes:
    """The same with values that only YAML knows; they stand bare in a text that is otherwise JSON."""
    tree = _parsed(content)
    return _damaged_tree(tree, chance, odd.YAML) if tree else lines.damaged(content, chance)


def damaged_line(content: bytes, chance: Random) -> bytes:
    """JSON lines, one of them after an accident."""
    documents = content.splitlines()
    if not documents:
        return content
    at = chance.randrange(len(documents))
    documents[at] = damaged(documents[at], chance)
    return b"\n".join([*documents, b""])


def _parsed(content: bytes) -> _Holder | None:
    """The tree of a text; None for what is none any more."""
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        tree = _of_yaml(content)
    return tree if isinstance(tree, dict | list) and tree else None


def _of_yaml(content: bytes) -> object:
    if len(content) > 10_000 or b"{{" in content or b"[[" in content:
        return None
    try:
        tree = yaml.safe_load(content)
        json.dumps(tree)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, AttributeError, LookupError):
        return None
    return tree


def _damaged_tree(tree: _Holder, chance: Random, values: tuple[str, ...]) -> bytes:
    places = [*_places(tree)]
    holder, key = chance.choice(places)
    written = chance.choice(_ACCIDENTS)(holder, key, chance, values)
    text = json.dumps(tree).replace(_HOLE_TEXT, written)
    return text.encode("utf-8", "surrogatepass")


def _places(tree: _Holder) -> Iterator[_Place]:
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _replace(holder: _Holder, key: Any, chance: Random, values: tuple[str, ...]) -> str:
    holder[key] = _HOLE
    return chance.choice(values)


def _scale(holder: _Holder, key: Any, chance: Random, values: tuple[str, ...]) -> str:
    value = holder[key]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or abs(value) > sys.float_info.max:
        return _replace(holder, key, chance, values)
    holder[key] = value * chance.choice((0, -1, 0.5, 1e-9, 10, 1e9, 1e30))
    return ""


def _drop(holder: _Holder, key: Any, chance: Random, values: tuple[str, ...]) -> str:
    del holder[key]
    return ""


def _rename(holder: _Holder, key: Any, chance: Random, values: tuple[str, ...]) -> str:
    if isinstance(holder, list):
        return _replace(holder, key, chance, values)
    holder[_HOLE] = holder.pop(key)
    name = str(key)
    other = chance.choice((name.upper(), f"{name}_", name[:-1], *odd.NAMES, "\ud800", "a\x00b"))
    return json.dumps(other)


def _repeat(holder: _Holder, key: Any, chance: Random, values: tuple[str, ...]) -> str:
    """A key that stands there twice, or an entry a second time."""
    if isinstance(holder, list):
        holder.insert(key, holder[key])
        return ""
    holder[_HOLE] = chance.choice((holder[key], None, 1))
    return json.dumps(str(key))


def _empty(holder: _Holder, key: Any, chance: Random, values: tuple[str, ...]) -> str:
    holder[key] = type(holder[key])() if holder[key] is not None else []
    return ""


def _wrap(holder: _Holder, key: Any, chance: Random, values: tuple[str, ...]) -> str:
    holder[key] = chance.choice(
        ([holder[key]], {"x": holder[key]}, str(holder[key]), [holder[key]] * 3)
    )
    return ""


def _cut(holder: _Holder, key: Any, chance: Random, values: tuple[str, ...]) -> str:
    """Only a part of what is beside it."""
    if isinstance(holder, list):
        del holder[key:]
    else:
        for other in [name for name in holder if name != key and chance.random() < 0.5]:
            del holder[other]
    return ""


def _swap(holder: _Holder, key: Any, chance: Random, values: tuple[str, ...]) -> str:
    other = chance.choice([*holder] if isinstance(holder, dict) else range(len(holder)))
    holder[key], holder[other] = holder[other], holder[key]
    return ""


_Accident = Callable[[_Holder, Any, Random, tuple[str, ...]], str]
"""Changes what is under a key; returns what is to be written in the place of the hole."""
_ACCIDENTS: tuple[_Accident, ...] = (
    *(_replace, _replace, _replace, _scale, _drop, _rename, _repeat, _empty, _wrap, _cut, _swap),
)
