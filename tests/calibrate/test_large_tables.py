"""What bounded time and memory rest on: parts of files, hashes, draws and totals give what the whole would."""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.large_steps import large_steps
from calibrate.campaign.campaign import Campaign, load_campaign
from calibrate.campaign.rows import labels_of, may_repeat
from calibrate.fitting.draw import draw_rows
from calibrate.fitting.objective import build_dataset
from calibrate.records.reading import content
from calibrate.records.reading.csv_rows import CsvRows
from calibrate.records.schema import Column
from calibrate.records.tables import read_table
from sim.errors import WorkloadError
from sim.serving.lengths import Fixed
from sim.serving.result import StepTotals
from sim.serving.workload import Constant, Workload

HEADER = "model,tp,num_decode_requests,sum_decode_kv_tokens,latency_us\n"
ROW = "llama-3.1-8b,1,1,{},9000.25\n"


@pytest.fixture
def campaign(tmp_path):
    """Loads a steps.csv of a text."""

    def load(text):
        folder = tmp_path / "H100" / "c"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "steps.csv").write_text(text)
        return load_campaign(folder, "H100")

    return load


@pytest.fixture(scope="module")
def drawn_from():
    """Twenty thousand steps, forty of which alone are of TP 2."""
    steps = large_steps(20_000)
    steps["tp"] = np.where(np.arange(len(steps)) % 500 == 0, 2, 4)
    steps["model"] = "llama-3.1-8b"
    return build_dataset([Campaign.from_frame(steps, "H100", kind="synthetic")])


@pytest.mark.parametrize(
    "odd",
    ["# a comment\n", "\n", '"llama-3.1-8b",1,1,"20",9000.25\n', "llama-3.1-8b,1\n"],
    ids=["comment", "blank", "quoted", "cut off"],
)
def test_lines_are_counted_right_across_the_parts_of_a_file(campaign, monkeypatch, odd):
    monkeypatch.setattr(content, "_PART_CHARACTERS", 64)
    text = HEADER + "".join(ROW.format(n) for n in range(10, 20)) + odd + ROW.format(30)
    found = campaign(text + ROW.format("many")).problems
    (bad,) = [problem for problem in found if problem.column == "sum_decode_kv_tokens"]
    assert (bad.lines, bad.value) == ((14,), "many")


def test_a_bad_cell_in_every_part_is_one_problem_with_all_lines(campaign, monkeypatch):
    monkeypatch.setattr(content, "_PART_CHARACTERS", 64)
    text = HEADER + "".join(ROW.format("x" if n % 5 == 0 else n) for n in range(1, 16))
    bad = [p for p in campaign(text).problems if p.column == "sum_decode_kv_tokens"]
    assert [problem.lines for problem in bad] == [(6, 11, 16)]


def test_a_quote_within_a_cell_is_left_to_the_careful_reader(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text('a,b\n"x""y",1\n"p\nq",2\nr,3\n')
    (block,) = CsvRows(file).blocks()
    assert [column.to_pylist() for column in block.columns] == [
        ['x"y', "p\nq", "r"],
        ["1", "2", "3"],
    ]
    assert block.lines.tolist() == [2, 3, 5]


def test_equal_rows_share_a_hash_whatever_the_sign_of_zero_and_the_kind_of_nan():
    payload = np.array([0x7FF8000000000001], dtype=np.uint64).view(np.float64)[0]
    rows = pd.DataFrame({"a": [0.0, -0.0, 1.0, np.nan, payload], "b": ["x", "x", "x", "y", "y"]})
    assert may_repeat([rows["a"], rows["b"]]).tolist() == [True, True, False, True, True]


def test_labels_come_in_order_of_appearance():
    code, labels = labels_of(pd.Series(["b", "a", "b", "b"]), pd.Series(["", "", "fp8", ""]))
    assert (code.tolist(), labels) == ([0, 1, 2, 0], [("b", ""), ("a", ""), ("b", "fp8")])


def test_a_draw_keeps_a_small_slice_whole_and_says_what_it_did(drawn_from):
    drawn, notes = draw_rows(drawn_from, seed=0, most=2000)
    small = (drawn_from.frame["tp"] == 2).sum()
    assert len(drawn) == 2000
    assert (drawn.frame["tp"] == 2).sum() == small == 40
    assert "2,000 of 20,000 rows" in notes[0]


def test_a_draw_is_the_same_for_a_seed_and_leaves_a_small_campaign_alone(drawn_from):
    first, again = (draw_rows(drawn_from, seed=3, most=500)[0] for _ in range(2))
    assert first.frame["line"].tolist() == again.frame["line"].tolist()
    assert draw_rows(drawn_from, seed=3) == (drawn_from, [])


def test_a_draw_stands_for_all_rows(drawn_from):
    drawn, _ = draw_rows(drawn_from, seed=1, most=5000)
    shares = [data.frame["phase"].value_counts(normalize=True) for data in (drawn_from, drawn)]
    assert shares[1].to_dict() == pytest.approx(shares[0].to_dict(), abs=0.02)


def test_totals_of_parts_add_up_to_those_of_all_steps():
    duration, reason, blocks = (
        np.array([1.0, 2, 3, 4]),
        np.array([0, 2, 2, 1]),
        np.array([5, 9, 7, 8]),
    )
    parts = [StepTotals.of(duration[p], reason[p], blocks[p]) for p in (slice(1), slice(1, 4))]
    whole, added = StepTotals.of(duration, reason, blocks), parts[0] + parts[1]
    assert added.waited_us.tolist() == whole.waited_us.tolist() == [1.0, 4.0, 5.0, 0.0]
    assert (added.count, added.busy_us, added.peak_blocks) == (4, 10.0, 9)


@pytest.mark.parametrize("name", ["num_requests", "num_shared", "distinct_prompts"])
def test_an_absurd_number_is_refused_before_memory_is_taken(name):
    workload = Workload(10, Constant(1.0), Fixed(8), Fixed(8))
    with pytest.raises(
        WorkloadError, match=rf"{name} = 1,000,000,000,000 is more than 100,000,000"
    ):
        dataclasses.replace(workload, **{name: 10**12}).draw(0)


@pytest.mark.slow
def test_twenty_thousand_unknown_models_are_one_list(campaign):
    rows = (f"model-{n},1,1,20,9000.25\n" for n in range(20_000))
    found = [p for p in campaign(HEADER + "".join(rows)).problems if p.column == "model"]
    assert len(found) == 21
    assert sum(len(problem.lines) for problem in found) == 20_000


def test_texts_that_arrow_keeps_in_parts_are_read(tmp_path):
    words = [f"model-{number % 3} " for number in range(70_000)]
    part = pa.array(words[:35_000], pa.string())
    chunked = pa.chunked_array([part, pa.array(words[35_000:], pa.string())])
    pq.write_table(pa.table({"model": chunked}), tmp_path / "steps.parquet", row_group_size=9_000)
    column = Column("model", "text", required=True)
    frame = read_table(tmp_path / "steps.parquet", [column]).frame
    assert frame["model"].value_counts().to_dict() == {
        "model-0": 23_334,
        "model-1": 23_333,
        "model-2": 23_333,
    }
