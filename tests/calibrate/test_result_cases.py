"""Results of real clients, cut down: what each must become, or be refused with."""

import shutil

import pytest

from calibrate.campaign.campaign import load_campaign
from calibrate.importers import read_source, write_campaign
from calibrate.records.errors import ImportFormatError
from tests.conftest import ROOT

CASES = ROOT.parent / "shared/cases"
pytestmark = pytest.mark.skipif(
    not CASES.exists(), reason="the results of real clients are not beside this checkout"
)

STRIPPED = {"model": "llama-3-8b", "input_tokens_mean": 500, "output_tokens_mean": 150}
BECOMES = {
    "vllm-bench give-vllm022-result.json": (
        {},
        [
            {
                "tp": 1,
                "dtype": "bf16",
                "max_num_batched_tokens": 4096,
                "max_num_seqs": 32,
                "kv_cache_tokens": 420_016,
                "block_size": None,
            }
        ],
    ),
    "vllm-bench give-vllm-hfcache-model.json": ({"tp": 1}, [{"model": "llama-3.1-8b"}]),
    "vllm-bench give-vllm-stripped.json": (
        {"tp": 1, **STRIPPED},
        [{"request_rate": 1, "num_requests": 100, "requests_per_s": None}],
    ),
    "vllm-bench give-vllm-sweep-summary.json": (
        {"tp": 1},
        [{"concurrency": 4, "max_num_seqs": 8}] * 2,
    ),
    "vllm-bench give-vllm-burstiness.json": (
        {"tp": 1},
        [{"load": "gamma", "request_rate": 3, "arrival_cv": 0.1}],
    ),
    "vllm-bench give-mixed-tp": ({"tp": 8}, [{"run_id": "run_TP8_DP1_CTX1000", "tp": 8}]),
    "vllm-bench give-vllm-drain-no-e2el.json": ({"tp": 4}, [{"requests_per_s": 512 / 88}]),
    "vllm-bench give-vllm-negative-tpot.jsonl": (
        {"tp": 1},
        [{"concurrency": at} for at in (8, 16, 24)],
    ),
    "sglang-bench give-sglang-old.jsonl": (
        {"model": "llama-3.3-70b", "tp": 8},
        [
            {"load": "poisson", "request_rate": 1, "requests_per_s": 200 / 215, "ttft_ms_p50": 180},
            {"load": "poisson", "request_rate": 2, "requests_per_s": 400 / 235, "ttft_ms_p50": 200},
        ],
    ),
    "sglang-bench give-sglang-random-ratio.jsonl": (
        {},
        [{"input_tokens_std": 1000 / 12**0.5, "output_tokens_std": 120 / 12**0.5}],
    ),
    "sglang-bench give-sglang-output-stuck.jsonl": ({}, [{"output_tokens_mean": 512}]),
    "aiperf give-aiperf-no-isl": (
        {"tp": 1, "input_tokens_mean": 180},
        [{"input_tokens_mean": 180, "output_tokens_mean": 200, "concurrency": 56}],
    ),
    "guidellm give-guidellm-named": ({"tp": 1}, [{"model": "qwen3-8b", "concurrency": 1}]),
    "guidellm give-guidellm-window.json": ({"tp": 1}, [{"output_tokens_per_s": 33.33}]),
    "inference-perf give-inference-perf": (
        {"tp": 1},
        [{"load": "poisson", "request_rate": rate, "distinct_prompts": 96} for rate in (2, 8)],
    ),
    "inference-perf give-inference-perf-alias": (
        {"tp": 1},
        [{"load": "poisson", "request_rate": rate, "distinct_prompts": 96} for rate in (2, 8)],
    ),
}
"""What is said of a source, and some cells of the rows that it becomes (None: empty), by importer and source."""

WARNED = {
    "give-sglang-output-stuck.jsonl": "output_tokens_per_s",
}
"""The column that validation warns of, by source; nothing of the others."""

REFUSED = {
    "sglang-bench give-sglang-pd.jsonl": "its server was disaggregated",
    "aiperf give-aiperf-no-isl": "give --input-tokens",
    "guidellm give-guidellm.csv": "is a CSV; give the benchmarks.json",
    "vllm-bench give-vllm-console.txt": "run the client with --save-result",
}


def place(name):
    (found,) = (
        CASES / folder / name for folder in ("files", "bugs") if (CASES / folder / name).exists()
    )
    return str(found)


def nearly(value):
    return pytest.approx(value, rel=1e-4) if isinstance(value, int | float) else value


def imported(name, source, folder, gpu="H100", **said):
    """What an importer reads of a source, and the campaign that it becomes."""
    result = read_source(name, source, gpu, said)
    write_campaign(result, folder / gpu / "c")
    return result, load_campaign(folder / gpu / "c", gpu)


@pytest.mark.parametrize("case", BECOMES)
def test_a_result_becomes_rows_that_are_fitted(tmp_path, case):
    name, source = case.split()
    said, expected = BECOMES[case]
    result, campaign = imported(name, place(source), tmp_path, **said)
    rows = result.tables["serving"].to_dict("records")
    assert len(rows) == len(expected)
    for row, cells in zip(rows, expected, strict=True):
        assert [row.get(column) for column in cells] == [nearly(value) for value in cells.values()]
    columns = {problem.column for problem in campaign.problems}
    if source in WARNED:
        assert WARNED[source] in columns
    else:
        assert columns == set()


@pytest.mark.parametrize("case", REFUSED)
def test_a_result_that_cannot_be_imported_is_refused_in_words(case):
    name, source = case.split()
    with pytest.raises(ImportFormatError, match=REFUSED[case]):
        read_source(
            name,
            place(source),
            "H100",
            {"model": "qwen2.5-7b", "tp": 1} if name == "sglang-bench" else {"tp": 1},
        )


def test_what_is_left_out_and_warned_of_is_said(tmp_path):
    mixed, _ = imported("vllm-bench", place("give-mixed-tp"), tmp_path, tp=8)
    assert "run_TP4_DP2_CTX1000: its name says 2 data-parallel replicas" in mixed.left_out[0]
    negative = read_source("vllm-bench", place("give-vllm-negative-tpot.jsonl"), "H100", {"tp": 1})
    assert "result 4: mean_tpot_ms must be 0 or more, got -0.82" in negative.left_out[0]
    stuck = read_source("sglang-bench", place("give-sglang-output-stuck.jsonl"), "H100")
    assert "19% of the output tokens" in stuck.warnings[0]


@pytest.mark.parametrize("folder", ["run/results", "run/reports-20260101-000000"])
def test_prompt_tokens_are_the_lengths_of_prompts_in_both_layouts(tmp_path, folder):
    results = tmp_path / folder
    results.mkdir(parents=True)
    stage = "stage_0_lifecycle_metrics.json"
    shutil.copy(place("give-inference-perf-prompt-tokens.json"), results / stage)
    shutil.copy(place("give-inference-perf-config.yaml"), results / "config.yaml")
    for source in (tmp_path / "run", results):
        _, campaign = imported("inference-perf", str(source), tmp_path, tp=1)
        (row,) = campaign.serving.to_dict("records")
        assert (row["input_tokens_mean"], row["cached_input_tokens_mean"]) == (500, 0)
        assert campaign.problems == ()


def test_benchmarks_in_the_layout_of_infersim_are_of_one_gpu(tmp_path):
    result, _ = imported("bench-data", place("give-bench-data"), tmp_path, "H20")
    assert result.tables["attention_decode"]["tp"].tolist() == [1, 1]
    assert [len(table) for table in result.tables.values()] == [2, 2, 2]
