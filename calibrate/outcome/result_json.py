"""Results as plain values, as ``result.json`` holds them, and the way back."""

import dataclasses
import functools
import json
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import pydantic

from calibrate.records.errors import CalibrateError

_FIX = "run the fit again, or put back the file as the fit wrote it"
_LONGEST_VALUE = 60

_Path = tuple[str | int, ...]
_T = TypeVar("_T")


def dump_json(content: object) -> str:
    """JSON text, never holding NaN or infinity."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_plain(value: Any) -> Any:
    """Dataclasses as dictionaries, tuples as lists, numbers that are not finite as None; ``from_`` becomes ``from``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name.rstrip("_"): to_plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {str(key): to_plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def from_plain(kind: type[_T], content: object, where: str) -> _T:
    """The dataclass of which :func:`to_plain` made this content; ``where`` names its source in errors.

    A null where a number belongs is one that was not finite, and reads as NaN. Raises CalibrateError, with the first
    field that is wrong and its value, where a field is missing or of another type.
    """
    try:
        return _validated(kind, content)
    except pydantic.ValidationError as error:
        raise CalibrateError(f"{where}: {_fault(error)}; {_FIX}") from error


def _validated(kind: type[_T], content: object) -> _T:
    adapter: pydantic.TypeAdapter[_T] = _adapter(kind)  # type: ignore[arg-type]  # mypy: no class is Hashable
    try:
        return adapter.validate_json(json.dumps(content), strict=True)
    except pydantic.ValidationError as error:
        nulls = [
            fault["loc"]
            for fault in error.errors()
            if fault["type"] == "float_type" and fault["input"] is None
        ]
        if not nulls:
            raise
    return adapter.validate_json(json.dumps(_with_nan(content, nulls)), strict=True)


@functools.cache
def _adapter(kind: type[object]) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(kind)


def _with_nan(content: object, paths: Sequence[_Path]) -> Any:
    """A copy of the content with NaN at some paths."""
    copy = json.loads(json.dumps(content))
    for path in paths:
        *parents, last = path
        place = functools.reduce(lambda holder, key: holder[key], parents, copy)
        place[last] = math.nan
    return copy


def _fault(error: pydantic.ValidationError) -> str:
    """The first field that is wrong, with its value and what it should be."""
    first = error.errors()[0]
    field = "".join(
        f"[{key}]" if isinstance(key, int) else f".{key}" for key in first["loc"]
    ).lstrip(".")
    if first["type"] == "missing":
        return f"{field} is missing"
    value = json.dumps(first["input"], ensure_ascii=False, default=str)
    shown = value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}…"
    return f"{field} = {shown}: {first['msg'][:1].lower()}{first['msg'][1:]}"
