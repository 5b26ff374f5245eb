"""Files of recorded requests: both formats, and what is refused."""

import gzip

import numpy as np
import pytest

from calibrate.campaign.workload_files import read_workload
from calibrate.records.errors import CalibrateError
from tests.conftest import DATA

FILES = DATA / "workloads"


def test_our_own_columns_are_seconds_and_tokens():
    requests = read_workload(FILES / "own.csv")
    assert requests.arrival_us.tolist() == [0, 500_000, 2_250_000]
    assert requests.prompt_tokens.tolist() == [100, 200, 300]
    assert requests.output_tokens.tolist() == [10, 20, 30]


def test_azure_traces_of_2023_start_at_their_first_request():
    requests = read_workload(str(FILES / "azure_2023.csv"))
    assert requests.arrival_us == pytest.approx([0, 314_579, 4_319_410], abs=1e-3), (
        "seven digits of a second"
    )
    assert requests.prompt_tokens.tolist() == [374, 396, 879]
    assert requests.output_tokens.tolist() == [44, 109, 55]


def test_azure_traces_of_2024_have_time_zones_and_are_put_in_order():
    requests = read_workload(FILES / "azure_2024.csv")
    assert requests.arrival_us == pytest.approx([0, 1_007_405, 1_990_070], abs=1e-3)
    assert requests.prompt_tokens.tolist() == [2162, 76, 2399]
    assert requests.output_tokens.tolist() == [5, 15, 6]


def test_a_long_trace_is_read_as_it_was_written(tmp_path):
    rng = np.random.default_rng(0)
    ticks = np.sort(rng.integers(0, 36_000_000_000, 20_000))  # of 100 ns, within an hour
    ticks -= ticks[0]
    stamps = np.datetime64("2023-11-16T18:00:00", "ns") + (ticks * 100).astype("timedelta64[ns]")
    tokens = rng.integers(1, 8000, (20_000, 2))
    rows = [
        f"{str(at)[:-2].replace('T', ' ')},{a},{b}"
        for at, (a, b) in zip(stamps, tokens, strict=True)
    ]
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    requests = read_workload(path)
    assert np.abs(requests.arrival_us - ticks / 10.0).max() < 1e-3
    assert (requests.prompt_tokens == tokens[:, 0]).all()
    assert (requests.output_tokens == tokens[:, 1]).all()


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("missing", "missing.csv: cannot be read: No such file"),
        (
            "other",
            "other.csv:1: a workload has the columns arrival_s, prompt_tokens, output_tokens, or ",
        ),
        ("no_column", "no_column.csv:1: GeneratedTokens: the required column is missing"),
        (
            "no_time",
            "no_time.csv:3: TIMESTAMP = yesterday: is no time. Give it as 2023-11-16 18:15:46.6805900",
        ),
        (
            "no_tokens",
            "no_tokens.csv:3: GeneratedTokens = 0: must be 1 token or more. Leave the request out",
        ),
        ("half_a_token", "half_a_token.csv:3: prompt_tokens = 2.5: must be a whole number"),
        (
            "before_the_start",
            "before_the_start.csv:3: arrival_s = -1: must be a number of 0 or more",
        ),
        ("cut_off", "cut_off.csv:3: has 2 fields, the header 3"),
        ("empty_cell", "empty_cell.csv:3: output_tokens = (empty): is empty. Fill it in"),
        ("no_rows", "no_rows.csv: has no complete row below its header"),
    ],
)
def test_a_bad_file_is_refused_in_words(file, words):
    with pytest.raises(CalibrateError) as error:
        read_workload(FILES / f"{file}.csv")
    assert words in str(error.value)


def test_a_number_is_no_time_of_the_year_0(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00,9,5\n-0,76,15\n")
    with pytest.raises(
        CalibrateError, match=r"trace.csv:3: TIMESTAMP = -0: is (out of range|no time)"
    ):
        read_workload(path)


def test_bytes_are_refused_in_words(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_bytes(b"arrival_s,prompt_tokens,output_tokens\n\xff\xfe\n")
    with pytest.raises(CalibrateError, match=r"trace\.csv:2: is not UTF-8 text"):
        read_workload(path)


def written(tmp_path, text, name="trace.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def refusal(path):
    with pytest.raises(CalibrateError) as error:
        read_workload(path)
    return str(error.value)


VIDUR = "arrived_at,num_prefill_tokens,num_decode_tokens\n2.5,400,50\n6.0,600,120\n"
BURSTGPT = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,230,1317,API log\n"
)
MOONCAKE = (
    '{"timestamp": 27000, "input_length": 1300, "output_length": 20, "hash_ids": [0, 1, 2]}\n'
    '{"timestamp": 27000, "input_length": 1600, "output_length": 10, "hash_ids": [0, 3, 4, 5]}\n'
    "\n"
    '{"timestamp": 28500, "input_length": 1300, "output_length": 30, "hash_ids": [0, 1, 2]}\n'
    '{"timestamp": 29000, "input_length": 600, "output_length": 40, "hash_ids": [7, 1]}\n'
)


@pytest.mark.parametrize(
    ("text", "arrivals_s", "prompts", "outputs"),
    [
        (VIDUR, [0, 3.5], [400, 600], [50, 120]),
        (BURSTGPT, [0, 40], [472, 1087], [18, 230]),
        (MOONCAKE, [0, 0, 1.5, 2.0], [1300, 1600, 1300, 600], [20, 10, 30, 40]),
    ],
    ids=["vidur", "burstgpt", "mooncake"],
)
def test_published_traces_start_at_their_first_request(
    tmp_path, text, arrivals_s, prompts, outputs
):
    requests = read_workload(written(tmp_path, text))
    assert (requests.arrival_us / 1e6).tolist() == pytest.approx(arrivals_s)
    assert requests.prompt_tokens.tolist() == prompts
    assert requests.output_tokens.tolist() == outputs


def test_blocks_that_a_request_before_had_are_cached(tmp_path):
    requests = read_workload(written(tmp_path, MOONCAKE, "trace.jsonl"))
    assert requests.cached_tokens.tolist() == [0, 512, 1300, 0], (
        "leading blocks, to the prompt's end"
    )


def test_lines_out_of_order_share_by_arrival(tmp_path):
    first, second, *_ = MOONCAKE.splitlines()
    text = f"{second.replace('27000', '30000')}\n{first}\n"
    requests = read_workload(written(tmp_path, text, "trace.jsonl"))
    assert requests.prompt_tokens.tolist() == [1300, 1600]
    assert requests.cached_tokens.tolist() == [0, 512]


def test_a_trace_without_blocks_shares_nothing(tmp_path):
    text = '{"timestamp": 1, "input_length": 9, "output_length": 2}\n' * 2
    assert read_workload(written(tmp_path, text)).cached_tokens.tolist() == [0, 0]


def test_a_run_of_llmservingsim_can_be_replayed(tmp_path):
    lines = [
        f'{{"request_id": "bench-{i}", "input_toks": {100 + i}, "output_toks": 5, '
        f'"arrival_time": {1777142838.25 + i / 4}, "queued_ts": 9.5}}'
        for i in range(3)
    ]
    requests = read_workload(written(tmp_path, "\n".join(lines), "requests.jsonl"))
    assert requests.arrival_us == pytest.approx([0, 250_000, 500_000], abs=1.0)
    assert requests.prompt_tokens.tolist() == [100, 101, 102]


def test_a_compressed_trace_is_read_as_it_is_written(tmp_path):
    packed = tmp_path / "trace.jsonl.gz"
    packed.write_bytes(gzip.compress(MOONCAKE.encode()))
    plain = read_workload(written(tmp_path, MOONCAKE))
    assert read_workload(packed).prompt_tokens.tolist() == plain.prompt_tokens.tolist()


@pytest.mark.parametrize(
    ("text", "old", "new", "words"),
    [
        (BURSTGPT, ",230,", ",0,", ":3: Response tokens = 0: must be 1 token or more. Leave the"),
        (VIDUR, "600,120", "600.5,120", ":3: num_prefill_tokens = 600.5: must be a whole number"),
        (VIDUR, "arrived_at", "at", ":1: arrived_at: the required column is missing"),
        (MOONCAKE, "28500", "-1", ":4: timestamp = -1: must be a number of 0 or more"),
        (MOONCAKE, ': 40, "h', ': 0, "h', ":5: output_length = 0: must be 1 token or more"),
        (MOONCAKE, '"output_length": 30, ', "", ":4: output_length = (empty): is empty"),
        (MOONCAKE, "[0, 3, 4, 5]", "[0]", ":2: hash_ids has 1 entries, but input_length = 1600"),
        (MOONCAKE, "[0, 3, 4, 5]", "7", ":2: hash_ids has 7, but input_length = 1600 takes 4"),
        (MOONCAKE, "[7, 1]", "[7, [1]]", ":5: hash_ids must hold numbers or names"),
        (MOONCAKE, "[7, 1]}", "[7, 1", ":5: the last request is cut off"),
        (MOONCAKE, "timestamp", "time", ":1: timestamp = (empty): is empty (also lines 2, 4, 5)"),
        (MOONCAKE, "28500", "[28500]", ":4: timestamp = [28500]: must be a number of 0 or more"),
        (MOONCAKE, "28500", "true", ":4: timestamp = true: must be a number of 0 or more"),
        ('{"a": 1}\n', "", "", ":1: a workload of JSON lines has the fields timestamp, input_len"),
        ('{"a": 1}\n[1]\n', "", "", ":2: must hold named fields"),
    ],
)
def test_a_bad_row_of_a_published_trace_is_named_with_its_line(tmp_path, text, old, new, words):
    assert f"trace.csv{words}" in refusal(written(tmp_path, text.replace(old, new)))
