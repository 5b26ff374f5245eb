"""Files of recorded requests: both formats, and what is refused."""

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


def test_bytes_are_refused_in_words(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_bytes(b"arrival_s,prompt_tokens,output_tokens\n\xff\xfe\n")
    with pytest.raises(CalibrateError, match=r"trace\.csv:2: is not UTF-8 text"):
        read_workload(path)
