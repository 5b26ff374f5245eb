"""A table as a data set: a folder of Parquet files, here or at a URL, whose ``key=value`` folders are columns too."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import unquote

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from calibrate.records.errors import Problem, UnreadableError
from calibrate.records.reading.content import named
from calibrate.records.reading.parquet import UNREADABLE, with_text
from calibrate.records.reading.places import files_in, opened_place
from sim.text_files import ContentError

PIECE_ROWS = 1 << 17
"""Rows that are in memory at once: some tens of megabytes."""
BLOCK_ROWS = 1 << 18
"""Rows of a task, where row groups are not larger: a second of work, so that handing it out costs nothing."""
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""How an empty value of a key is written."""

_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)

Keys = tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Part:
    """One file: its ``keys`` as its path says them, its columns, and the rows of each of its row groups."""

    place: str
    keys: Keys
    columns: tuple[str, ...]
    groups: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Block:
    """Row groups of a file, ``rows`` in all; the first row is row ``first`` of its file and ``number`` of the set."""

    place: str
    keys: Keys
    groups: tuple[int, ...]
    first: int
    number: int
    rows: int


def find_parts(place: str) -> tuple[list[Part], list[Problem]]:
    """The files of a data set, by name, that fit together; problems of those that do not.

    Raises UnreadableError where there is none, and for a URL that cannot be reached.
    """
    files = files_in(place, (".parquet",))
    if not files:
        fix = "Put them there, in folders such as date=2026-08-01/, or remove the folder"
        raise UnreadableError(Problem("error", place, "holds no Parquet file", fix))
    parts: list[Part] = []
    problems: list[Problem] = []
    for file in files:
        try:
            part = _part(file, place)
        except UnreadableError as error:
            problems.append(error.problem)
            continue
        found = _misfit(part, parts[0] if parts else part)
        problems += found
        parts += [] if found else [part]
    return parts, problems


def blocks_of(parts: Iterable[Part], most_rows: int = BLOCK_ROWS) -> list[Block]:
    """The row groups of all files as blocks of so many rows, or of one row group that has more."""
    blocks: list[Block] = []
    number = 0
    for part in parts:
        first, rows = 0, 0
        groups: list[int] = []
        for group, size in enumerate(part.groups):
            if groups and rows + size > most_rows:
                blocks.append(Block(part.place, part.keys, tuple(groups), first, number, rows))
                first, number, groups, rows = first + rows, number + rows, [], 0
            groups.append(group)
            rows += size
        if rows:
            blocks.append(Block(part.place, part.keys, tuple(groups), first, number, rows))
        number += rows
    return blocks


def digest_of(parts: Sequence[Part], place: str) -> str:
    """SHA-256 of what the footers say: the names of the files, their columns and the rows of their groups."""
    said = [(part.place.removeprefix(place), part.columns, part.groups) for part in parts]
    return hashlib.sha256(repr(said).encode()).hexdigest()


def pieces_of(block: Block) -> Iterator[tuple[pd.DataFrame, int]]:
    """The rows of a block, a piece at a time, keys as columns; and which row of the file each piece begins with.

    Raises UnreadableError, naming the file, for one that is damaged.
    """
    row = block.first
    for table in _batches(block):
        frame = table.to_pandas(ignore_metadata=True)
        constant = {key: _constant(value, len(frame)) for key, value in block.keys}
        yield frame.assign(**constant), row
        row += len(frame)


def _batches(block: Block) -> Iterator[pa.Table]:
    with opened_place(block.place) as content, whole(block.place):
        file = pq.ParquetFile(content)
        texts = [f.name for f in file.schema_arrow if _is_text(f.type)]
        file = pq.ParquetFile(content, read_dictionary=texts, metadata=file.metadata)
        for batch in file.iter_batches(PIECE_ROWS, row_groups=list(block.groups)):
            yield _coded(with_text(pa.Table.from_batches([batch])))


def _coded(table: pa.Table) -> pa.Table:
    """The table with every text as a code, so that of millions of rows only the distinct texts are looked at."""
    for place, field in enumerate(table.schema):
        if _is_text(field.type):
            table = table.set_column(place, field.name, table.column(place).dictionary_encode())
    return table


def _is_text(kind: pa.DataType) -> bool:
    return any(is_one(kind) for is_one in _TEXTS)


def _constant(value: str, rows: int) -> pd.Categorical:
    return pd.Categorical.from_codes([0] * rows, categories=pd.Index([value], dtype=object))


def _part(file: str, place: str) -> Part:
    with opened_place(file) as content, whole(file):
        metadata = pq.read_metadata(content)
        groups = [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)]
        names = tuple(metadata.schema.to_arrow_schema().names)
    return Part(file, keys_of(file, place), names, tuple(groups))


def keys_of(file: str, place: str) -> Keys:
    """The keys of a file: the ``key=value`` folders that it lies in, below the data set's own."""
    folders = file.split("://")[-1].removeprefix(place.split("://")[-1]).split("/")[:-1]
    pairs = [folder.partition("=") for folder in folders if "=" in folder]
    return tuple((key, "" if value == NO_VALUE else unquote(value)) for key, _, value in pairs)


def _misfit(part: Part, first: Part) -> list[Problem]:
    """What keeps a file from being read as the first one of its data set."""
    names = [key for key, _ in part.keys]
    twice = next((key for key in names if key in part.columns or names.count(key) > 1), None)
    if twice is not None:
        what = "is a column of the file and a key of its path"
        return [Problem("error", part.place, what, "Rename or remove one", (), twice)]
    if set(names) != {key for key, _ in first.keys}:
        what = f"its path has other keys than {first.place} ({_listed(names)})"
        return [Problem("error", part.place, what, "Move it to a folder of the same keys")]
    lacks = [name for name in first.columns if name not in part.columns]
    more = [name for name in part.columns if name not in first.columns]
    if not (lacks or more):
        return []
    said = [f"lacks {_listed(lacks)}"] * bool(lacks) + [f"has {_listed(more)} too"] * bool(more)
    what = f"has other columns than {first.place}: {', '.join(said)}"
    return [Problem("error", part.place, what, "Write all partitions with the same columns")]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


@contextlib.contextmanager
def whole(place: str) -> Iterator[None]:
    """Whatever is wrong with a Parquet file's content, as an error that names it."""
    with named(place):
        try:
            yield
        except UNREADABLE as error:
            words = (str(error).splitlines() or [type(error).__name__])[0][:200]
            what = f"not a Parquet file, or a damaged one: {words}"
            raise ContentError(what, "Write it again, or remove it") from error
