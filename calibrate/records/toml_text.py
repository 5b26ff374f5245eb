"""A mapping as the text of a TOML file."""

import datetime
import json
from collections.abc import Mapping


def toml_text(content: Mapping[str, object]) -> str:
    """``content`` as TOML: plain values first, then a table for each mapping (of plain values) in it."""
    plain = {key: value for key, value in content.items() if not isinstance(value, Mapping)}
    tables = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    return _lines(plain) + "".join(f"\n[{key}]\n{_lines(table)}" for key, table in tables.items())


def _lines(values: Mapping[str, object]) -> str:
    return "".join(f"{key} = {_value(value)}\n" for key, value in values.items())


def _value(value: object) -> str:
    if isinstance(value, datetime.date):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML bars it as it is
