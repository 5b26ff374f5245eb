"""Parquet files as Arrow tables."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from calibrate.records.reading.content import named
from sim.text_files import ContentError

UNREADABLE = (pa.ArrowException, ValueError, TypeError, KeyError, ArithmeticError, OSError)
"""What Arrow raises for content that is no Parquet."""

_BYTES = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_binary_view,
)


def parquet_columns(path: Path) -> list[str]:
    """The names of a file's columns. Raises UnreadableError if it is no Parquet file."""
    names: list[str] = _read(path, lambda: pyarrow.parquet.read_schema(path).names)
    return names


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A table with all columns of a file, or some.

    Raises UnreadableError if it is no Parquet file, or has a column twice.
    """
    table: pa.Table = _read(
        path, lambda: pyarrow.parquet.read_table(path, columns=columns, partitioning=None)
    )
    names: list[str] = _read(path, lambda: table.column_names)
    twice = next((name for name in names if names.count(name) > 1), None)
    with named(path):
        if twice is not None:
            raise ContentError(f"has the column {twice!r} twice", "Rename or remove one")
    return table


def read_parquet_frame(path: Path) -> pd.DataFrame:
    """All columns of a file, one that was an index too, and bytes as their text; raises as :func:`read_parquet`.

    Half-precision numbers come as double ones: pandas groups by none of the former.
    """
    table = read_parquet(path)
    with named(path):
        table = with_text(table)
    frame: pd.DataFrame = _read(path, lambda: table.to_pandas(ignore_metadata=True))
    return frame.astype(dict.fromkeys(frame.select_dtypes("float16"), np.float64))


def with_text(table: pa.Table) -> pa.Table:
    """The table with bytes, which some tools write for text, as text; without what pandas noted of itself beside it.

    Raises ContentError where they are not, and for text that is not UTF-8, which a reader does not look at.
    """
    table = table.replace_schema_metadata()  # pandas reads it, damaged or not, where told not to
    for place, field in enumerate(table.schema):
        column = table.column(place)
        try:
            text = column.cast(pa.string()) if _is_bytes(field.type) else column
            text.validate(full=True)
        except pa.ArrowException as error:
            what = f"the column {field.name!r} holds bytes that are no text"
            raise ContentError(what, "Export it as text") from error
        table = table.set_column(place, field.name, text)
    return table


def _is_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_bytes(kind.value_type)
    return any(is_one(kind) for is_one in _BYTES)


def _read(path: Path, how: Callable[[], Any]) -> Any:
    with named(path):
        with path.open("rb"):  # a missing file is named as any other
            pass
        try:
            return how()
        except UNREADABLE as error:
            words = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise ContentError(f"not a Parquet file: {words}", "Export it again") from error
