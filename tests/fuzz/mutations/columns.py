"""Accidents to Parquet: columns of other types, gone, twice there or called otherwise, and odd metadata."""

import datetime
import decimal
import io
from collections.abc import Callable
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from tests.fuzz.mutations import content as bytes_of
from tests.fuzz.mutations import odd

_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        1,
        2**62,
        1.5,
        float("nan"),
        float("inf"),
        1e300,
        -0.0,
        "",
        "x",
        "1",
        "nan",
    ),
    *("a\x00b", "\x1b[31m", "x" * 2000, b"\xff\x00", b"", [], [1], ["x"], [None], [[1]], {"x": 1}),
    *({"x": [1]}, {"x": None}, decimal.Decimal("1.5"), datetime.datetime(2026, 1, 1, 1, 1)),
    *(datetime.date(1, 1, 1), datetime.time(1), datetime.timedelta(days=1), "llama-3.1-8b"),
)
_TYPES = (
    *(
        pa.int8(),
        pa.uint64(),
        pa.float16(),
        pa.float32(),
        pa.string(),
        pa.large_string(),
        pa.bool_(),
    ),
    *(pa.dictionary(pa.int32(), pa.string()), pa.decimal128(30, 3), pa.timestamp("ns", "UTC")),
    *(pa.timestamp("s"), pa.duration("us"), pa.null(), pa.binary(), pa.date32(), pa.string_view()),
)
_UNREADABLE = (pa.ArrowException, ValueError, TypeError, KeyError, OverflowError, OSError)


def damaged(content: bytes, chance: Random) -> bytes:
    """A Parquet file after one accident; one that can be read no more loses bytes."""
    try:
        table = pyarrow.parquet.read_table(io.BytesIO(content), use_threads=False)
        changed = chance.choice(_ACCIDENTS)(table, chance)
        sink = io.BytesIO()
        pyarrow.parquet.write_table(changed, sink)
    except _UNREADABLE:  # what Arrow itself cannot hold or write is no case
        return bytes_of.damaged(content, chance)
    return sink.getvalue()


def _column(table: pa.Table, chance: Random) -> int:
    return chance.randrange(table.num_columns)


def _other_value(table: pa.Table, chance: Random) -> pa.Table:
    """A column of one odd value, or one cell of it in a column as it was."""
    at = _column(table, chance)
    cells = table.column(at).to_pylist()
    value = chance.choice(_VALUES)
    if chance.random() < 0.5:
        cells = [value] * len(cells)
    elif cells:
        cells[chance.randrange(len(cells))] = value
    return table.set_column(at, table.field(at).name, pa.array(cells))


def _other_type(table: pa.Table, chance: Random) -> pa.Table:
    at = _column(table, chance)
    cells = table.column(at).cast(chance.choice(_TYPES), safe=False)
    return table.set_column(at, table.field(at).name, cells)


def _rename(table: pa.Table, chance: Random) -> pa.Table:
    names = [*table.column_names]
    names[_column(table, chance)] = chance.choice(odd.NAMES)
    return table.rename_columns(names)


def _drop(table: pa.Table, chance: Random) -> pa.Table:
    return table.remove_column(_column(table, chance))


def _repeat(table: pa.Table, chance: Random) -> pa.Table:
    at = _column(table, chance)
    return table.append_column(table.field(at).name, table.column(at))


def _fewer_rows(table: pa.Table, chance: Random) -> pa.Table:
    return table.slice(0, chance.randrange(max(table.num_rows, 1)))


def _more_rows(table: pa.Table, chance: Random) -> pa.Table:
    return pa.concat_tables([table] * chance.choice((2, 5)))


def _metadata(table: pa.Table, chance: Random) -> pa.Table:
    pandas = chance.choice((b"", b"{}", b"[]", b'{"index_columns": ["x"], "columns": []}', b"\xff"))
    return table.replace_schema_metadata({b"pandas": pandas, b"": b"\x00"})


_ACCIDENTS: tuple[Callable[[pa.Table, Random], pa.Table], ...] = (
    *(_other_value, _other_value, _other_value, _other_type, _other_type, _rename, _drop, _repeat),
    *(_fewer_rows, _more_rows, _metadata),
)
