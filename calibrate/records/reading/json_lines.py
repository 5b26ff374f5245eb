"""Logs of a JSON record a line as Arrow tables: only the wanted fields are parsed, a million records in seconds."""

import contextlib
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.json

from calibrate.records.reading.content import named, opened, read_content, read_text, unpacked
from calibrate.records.reading.places import opened_place
from sim.text_files import ContentError, json_value

_CUT_OFF = "the last record is cut off: left out"
_PART_BYTES = 1 << 25
_BLOCK_BYTES = 1 << 23
_LONGEST_LINE = 1 << 20
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_LIST = b"["
_OTHER = re.compile(rb"\n[ \t\r]*([^{\s])")
_OTHER_FIRST = re.compile(rb"(?:\A|\n)[ \t\r]*([^{\s])")

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
        return _parsed(io.BytesIO(whole), schema), _CUT_OFF


def json_line_parts(place: str, schema_of: SchemaOf) -> Iterator[tuple[pa.Table, str]]:
    """The same of a log of any size, here or at a URL, some tens of megabytes of whole lines at a time.

    A list of records, or a text in UTF-16, must be a file of this machine, and is read whole.
    """
    with named(place), opened_place(place) as file:
        start = file.read(4)
        file.seek(0)
        with unpacked(file, start) as content:
            parts = _whole_lines(content)
            first = next(parts, b"")
            if first.lstrip().startswith((*_MARKS, _LIST)):
                yield read_json_lines(Path(place), schema_of)
                return
            schema, line = schema_of(_first_record(first)), 1
            for part in itertools.chain([first], parts):
                yield _part_parsed(part, schema, line)
                line += part.count(b"\n")


def _whole_lines(content: IO[bytes]) -> Iterator[bytes]:
    """The bytes of a log in parts that end with a line, the last one as the log does."""
    rest: list[bytes] = []
    size = 0
    while read := content.read(_PART_BYTES):
        whole, newline, begun = read.rpartition(b"\n")
        if not newline:
            rest.append(begun)
            size += len(begun)
            if size > _PART_BYTES:
                raise ContentError("has no line for many megabytes", "Is it the right file?")
            continue
        yield b"".join([*rest, whole, newline])
        rest, size = [begun], len(begun)
    if last := b"".join(rest).strip():
        yield last


def _part_parsed(part: bytes, schema: pa.Schema, line: int) -> tuple[pa.Table, str]:
    """The records of some whole lines, the first of which is that ``line``; a last one that was cut off left out."""
    whole, _, last = part.rpartition(b"\n")
    if last and not _is_json(last):
        if not whole.strip():
            return schema.empty_table(), _CUT_OFF
        return _parsed(io.BytesIO(whole), schema), _CUT_OFF
    try:
        return _parsed(io.BytesIO(part), schema), ""
    except ContentError as error:
        if error.line is not None:
            raise ContentError(error.what, error.fix, line + error.line - 1) from error
        raise ContentError(f"{error.what} (rows count from this line)", error.fix, line) from error


def _parsed(content: IO[bytes], schema: pa.Schema) -> pa.Table:
    how = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        blocks = pa.json.ReadOptions(block_size=_BLOCK_BYTES)
        return pa.json.read_json(_Records(content), blocks, how)
    except pa.ArrowException as error:
        words = (str(error).splitlines() or [type(error).__name__])[0][:200]
        what = f"a record is not as the first one: {words}"
        raise ContentError(what, "Correct it or leave it out") from error


class _Records(io.RawIOBase):
    """A log whose every line begins as a record does: Arrow's parser ends the process at a block that begins with null.

    Reading raises ContentError at the first other line.
    """

    def __init__(self, content: IO[bytes]) -> None:
        self._content = content
        self._lines, self._begins = (
            0,
            True,
        )  # lines that ended, and whether the next byte begins one

    def readable(self) -> bool:
        """It can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """As of any file."""
        part = self._content.read(size)
        ended = part.count(b"\n")
        begun = ended - part.endswith(b"\n") + self._begins
        if part and part.count(b"\n{") + (self._begins and part.startswith(b"{")) != begun:
            self._find_other(part)
        self._lines += ended
        self._begins = part.endswith(b"\n") if part else self._begins
        return part

    def _find_other(self, part: bytes) -> None:
        found = (_OTHER_FIRST if self._begins else _OTHER).search(part)
        if found is not None:
            line = self._lines + part.count(b"\n", 0, found.start(1)) + 1
            what = "a record is not as the first one: no object of named fields"
            raise ContentError(what, "Correct it or leave it out", line)


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
