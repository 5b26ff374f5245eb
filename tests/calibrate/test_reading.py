"""Files of every kind as they come: read where nothing can be mistaken, else refused in one line."""

import gzip
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from calibrate.campaign.campaign import load_campaign
from calibrate.records.errors import UnreadableError
from calibrate.records.reading.content import read_content, read_log_text, read_text
from calibrate.records.reading.csv_rows import CsvRows
from calibrate.records.reading.documents import (
    CutOff,
    read_json,
    read_json_documents,
    read_toml,
    read_yaml,
)
from calibrate.records.reading.parquet import read_parquet_frame
from tests.conftest import zstd

HEADER = "model,tp,num_prefill_requests,sum_prefill_tokens,num_decode_requests,sum_decode_kv_tokens,latency_us"
ROWS = ("llama-3.1-8b,1,1,2048,0,0,48211.5", "llama-3.1-8b,2,0,0,8,8192,9000.25")
TABLE = "\n".join([HEADER, *ROWS]) + "\n"


@pytest.fixture
def file(tmp_path):
    """Write a file of that content and return its path."""

    def write(content, name="file.json"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refusal(read, path):
    with pytest.raises(UnreadableError) as error:
        read(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(str(path))


# -- bytes and text --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
def test_text_is_read_in_usual_encodings_packed_or_not_whatever_it_is_called(file, encoding, pack):
    assert read_text(file(pack("größer\n".encode(encoding)))) == "größer\n"


def test_packed_parts_one_after_the_other_are_read_as_one(file):
    for pack in (gzip.compress, zstd):
        assert read_content(file(pack(b"one ") + pack(b"two"))) == b"one two"


def test_what_is_no_text_is_named_by_byte_and_line(file):
    assert refusal(read_text, file("a\nbé".encode("latin-1"))) == (
        ":2: is not UTF-8 text (byte 3, 0xe9, is no part of it). Save it as UTF-8"
    )
    assert ":1: holds zero bytes" in refusal(read_text, file("ab".encode("utf-16-le")))
    assert "cannot be read: Truncated" in refusal(read_text, file(gzip.compress(b"a" * 99)[:-9]))
    assert "cannot be read: ZSTD" in refusal(read_text, file(zstd(b"")[:4] + b"garbage"))


def test_a_file_that_unpacks_to_too_much_is_refused(file):
    path = file(gzip.compress(b"0" * 3_000_000))
    with pytest.raises(UnreadableError, match="is larger than 1 MiB"):
        read_content(path, 1 << 20)


def test_a_log_keeps_what_is_text_in_it(file):
    assert read_log_text(file(b"one\n\xff\ntwo")) == "one\n�\ntwo"


# -- JSON, TOML, YAML ------------------------------------------------------------------------------------------------

BAD_JSON = {
    "": ": is empty",
    '{"a": 1,\n "b": }': ":2: not readable JSON: Expecting value",
    "{} {}": ":1: not readable JSON: more than one value",
    "[" * 65 + "]" * 65: ": is nested more than 64 levels deep",
    "[" * 100_000: ": is nested more than 64 levels deep",
    '{"a": [{"b": ' + "9" * 400 + "}]}": ": a[0].b is too large: it has more than 300 digits",
    '{"a": ' + "9" * 5000 + "}": ": a number is too large",
    '{"a": {"b": "x\\ud83d"}}': ": a.b = 'x\\ud83d': holds half a character",
    '{"x\\ud83d": 1}': ": x\\ud83d = 'x\\ud83d': holds half a character",
}


@pytest.mark.parametrize("text", BAD_JSON, ids=range(len(BAD_JSON)))
def test_json_that_nothing_can_use_is_refused_with_field_or_line(file, text):
    assert refusal(read_json, file(text)).startswith(BAD_JSON[text])


def test_deep_but_not_too_deep_and_whole_characters_are_read(file):
    assert read_json(file('{"a": "\\ud83d\\ude00 é", "b": 1e5}')) == {"a": "😀 é", "b": 1e5}
    assert str(read_json(file("[" * 64 + "]" * 64))).count("[") == 64


def test_documents_are_found_with_their_lines_and_a_cut_off_last_one_is_marked(file):
    found = list(read_json_documents(file('{"a": 1}\n\n[2]\n{"a"')))
    assert found == [(1, {"a": 1}), (3, [2]), (4, CutOff())]


def test_a_broken_document_before_the_last_line_is_no_cut(file):
    path = file('{"a": 1}\n{"a"\n{"a": 2}\n')
    with pytest.raises(UnreadableError, match=r":3: not readable JSON"):
        list(read_json_documents(path))


BAD_TOML = {
    "a = 1\nb = \n": ":2: is not readable TOML",
    "a = " + "9" * 5000: ": is not readable TOML",
    "a = " + "9" * 400: ": a is too large",
    "a = " + "[" * 5000: ": is not readable TOML",
    "a = " + "[" * 70 + "]" * 70: ": is nested more than 64 levels deep",
    b"a = \xff": ":1: is not UTF-8 text",
}


@pytest.mark.parametrize("text", BAD_TOML, ids=range(len(BAD_TOML)))
def test_toml_that_nothing_can_use_is_refused(file, text):
    assert refusal(read_toml, file(text)).startswith(BAD_TOML[text])


BAD_YAML = {
    "a: 1\nb: [\n": ": not readable YAML",
    "a: !!timestamp x": ": not readable YAML",
    "a: !!bool x": ": not readable YAML",
    "a: 2024-13-45": ": not readable YAML",
    "a: " + "9" * 400: ": a is too large",
    "a: &a [*a]": ": is nested more than 64 levels deep",
    "a: " + "[" * 3000: ": not readable YAML",
    "\n".join(
        [
            "a0: &a0 [x, x]",
            *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)),
        ]
    ): ": repeats itself by reference",
}


@pytest.mark.parametrize("text", BAD_YAML, ids=range(len(BAD_YAML)))
def test_yaml_that_nothing_can_use_is_refused(file, text):
    said = refusal(read_yaml, file(text))
    assert re.sub(r"^:\d+:", ":", said).startswith(BAD_YAML[text])


# -- tables ----------------------------------------------------------------------------------------------------------


def campaign_of(tmp_path, content, name="steps.csv"):
    folder = tmp_path / "H100" / "c"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    (folder / "campaign.toml").write_text('title = "t"\nsource = "s"\nlicence = "l"\n')
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_campaign(folder, "H100")


def of_reading(campaign, severity="warning"):
    """Findings about the file, without those about what the campaign shows."""
    return [p for p in campaign.problems if p.severity == severity and p.file.endswith("csv")]


SEMICOLONS = TABLE.replace(",", ";")
UNUSUAL = {
    "semicolons": (SEMICOLONS, "cells are parted by semicolons"),
    "tabs": (TABLE.replace(",", "\t"), "cells are parted by tabs"),
    "decimal commas": (
        SEMICOLONS.replace("48211.5", "48211,5").replace("9000.25", "9000,25"),
        "has a decimal comma: read as 48211.5",
    ),
    "decimal commas and tabs": (
        TABLE.replace(",", "\t").replace("48211.5", "48211,5").replace("9000.25", "9000,25"),
        "has a decimal comma: read as 48211.5",
    ),
    "comments": ('# from "us\n' + TABLE.replace("\nl", "\n# one, \n  # two\nl", 1), "are comments"),
    "an index": (f",{HEADER}\n0,{ROWS[0]}\n1,{ROWS[1]}\n", "column 1 has no name"),
    "an index of pandas": (
        f"Unnamed: 0,{HEADER}\n0,{ROWS[0]}\n1,{ROWS[1]}\n",
        "column 1 has no name",
    ),
    "a comma at each end": (
        TABLE.replace("\n", ",\n"),
        "column 8 has no name",
    ),
    "milliseconds": (
        TABLE.replace("_us", "_ms").replace("48211.5", "48.2115").replace("9000.25", "9.00025"),
        "latency_us is 1,000 times it",
    ),
    "seconds": (
        TABLE.replace("_us", "_s").replace("48211.5", "0.0482115").replace("9000.25", "9.00025e-3"),
        "latency_us is 1,000,000 times it",
    ),
}


@pytest.mark.parametrize("habit", UNUSUAL)
def test_tables_as_people_write_them_are_read_and_what_was_assumed_is_said(tmp_path, habit):
    text, words = UNUSUAL[habit]
    campaign = campaign_of(tmp_path, text)
    assert of_reading(campaign, "error") == []
    assert any(words in str(problem) for problem in of_reading(campaign))
    steps = campaign.steps
    assert steps["latency_us"].tolist() == pytest.approx([48211.5, 9000.25])
    assert steps["sum_decode_kv_tokens"].tolist() == [0, 8192]
    assert steps["model"].tolist() == ["llama-3.1-8b"] * 2
    assert "latency_ms" not in steps
    lines = text.splitlines()
    assert steps["line"].tolist() == [
        number for number, line in enumerate(lines, start=1) if "llama" in line
    ]


AMBIGUOUS = {
    "thousands or decimals": (
        SEMICOLONS.replace("48211.5", "48,211").replace("9000.25", "9,000"),
        ":2: latency_us = 48,211: may be 48.211 or 48211. Write every number with a decimal point",
    ),
    "both decimal marks": (
        SEMICOLONS.replace("48211.5", "48211,5"),
        ":2: latency_us = 48211,5: has a decimal comma, and other numbers a decimal point",
    ),
    "decimal commas between commas": (
        "\n".join([HEADER, *(row.replace(".", ",").replace("3.1", "3") for row in ROWS * 99)]),
        ":2: has 9 fields, the header 7 (also line",
    ),
    "two units": (
        TABLE.replace("latency_us", "latency_ms,latency_s")
        .replace(".5", ".5,1")
        .replace(".25", ".5,1"),
        "latency_us: the required column is missing",
    ),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_what_may_be_mistaken_is_one_error_with_the_fix(tmp_path, case):
    text, words = AMBIGUOUS[case]
    errors = of_reading(campaign_of(tmp_path, text), "error")
    assert [words in str(error) for error in errors] == [True]


def test_both_units_in_microseconds_take_the_declared_one(tmp_path):
    text = TABLE.replace("latency_us", "latency_us,latency_ms").replace("5\n", "5,3\n")
    assert campaign_of(tmp_path, text).steps["latency_us"].tolist() == [48211.5, 9000.25]


def test_an_error_in_another_unit_names_the_column_of_the_file(tmp_path):
    text = TABLE.replace("_us", "_ms").replace("9000.25", "soon")
    (error,) = of_reading(campaign_of(tmp_path, text), "error")
    assert (error.column, error.value, error.lines) == ("latency_ms", "soon", (3,))


@pytest.mark.parametrize(("end", "pack"), [(".gz", gzip.compress), (".zst", zstd)])
def test_a_campaign_may_hold_packed_tables(tmp_path, end, pack):
    campaign = campaign_of(tmp_path, pack(TABLE.encode()), f"steps.csv{end}")
    assert campaign.steps["latency_us"].tolist() == [48211.5, 9000.25]
    plain = campaign_of(tmp_path, TABLE)
    assert [str(p.message) for p in campaign.problems] == [str(p.message) for p in plain.problems]


def test_a_table_of_utf_16_is_read(tmp_path):
    assert len(campaign_of(tmp_path, TABLE.encode("utf-16")).steps) == 2


def test_a_comment_within_a_quoted_cell_is_none(file):
    (block,) = CsvRows(file('a,b\n"x\n# y",2\n')).blocks()
    assert [column.to_pylist() for column in block.columns] == [["x\n# y"], ["2"]]
    assert block.lines.tolist() == [2]


def parquet(path, **columns):
    frame = pd.read_csv(path.with_name("base.csv"))
    pa.parquet.write_table(
        pa.table({**{n: list(frame[n]) for n in frame}, **columns}), path.with_name("t.parquet")
    )
    return path.with_name("t.parquet").read_bytes()


CELLS = {
    "a list": ([[1], [2]], "must be a whole number of 0 or more"),
    "true": ([True, True], "must be a whole number of 0 or more"),
    "a time": (list(pd.to_datetime(["2024-01-01"] * 2)), "must be a whole number of 0 or more"),
    "null": ([None, 1], "is empty"),
}


@pytest.mark.parametrize("case", CELLS)
def test_cells_of_parquet_that_are_no_numbers_are_named(tmp_path, file, case):
    cells, words = CELLS[case]
    content = parquet(file(TABLE, "base.csv"), tp=cells)
    campaign = campaign_of(tmp_path, content, "steps.parquet")
    (error,) = (p for p in campaign.problems if p.severity == "error")
    assert (error.column, words in error.message) == ("tp", True)


def test_control_characters_in_labels_are_named_as_escapes(tmp_path, file):
    content = parquet(file(TABLE, "base.csv"), model=["llama\0", "x\x1b[31m"])
    campaign = campaign_of(tmp_path, content, "steps.parquet")
    (error,) = (p for p in campaign.problems if p.severity == "error")
    assert (error.lines, error.message) == ((2, 3), "holds control characters, which are no text")


def test_a_table_whose_columns_have_no_names_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text('""\n1\n')
    with pytest.raises(UnreadableError, match=r"t\.csv:1: names no column"):
        CsvRows(tmp_path / "t.csv")


def test_a_parquet_index_is_a_column_as_any_other(tmp_path):
    pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="model")).to_parquet(
        tmp_path / "t.parquet"
    )
    assert sorted(read_parquet_frame(tmp_path / "t.parquet")) == ["a", "model"]


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([b"ab", b"ab"]),
        pa.array([b"ab", b"ab"], pa.binary(2)),
        pa.array([b"ab", b"ab"]).dictionary_encode(),
    ],
)
def test_bytes_in_parquet_are_text_or_named(tmp_path, cells):
    path = tmp_path / "t.parquet"
    pa.parquet.write_table(pa.table({"model": cells}), path)
    assert read_parquet_frame(path)["model"].tolist() == ["ab", "ab"]
    pa.parquet.write_table(pa.table({"model": pa.array([b"\xff"])}), path)
    assert "the column 'model' holds bytes that are no text" in refusal(read_parquet_frame, path)


def test_half_precision_in_parquet_is_read_as_double(tmp_path):
    path = tmp_path / "t.parquet"
    pa.parquet.write_table(pa.table({"n": pa.array(np.array([0.5, 2], np.float16))}), path)
    frame = read_parquet_frame(path)
    assert (frame["n"].dtype, frame["n"].tolist()) == (np.float64, [0.5, 2.0])


def test_text_in_parquet_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "t.parquet"
    surrogate = pa.py_buffer(b"ab\xed\xa0\x80")
    _, offsets, _ = pa.array(["abcde"]).buffers()
    cells = pa.StringArray.from_buffers(1, offsets, surrogate)
    pa.parquet.write_table(pa.table({"model": cells}), path)
    assert "the column 'model' holds bytes that are no text" in refusal(read_parquet_frame, path)


def test_names_of_parquet_columns_that_are_no_text_are_named(tmp_path, file):
    content = parquet(file(TABLE, "base.csv"))
    path = tmp_path / "t.parquet"
    path.write_bytes(content.replace(b"latency_us", b"latency\xff_s"))
    assert "not a Parquet file: " in refusal(read_parquet_frame, path)
