"""Logs of Forward Pass Metrics: the same steps from every form of file, and refusals in words."""

import gzip
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from calibrate.campaign.campaign import load_campaigns
from calibrate.importers import read_source, write_campaign
from calibrate.records.errors import ImportFormatError, UnreadableError
from calibrate.records.tables import compact
from tests.conftest import DATA, zstd

SAMPLE = DATA / "forward_pass_metrics.jsonl"
RECORDS = [json.loads(line) for line in SAMPLE.read_text().splitlines()]
SAID = {"model": "llama-3.1-8b", "tp": 2}


def flat(record):
    return {
        **{key: value for key, value in record.items() if not isinstance(value, dict)},
        **record["scheduled_requests"],
    }


def wrapped(record):
    source = {"namespace": "dynamo", "component": "backend", "producer_id": "7"}
    return {
        "schema": "dynamo.fpm.trace.v1",
        "source": source,
        "observed_at_unix_ms": 1,
        "fpm": record,
    }


def lines(records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def steps_of(path):
    return read_source("forward-pass-metrics", str(path), "H100", SAID).tables["steps"]


def test_of_several_ranks_the_slowest_makes_the_step_and_heartbeats_go():
    imported = read_source("forward-pass-metrics", str(SAMPLE), "H100", {**SAID, "dtype": "fp8"})
    steps = compact(imported.tables["steps"])
    assert steps["latency_us"].tolist() == [31_200, 9_800]
    assert steps["sum_prefill_tokens"].tolist() == [2048, 0]
    assert steps["num_decode_requests"].tolist() == [3, 16]
    assert steps["sum_decode_kv_tokens"].tolist() == [900, 8192]
    assert steps[["model", "tp", "dtype"]].drop_duplicates().to_numpy().tolist() == [
        ["llama-3.1-8b", 2, "fp8"]
    ]
    assert imported.left_out == (
        "1 idle heartbeats",
        "2 records of ranks that were faster than the slowest of their step",
    )


@pytest.mark.parametrize("nest", [dict, flat, wrapped], ids=["nested", "flat", "dynamo trace"])
@pytest.mark.parametrize("end", [".jsonl", ".jsonl.gz", ".parquet"])
def test_every_form_of_file_gives_the_same_steps(tmp_path, nest, end):
    records = [nest(record) for record in RECORDS]
    path = tmp_path / f"forward_pass_metrics{end}"
    if end == ".parquet":
        pa.parquet.write_table(pa.Table.from_pylist(records), path)
    elif end == ".jsonl":
        path.write_bytes(b"\n" + lines(records))
    else:  # a rotated log appends one gzip member after the other
        path.write_bytes(gzip.compress(lines(records[:2])) + gzip.compress(lines(records[2:])))
    pd.testing.assert_frame_equal(steps_of(path), steps_of(SAMPLE))


def test_a_log_in_a_campaign_is_read_as_it_was_imported(tmp_path):
    imported = read_source("forward-pass-metrics", str(SAMPLE), "H100", SAID)
    write_campaign(imported, tmp_path / "H100" / "log")
    (campaign,) = load_campaigns(tmp_path, "H100")
    assert [p for p in campaign.problems if p.severity == "error"] == []
    assert campaign.steps["latency_us"].tolist() == [31_200, 9_800]
    assert campaign.table.phases.tolist() == ["mixed", "decode"]


def test_a_long_log_becomes_parquet_and_takes_the_place_of_csv(tmp_path, monkeypatch):
    imported = read_source("forward-pass-metrics", str(SAMPLE), "H100", SAID)
    write_campaign(imported, tmp_path / "H100" / "log")
    monkeypatch.setattr("calibrate.importers._LARGEST_CSV", 1)
    paths = write_campaign(imported, tmp_path / "H100" / "log")
    assert sorted(path.name for path in paths) == ["campaign.toml", "steps.parquet"]
    assert sorted(path.name for path in (tmp_path / "H100/log").iterdir()) == [
        "campaign.toml",
        "steps.parquet",
    ]
    (campaign,) = load_campaigns(tmp_path, "H100")
    assert [p for p in campaign.problems if p.severity == "error"] == []
    assert campaign.steps["run_id"].tolist() == ["w-7"] * 2


def test_a_folder_of_logs_keeps_workers_apart_and_a_rotated_log_together(tmp_path):
    (tmp_path / "a.000000.jsonl").write_bytes(
        lines([{**r, "worker_id": f"w-{r['dp_rank']}"} for r in RECORDS])
    )
    (tmp_path / "a.000001.jsonl.gz").write_bytes(
        gzip.compress(lines([{**RECORDS[2], "worker_id": "w-0"}]))
    )
    (tmp_path / "b.jsonl").write_bytes(lines([{**RECORDS[2], "worker_id": ""}]))
    (tmp_path / "README").write_text("no log")
    assert steps_of(tmp_path)["run_id"].tolist() == ["w-0", "w-1", "w-0", "w-1", "w-0", "b"]


def test_ranks_meet_across_the_files_of_a_rotated_log(tmp_path):
    (tmp_path / "a.000000.jsonl").write_bytes(lines(RECORDS[:1]))
    (tmp_path / "a.000001.jsonl").write_bytes(lines(RECORDS[1:]))
    assert steps_of(tmp_path)["latency_us"].tolist() == [31_200, 9_800]


def test_without_counters_every_rank_is_a_step_of_its_own(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(
        lines([{k: v for k, v in record.items() if k != "counter_id"} for record in RECORDS])
    )
    assert len(steps_of(path)) == 4


def test_a_step_without_a_time_is_left_out_and_counted(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(lines([{**RECORDS[0], "wall_time": 0.0}, RECORDS[2]]))
    imported = read_source("forward-pass-metrics", str(path), "H100", SAID)
    assert imported.left_out == ("1 steps whose wall_time is 0",)
    assert len(imported.tables["steps"]) == 1


def without(field):
    return lines([{k: v for k, v in record.items() if k != field} for record in RECORDS])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"not json\n", "first line is not a record in JSON"),
        (b"[1, 2]\n", "must be a record with named fields"),
        (b'{"event": "request_end"}\n', "has no scheduled_requests"),
        (lines([*RECORDS, {**RECORDS[0], "wall_time": "soon"}]), "wall_time"),
        (
            lines([*RECORDS, {**RECORDS[0], "wall_time": -1.0}]),
            "record 6: wall_time must be a number of 0 or more",
        ),
        (
            lines([*RECORDS, {"version": 1}]),
            "record 6: wall_time must be a number of 0 or more, got None",
        ),
        (without("wall_time"), "the field wall_time is missing"),
        (
            lines([{**record, "version": 2} for record in RECORDS]),
            "version 2 of Forward Pass Metrics is not known",
        ),
        (lines(RECORDS[4:]), "no record of it is an engine step"),
        (lines(RECORDS) + b'{"wall_time": "soon"}\n{"a', "a record is not as the first one"),
        (b"\xff\xfe\x01\n", "first line is not a record in JSON"),
    ],
)
def test_a_bad_log_is_refused_in_words(tmp_path, content, message):
    path = tmp_path / "log.jsonl"
    path.write_bytes(content)
    with pytest.raises(ImportFormatError, match=message):
        steps_of(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.parquet", b"PAR1 no", "not a Parquet file"),
        ("log.jsonl.gz", gzip.compress(lines(RECORDS))[:-20], "cannot be read: Truncated"),
        ("log.jsonl.gz", b"no gzip", "first line is not a record in JSON"),
    ],
)
def test_a_damaged_file_is_refused_in_words(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImportFormatError, match=message):
        steps_of(tmp_path / name)


def test_a_version_that_is_no_number_is_refused(tmp_path):
    records = [{**one, "version": [None]} for one in RECORDS]
    pa.parquet.write_table(pa.Table.from_pylist(records), tmp_path / "log.parquet")
    with pytest.raises(ImportFormatError, match="version must hold numbers"):
        steps_of(tmp_path / "log.parquet")


def test_a_log_without_a_record_may_lack_the_time(tmp_path):
    records = [
        {name: value for name, value in one.items() if name != "wall_time"} for one in RECORDS
    ]
    pa.parquet.write_table(pa.Table.from_pylist(records).slice(0, 0), tmp_path / "log.parquet")
    with pytest.raises(ImportFormatError, match="no record of it is an engine step"):
        steps_of(tmp_path / "log.parquet")


def test_a_last_record_that_was_cut_off_is_left_out_and_said(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(lines(RECORDS) + b'{"version":1,"wall_ti')
    imported = read_source("forward-pass-metrics", str(path), "H100", SAID)
    path.write_bytes(lines(RECORDS))
    whole = read_source("forward-pass-metrics", str(path), "H100", SAID)
    pd.testing.assert_frame_equal(imported.tables["steps"], whole.tables["steps"])
    assert imported.left_out == (f"{path}: the last record is cut off: left out", *whole.left_out)


def test_a_list_of_records_and_other_encodings_are_read_as_lines_are(tmp_path):
    path = tmp_path / "log.json"
    path.write_bytes(lines(RECORDS))
    expected = steps_of(path)
    for content in (
        json.dumps(RECORDS, indent=1).encode(),
        lines(RECORDS).decode().encode("utf-8-sig"),
        lines(RECORDS).decode().encode("utf-16"),
        gzip.compress(lines(RECORDS)),
        zstd(lines(RECORDS)),
    ):
        path.write_bytes(content)
        pd.testing.assert_frame_equal(steps_of(path), expected)


@pytest.mark.parametrize("field", ["wall_time", "dp_rank"])
def test_a_column_of_words_is_refused_by_name(tmp_path, field):
    path = tmp_path / "log.parquet"
    pa.parquet.write_table(
        pa.Table.from_pylist([{**flat(record), field: "soon"} for record in RECORDS]), path
    )
    with pytest.raises(ImportFormatError, match=f"{field} must hold numbers"):
        steps_of(path)


def test_a_folder_without_a_log_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(ImportFormatError, match="no log in it"):
        steps_of(tmp_path)
    with pytest.raises(ImportFormatError, match="cannot be read"):
        steps_of(tmp_path / "none.jsonl")


def test_model_and_degree_must_be_said_once(tmp_path):
    with pytest.raises(ImportFormatError, match="give --model and --tp"):
        read_source("forward-pass-metrics", str(SAMPLE), "H100")
    path = tmp_path / "perf_model.csv"
    path.write_text(
        "model,hardware,prompt_size,batch_size,token_size,prompt_time,token_time,e2e_time,tensor_parallel\n"
        "llama2-70b,h100-80gb,512,2,128,80.0,37.0,4816,4\n"
    )
    with pytest.raises(ImportFormatError, match="leave --model out"):
        read_source("splitwise", str(path), "H100", {"model": "llama-3.1-8b"})


def test_a_field_in_two_places_is_refused(tmp_path):
    records = [{**record, "sum_decode_kv_tokens": 1} for record in RECORDS]
    table = pa.Table.from_pylist(records)
    nested = table.rename_columns(
        [
            "scheduled_requests.sum_decode_kv_tokens" if n == "sum_decode_kv_tokens" else n
            for n in table.column_names
        ]
    )
    path = tmp_path / "log.parquet"
    pa.parquet.write_table(nested, path)
    with pytest.raises(ImportFormatError, match="sum_decode_kv_tokens stands in two places"):
        steps_of(path)


@pytest.mark.parametrize("other", [b"null", b"3", b'"text"', b"[1]"])
def test_a_line_that_is_no_record_is_named_wherever_a_block_begins(tmp_path, other):
    """The parser reads 8 MiB at once, and would end the process at such a block that begins with null."""
    record = json.dumps(RECORDS[0]).encode() + b"\n"
    records = record * ((1 << 23) // len(record))
    content = records + b" " * ((1 << 23) - len(records) - 1) + b"\n" + other + b"\n" + record
    path = tmp_path / "log.jsonl"
    path.write_bytes(content)
    line = records.count(b"\n") + 2
    with pytest.raises(UnreadableError, match=rf"log\.jsonl:{line}: a record is not as the first"):
        steps_of(path)
