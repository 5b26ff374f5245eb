"""Traces of a real server as BLIS keeps them: their requests become load points."""

import numpy as np
import pandas as pd
import pytest
import yaml

from calibrate.importers import read_source
from calibrate.records.errors import ImportFormatError

HEADER = {
    "trace_version": 2,
    "time_unit": "microseconds",
    "mode": "real",
    "warm_up_requests": 1,
    "server": {"type": "vllm", "model": "llama-3.1-8b", "tensor_parallel": 2, "max_num_seqs": 64},
    "network": {"measured_rtt_ms": 0.4},
}
START_US = 1_764_000_000_000_000


def requests(stages=(1.0, 2.0), n=20):
    """One slow request, and then stages of ``n`` at these rates: 40 ms to the first token, 10 ms a token after it."""
    rows = [(0.0, 4.0)]
    begin = 10.0
    for rate in stages:
        rows += [(begin + i / rate, 0.04) for i in range(n)]
        begin = rows[-1][0] + 10.0
    sent = np.array([START_US + int(at * 1e6) for at, _ in rows])
    first = sent + [int(ttft * 1e6) for _, ttft in rows]
    return pd.DataFrame(
        {
            "request_id": range(len(rows)),
            "prefix_group": "",
            "prefix_length": 0,
            "streaming": "true",
            "input_tokens": 500,
            "output_tokens": 21,
            "image_tokens": 0,
            "server_input_tokens": 512,
            "arrival_time_us": sent - START_US,
            "send_time_us": sent,
            "first_chunk_time_us": first,
            "last_chunk_time_us": first + 200_000,
            "num_chunks": 20,
            "status": "ok",
            "error_message": "",
        }
    )


def imported(folder, table, header=HEADER, said=None):
    (folder / "run.yaml").write_text(yaml.safe_dump(header))
    table.to_csv(folder / "run.csv", index=False)
    return read_source("blis-trace", str(folder), "H100", said)


def test_each_stage_becomes_a_load_point_without_the_warm_up(tmp_path):
    rows = imported(tmp_path, requests()).tables["serving"]
    assert list(rows["stage"]) == ["0", "1"]
    assert list(rows["load"]) == ["constant", "constant"]
    assert list(rows["request_rate"]) == [1.0, 2.0]
    assert list(rows["num_requests"]) == [20, 20]
    assert rows["ttft_ms_mean"].tolist() == pytest.approx([40.0, 40.0])
    assert rows["itl_ms_mean"].tolist() == pytest.approx([10.0, 10.0])
    assert rows["e2e_ms_mean"].tolist() == pytest.approx([240.0, 240.0])
    assert set(rows["input_tokens_mean"]) == {512.0}
    assert set(rows["model"]) == {"llama-3.1-8b"}
    assert set(rows["tp"]) == {2}
    assert set(rows["max_num_seqs"]) == {64}


def test_what_a_model_is_called_may_stand_in_its_requests(tmp_path):
    header = {**HEADER, "server": {"type": "vllm"}}
    table = requests().assign(model="meta-llama/Llama-3.1-8B-Instruct")
    rows = imported(tmp_path, table, header, {"tp": 1}).tables["serving"]
    assert set(rows["model"]) == {"llama-3.1-8b"}
    assert set(rows["tp"]) == {1}


def test_failed_requests_are_counted_and_others_left_out_in_words(tmp_path):
    table = requests(stages=(1.0,))
    table.loc[3, ["status", "last_chunk_time_us"]] = ["timeout", 0]
    table.loc[4, "streaming"] = "false"
    table.loc[5, "image_tokens"] = 100
    found = imported(tmp_path, table)
    (row,) = found.tables["serving"].to_dict("records")
    assert (row["num_requests"], row["failed_requests"]) == (18, 1)
    assert row["ttft_ms_mean"] == pytest.approx(40.0)
    words = " ".join(found.left_out)
    assert "1 of 20 requests were not streamed" in words
    assert "1 of 20 requests hold images" in words


def test_shared_beginnings_are_warned_of_where_no_log_says_what_the_cache_held(tmp_path):
    table = requests(stages=(1.0,)).assign(prefix_length=256)
    (warning,) = imported(tmp_path, table).warnings
    assert "prompts share beginnings" in warning
    (tmp_path / "vllm.log").write_text("INFO Prefix cache hit rate: GPU: 50.0%, CPU: 0.0%\n")
    found = imported(tmp_path, table)
    assert not found.warnings
    assert set(found.tables["serving"]["cached_input_tokens_mean"]) == {256.0}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("mode", "generated", "a trace that was generated holds no measurement"),
        ("trace_version", 3, "trace_version must be 2, got '3'"),
        ("time_unit", "ms", "time_unit must be microseconds"),
        ("warm_up_requests", -1, "warm_up_requests must be 0 or more"),
        ("warm_up_requests", 10**6, "no request in it succeeded"),
        ("server", {"tensor_parallel": "two"}, "tensor_parallel must be a number"),
    ],
)
def test_a_wrong_header_is_told_in_words(tmp_path, name, value, words):
    with pytest.raises(ImportFormatError, match=words):
        imported(tmp_path, requests(), {**HEADER, name: value})


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("send_time_us", "soon", r"run\.csv:2: send_time_us = soon: must be a whole number"),
        ("output_tokens", None, "output_tokens"),
        ("model", ["a", "b"], "went to several models"),
    ],
)
def test_wrong_requests_are_told_in_words(tmp_path, column, value, words):
    table = requests().astype({"send_time_us": object})
    if value is None:
        table = table.drop(columns=column)
    elif column == "model":
        table["model"] = [value[i % 2] for i in range(len(table))]
    else:
        table.loc[0, column] = value
    with pytest.raises(ImportFormatError, match=words):
        imported(tmp_path, table)


def test_the_table_alone_is_no_trace(tmp_path):
    requests().to_csv(tmp_path / "run.csv", index=False)
    with pytest.raises(ImportFormatError, match=r"no \.yaml in it has a \.csv"):
        read_source("blis-trace", str(tmp_path), "H100")
    with pytest.raises(ImportFormatError, match="give the header of the trace"):
        read_source("blis-trace", str(tmp_path / "run.csv"), "H100")
