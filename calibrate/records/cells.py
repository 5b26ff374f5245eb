"""The cells of a table, checked against what their columns must hold, a block of rows at a time."""

import dataclasses
import math
import numbers
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from calibrate.records.errors import NO_TEXT
from calibrate.records.schema import Column

_Mask = NDArray[np.bool_]
_Finding = tuple[str, str, _Mask]
"""What is wrong, the fix, and which rows it is true of."""
_PLAIN = {"string", "integer", "floating", "mixed-integer-float", "decimal", "empty"}
"""What pandas calls cells that are numbers, text, or not there."""
_NUMBERS = (np.dtype("float64"), np.dtype("int64"))
"""Types of columns that hold numbers and nothing else."""
_BAD_NUMBER = {
    "count": ("must be a whole number of 0 or more", "Correct the count or leave the row out"),
    "amount": ("must be a number of 0 or more", "Correct the value or leave the row out"),
    "positive": ("must be a positive number", "Correct the measurement or leave the row out"),
}


@dataclasses.dataclass(frozen=True, eq=False)
class BadCells:
    """Cells of a column of which the same is wrong: their ``rows`` (n,) as a mask, ``value`` is the first one's."""

    column: str
    message: str
    fix: str
    rows: _Mask
    value: str


def check_cells(
    raw: pd.DataFrame, columns: Sequence[Column]
) -> tuple[pd.DataFrame, _Mask, list[BadCells]]:
    """Rows with text as str and numbers as float64 (an empty optional cell is NaN); which have an error; all errors."""
    bad = np.zeros(len(raw), dtype=bool)
    known = {column.name for column in columns}
    converted = {
        str(name): _as_text(cells) if str(name) not in known and _holds_text(cells) else cells
        for name, cells in raw.items()
    }
    found: list[BadCells] = []
    for column in columns:
        if column.name not in converted:
            bad |= column.required
            continue
        cells = converted[column.name]
        convert = _text if column.kind == "text" else _number
        converted[column.name], findings = convert(cells, column)
        for message, fix, wrong in findings:
            if wrong.any():
                bad |= wrong
                first = str(cells.iloc[int(np.argmax(wrong))])[:60] or "(empty)"
                found.append(BadCells(column.name, message, fix, wrong, first))
    return pd.DataFrame(converted, index=raw.index), bad, found


def _holds_text(cells: pd.Series) -> bool:
    if isinstance(cells.dtype, pd.CategoricalDtype):
        return _holds_text(cells.cat.categories.to_series())
    return cells.dtype == object or pd.api.types.is_string_dtype(cells.dtype)


def _strings(cells: pd.Series) -> pa.Array | None:
    """Cells that are text, or not there; None where any is something else."""
    try:
        text = pa.array(cells, pa.string(), from_pandas=True)
        return text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text
    except (pa.ArrowException, UnicodeError, TypeError):
        return None


def _as_text(cells: pd.Series) -> pd.Series:
    """Texts without blanks around them; cells that say the same share one string, as a log repeats its labels.

    What comes as categories stays so: of millions of rows only those are looked at.
    """
    if isinstance(cells.dtype, pd.CategoricalDtype):
        words = _as_text(pd.Series([*cells.cat.categories, None], dtype=object))
        code, distinct = pd.factorize(words.to_numpy())  # the code of an empty cell is −1
        codes = code[cells.cat.codes.to_numpy()]
        return pd.Series(categories(codes, distinct), index=cells.index)
    text = _strings(cells)
    if text is None:
        return cells.astype(object).where(cells.notna(), "").astype(str).str.strip().astype(object)
    labels = text.fill_null("").dictionary_encode()
    distinct = np.array([label.strip() for label in labels.dictionary.to_pylist()], dtype=object)
    return pd.Series(distinct[labels.indices.to_numpy()], index=cells.index, dtype=object)


def categories(codes: NDArray[np.integer], words: NDArray[np.object_]) -> pd.Categorical:
    """Texts that repeat: which of some distinct ``words`` each is."""
    return pd.Categorical.from_codes(codes, categories=pd.Index(words, dtype=object))


def _text(cells: pd.Series, column: Column) -> tuple[pd.Series, list[_Finding]]:
    text = _as_text(cells)
    odd = [word for word in text.unique() if NO_TEXT.search(word)]
    findings = []
    if column.required and not column.may_be_empty:
        findings.append(("is empty", "Fill it in", (text == "").to_numpy()))
    if odd:
        what = "holds control characters, which are no text"
        findings.append((what, "Remove them", text.isin(odd).to_numpy()))
    return text, findings


def _number(cells: pd.Series, column: Column) -> tuple[pd.Series, list[_Finding]]:
    number, empty = _parsed(cells)
    message, fix = _BAD_NUMBER[column.kind]
    with np.errstate(invalid="ignore"):
        whole = (
            (number == np.floor(number))
            if column.kind == "count"
            else np.ones(len(number), dtype=bool)
        )
        in_range = (number > 0) if column.kind == "positive" else (number >= 0)
        huge = number > column.largest
    wrong = ~empty & ~huge & ~(np.isfinite(number) & whole & in_range)
    too_large = f"is larger than {column.largest:g}, beyond anything measurable"
    return pd.Series(number, index=cells.index), [
        (message, fix, wrong),
        (too_large, "Check the unit and the digits", ~empty & (huge | (number == math.inf))),
        ("is empty", "Fill it in", empty & column.required & (not column.may_be_empty)),
    ]


def _parsed(cells: pd.Series) -> tuple[NDArray[np.float64], _Mask]:
    """The numbers of cells, NaN where there is none; and which cells are empty."""
    if cells.dtype in _NUMBERS:
        plain = cells.to_numpy(dtype=np.float64, copy=True)
        return plain, np.isnan(plain)
    text = _strings(cells)
    if text is None:
        cells, no_number = _plain(cells)
        empty = (cells.isna() | (cells.astype(object) == "")).to_numpy(dtype=bool) & ~no_number
        return _numbers(cells), empty
    empty = pc.equal(text.fill_null(""), "")
    try:  # Arrow reads numbers as pandas does, many times as fast, but gives up at the first that is none
        number = pc.if_else(empty, None, text).cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowException:
        number = _numbers(text.to_pandas().astype(object))
    return np.array(number), empty.to_numpy(zero_copy_only=False)


def _numbers(cells: pd.Series) -> NDArray[np.float64]:
    return pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)


def _plain(cells: pd.Series) -> tuple[pd.Series, _Mask]:
    """Cells of numbers and text only, empty where they hold anything else, and the mask of those."""
    if pd.api.types.infer_dtype(cells, skipna=True) in _PLAIN:
        return cells, np.zeros(len(cells), dtype=bool)
    plain = cells.astype(object)
    known = [
        cell is None or (isinstance(cell, str | numbers.Real) and not isinstance(cell, bool))
        for cell in plain
    ]
    other = ~np.array(known, dtype=bool)
    return plain.mask(other, None), other
