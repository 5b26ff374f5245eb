"""Parquet files as Arrow tables."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from calibrate.records.reading.content import named
from sim.text_files import ContentError

_UNREADABLE = (pa.ArrowException, ValueError, TypeError, KeyError, ArithmeticError, OSError)


def parquet_columns(path: Path) -> list[str]:
    """The names of a file's columns. Raises UnreadableError if it is no Parquet file."""
    names: list[str] = _read(path, lambda: pyarrow.parquet.read_schema(path).names)
    return names


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A table with all columns of a file, or some. Raises UnreadableError if it is no Parquet file."""
    return _read(path, lambda: pyarrow.parquet.read_table(path, columns=columns))


def read_parquet_frame(path: Path) -> pd.DataFrame:
    """All columns of a file, one that was an index too; raises as :func:`read_parquet`."""
    table = read_parquet(path)
    names = table.column_names
    twice = next((name for name in names if names.count(name) > 1), None)
    with named(path):
        if twice is not None:
            raise ContentError(f"has the column {twice!r} twice", "Rename or remove one")
    frame: pd.DataFrame = _read(path, lambda: table.to_pandas(ignore_metadata=True))
    return frame


def _read(path: Path, how: Callable[[], Any]) -> Any:
    with named(path):
        with path.open("rb"):  # a missing file is named as any other
            pass
        try:
            return how()
        except _UNREADABLE as error:
            words = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise ContentError(f"not a Parquet file: {words}", "Export it again") from error
