"""Accidents to CSV: columns that are gone, twice there or called otherwise, odd cells, rows of another length."""

import codecs
import csv
import io
from collections.abc import Callable
from random import Random

from tests.fuzz.mutations import odd

_Rows = list[list[str]]
_ENCODINGS = ("utf-16", "utf-8-sig", "latin-1", "utf-16-le", "utf-32")
_MOST_ROWS = 400


def damaged(content: bytes, chance: Random) -> bytes:
    """A CSV text after one accident."""
    if chance.random() < 0.1:
        return _rewritten(content, chance)
    text = content.decode("utf-8", "replace")
    rows = [line.split(",") for line in text.splitlines()] or [[""]]
    if chance.random() < 0.5:
        _odd_cell(rows, chance)
    else:
        chance.choice(_ACCIDENTS)(rows, chance)
    return "\n".join([*(",".join(row) for row in rows), ""]).encode("utf-8", "surrogatepass")


def _place(rows: _Rows, chance: Random) -> tuple[int, int]:
    """A row below the header, if there is one, and a column of the header."""
    row = chance.randrange(min(1, len(rows) - 1), len(rows))
    return row, chance.randrange(max(len(rows[0]), 1))


def _odd_cell(rows: _Rows, chance: Random) -> None:
    row, column = _place(rows, chance)
    rows[row][column : column + 1] = [chance.choice(odd.CELLS)]


def _odd_column(rows: _Rows, chance: Random) -> None:
    _, column = _place(rows, chance)
    value = chance.choice(odd.CELLS)
    for row in rows[1:]:
        row[column : column + 1] = [value]


def _drop_column(rows: _Rows, chance: Random) -> None:
    _, column = _place(rows, chance)
    for row in rows:
        del row[column : column + 1]


def _rename_column(rows: _Rows, chance: Random) -> None:
    _, column = _place(rows, chance)
    name = rows[0][column] if rows[0] else ""
    rows[0][column : column + 1] = [
        chance.choice((name.upper(), f" {name} ", f"{name}s", *odd.NAMES))
    ]


def _repeat_column(rows: _Rows, chance: Random) -> None:
    _, column = _place(rows, chance)
    for row in rows:
        row[column:column] = row[column : column + 1]


def _swap_columns(rows: _Rows, chance: Random) -> None:
    _, column = _place(rows, chance)
    for row in rows:
        row.insert(0, row.pop(column) if column < len(row) else "")


def _swap_names(rows: _Rows, chance: Random) -> None:
    chance.shuffle(rows[0])


def _longer_row(rows: _Rows, chance: Random) -> None:
    row, _ = _place(rows, chance)
    rows[row] += [chance.choice(odd.CELLS)]


def _shorter_row(rows: _Rows, chance: Random) -> None:
    row, column = _place(rows, chance)
    del rows[row][column:]


def _drop_rows(rows: _Rows, chance: Random) -> None:
    row, _ = _place(rows, chance)
    del rows[row:]
    rows[:] = rows or [[""]]


def _drop_header(rows: _Rows, chance: Random) -> None:
    del rows[0]
    rows[:] = rows or [[""]]


def _repeat_rows(rows: _Rows, chance: Random) -> None:
    row, _ = _place(rows, chance)
    rows += [list(rows[row]) for _ in range(chance.choice((1, 2, 30)))]
    del rows[_MOST_ROWS:]


def _swap_rows(rows: _Rows, chance: Random) -> None:
    row, _ = _place(rows, chance)
    rows[0], rows[row] = rows[row], rows[0]


def _rewritten(content: bytes, chance: Random) -> bytes:
    """The same table as another program writes it: separators, quotes, ends of lines, encodings, comments."""
    text = content.decode("utf-8", "replace")
    how = chance.randrange(5)
    if how == 0:
        return text.encode(chance.choice(_ENCODINGS), "replace")
    if how == 1:
        return text.replace(",", chance.choice(";\t|")).encode()
    if how == 2:
        return text.replace("\n", chance.choice(("\r\n", "\r", "\n\n", "\n#\n"))).encode()
    if how == 3:
        return (
            chance.choice((codecs.BOM_UTF8, b"# note\n", b"\n\n", b"sep=,\n", b"\xff\xfe"))
            + content
        )
    quoted = io.StringIO()
    csv.writer(quoted, quoting=csv.QUOTE_ALL).writerows(
        line.split(",") for line in text.splitlines()
    )
    return quoted.getvalue().encode()


_ACCIDENTS: tuple[Callable[[_Rows, Random], None], ...] = (
    *(_odd_column, _odd_column, _drop_column, _rename_column, _repeat_column, _swap_columns),
    *(_swap_names, _longer_row, _shorter_row, _drop_rows, _drop_header, _repeat_rows, _swap_rows),
)
