"""Lengths of single requests in Forward Pass Metrics: the requests of a step, and lists that are refused."""

import json

import pytest

from calibrate.campaign.campaign import load_campaign
from calibrate.importers import read_source, write_campaign
from calibrate.records.errors import ImportFormatError
from sim.steps.batch import Batch

MIXED = {
    "num_prefill_requests": 2,
    "sum_prefill_tokens": 600,
    "sum_prefill_kv_tokens": 9000,
    "num_decode_requests": 3,
    "sum_decode_kv_tokens": 5200,
    "extend_lengths": [100, 1, 1, 1, 500],
    "past_kv_lengths": [9000, 5000, 100, 100, 0],
}
DECODE = {
    "num_prefill_requests": 0,
    "sum_prefill_tokens": 0,
    "sum_prefill_kv_tokens": 0,
    "num_decode_requests": 2,
    "sum_decode_kv_tokens": 302,
    "extend_lengths": [1, 1],
    "past_kv_lengths": [200, 100],
}
PLAIN = {name: value for name, value in DECODE.items() if not name.endswith("lengths")}


def log(tmp_path, *batches, flat=False):
    path = tmp_path / "log.jsonl"
    common = {"version": 1, "worker_id": "w", "wall_time": 0.01}
    nested = [{**common, **(b if flat else {"scheduled_requests": b})} for b in batches]
    path.write_text("".join(json.dumps(record) + "\n" for record in nested))
    return path


def imported(path):
    said = {"model": "llama-3.1-8b", "tp": 1}
    return read_source("forward-pass-metrics", str(path), "H100", said)


@pytest.mark.parametrize("flat", [False, True])
def test_a_request_of_one_token_beside_decodes_is_a_decode(tmp_path, flat):
    tables = imported(log(tmp_path, MIXED, DECODE, flat=flat)).tables
    requests = tables["requests"]
    assert requests[requests["step_id"] == "s0"].drop(columns="step_id").to_numpy().tolist() == [
        ["prefill", 9000, 100, 1],
        ["decode", 5000, 1, 1],
        ["decode", 100, 1, 2],
        ["prefill", 0, 500, 1],
    ]
    assert tables["steps"]["step_id"].tolist() == ["s0", "s1"]


def test_a_step_is_read_back_as_its_requests(tmp_path):
    write_campaign(imported(log(tmp_path, MIXED, PLAIN)), tmp_path / "H100/log")
    campaign = load_campaign(tmp_path / "H100/log", "H100")
    assert not [problem for problem in campaign.problems if problem.severity == "error"]
    batch = Batch.from_requests(prefill=[(9000, 100), (0, 500)], decode=[(5000,), (100, 2)])
    assert campaign.table.moments[:, 0] == pytest.approx(batch.moments)


def test_a_step_without_lists_keeps_its_sums(tmp_path):
    tables = imported(log(tmp_path, DECODE, PLAIN)).tables
    assert tables["steps"]["step_id"].tolist() == ["s0", ""]
    assert set(tables["requests"]["step_id"]) == {"s0"}
    assert "requests" not in imported(log(tmp_path, PLAIN)).tables


@pytest.mark.parametrize(
    "changed",
    [
        {"extend_lengths": [1]},
        {"extend_lengths": [], "past_kv_lengths": []},
        {"num_decode_requests": 3},
        {"past_kv_lengths": [200, 900]},
        {"extend_lengths": [1, 7]},
        {"num_prefill_requests": 1, "sum_prefill_tokens": 1, "num_decode_requests": 1},
    ],
)
def test_lists_that_do_not_go_with_the_sums_are_counted_and_left_out(tmp_path, changed):
    found = imported(log(tmp_path, MIXED, {**DECODE, **changed}))
    assert found.left_out == ("1 steps' lists of lengths that do not go with their sums",)
    assert found.tables["steps"]["step_id"].tolist() == ["s0", ""]
    assert set(found.tables["requests"]["step_id"]) == {"s0"}


def test_lengths_that_are_no_numbers_are_refused(tmp_path):
    path = log(tmp_path, MIXED, {**DECODE, "past_kv_lengths": ["many", 1]})
    with pytest.raises(ImportFormatError, match="past_kv_lengths"):
        imported(path)
