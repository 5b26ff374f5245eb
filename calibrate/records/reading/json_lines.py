"""Logs of a JSON record a line as Arrow tables: only the wanted fields are parsed, a million records in seconds."""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.json

from calibrate.records.reading.content import named, opened, read_content, read_text
from sim.text_files import ContentError, json_value

_BLOCK_BYTES = 1 << 23
_LONGEST_LINE = 1 << 20
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_LIST = b"["

SchemaOf = Callable[[dict[str, Any]], pa.Schema]
"""The wanted fields, and their kinds, by a log's first record."""


def read_json_lines(path: Path, schema_of: SchemaOf) -> tuple[pa.Table, str]:
    """A log's records, and words for a last one that was cut off and is left out (empty: there is none).

    A file that holds one JSON list gives its entries. Raises UnreadableError, with file and line, for what is no log.
    """
    with named(path):
        with opened(path) as content:
            start = content.read(_LONGEST_LINE)
        if start.lstrip().startswith((*_MARKS, _LIST)):
            lines = _as_lines(read_text(path))
            return _parsed(io.BytesIO(lines), schema_of(_first_record(lines))), ""
        schema = schema_of(_first_record(start))
        try:
            with opened(path) as content:
                return _parsed(content, schema), ""
        except ContentError:
            whole, _, last = read_content(path).rstrip(b"\n").rpartition(b"\n")
            if not whole.strip() or _is_json(last):
                raise
        return _parsed(io.BytesIO(whole), schema), "the last record is cut off: left out"


def _parsed(content: IO[bytes], schema: pa.Schema) -> pa.Table:
    how = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        return pa.json.read_json(content, pa.json.ReadOptions(block_size=_BLOCK_BYTES), how)
    except pa.ArrowException as error:
        words = (str(error).splitlines() or [type(error).__name__])[0][:200]
        what = f"a record is not as the first one: {words}"
        raise ContentError(what, "Correct it or leave it out") from error


def _as_lines(text: str) -> bytes:
    """UTF-8 without a mark, a record a line."""
    if not text.lstrip().startswith(_LIST.decode()):
        return text.encode()
    records = json_value(text)
    return b"".join(json.dumps(record).encode() + b"\n" for record in _listed(records))


def _listed(records: object) -> list[Any]:
    return records if isinstance(records, list) else [records]


def _first_record(start: bytes) -> dict[str, Any]:
    line = next((line for line in start.splitlines() if line.strip()), b"")
    if not line:
        raise ContentError("is empty", "Give a log with records")
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        what = f"its first line is not a record in JSON: {error}"
        raise ContentError(what, "Is it the right file?", 1) from error
    if not isinstance(record, dict):
        raise ContentError("its first line must be a record with named fields", "Correct it", 1)
    return record


def _is_json(line: bytes) -> bool:
    with contextlib.suppress(ValueError, RecursionError):
        json.loads(line)
        return True
    return False
