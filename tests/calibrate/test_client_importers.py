"""Importers of benchmark clients' result files: what they read in each version, what they refuse, and what they say."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from calibrate.campaign.campaign import load_campaign
from calibrate.importers import read_source, write_campaign
from calibrate.importers.model_names import named_model
from calibrate.records.errors import ImportFormatError
from tests.conftest import DATA

CLIENTS = DATA / "clients"
BAD = CLIENTS / "bad"
BATCH = {
    "model": "llama-3.1-8b",
    "tp": 2,
    "concurrency": 8,
    "input_tokens_mean": 512,
    "output_tokens_mean": 128,
}


def serving(name, source, **said):
    return read_source(name, str(source), "H100", said).tables["serving"]


def changed(tmp_path, source, name="changed.json", drop=(), **fields):
    """A sample with some of its fields changed or dropped, in a file of its own."""
    content = json.loads(
        source.read_text().splitlines()[0] if source.suffix == ".jsonl" else source.read_text()
    )
    kept = {key: value for key, value in {**content, **fields}.items() if key not in drop}
    path = tmp_path / name
    path.write_text(json.dumps(kept))
    return path


def refusal(name, source, **said):
    with pytest.raises(ImportFormatError) as error:
        read_source(name, str(source), "H100", said)
    return str(error.value)


def detail_of(path):
    """Times and lengths of a detailed sample's successful requests, worked out one by one."""
    content = json.loads(path.read_text().splitlines()[0])
    lists = (content[name] for name in ("ttfts", "itls", "output_lens", "input_lens", "errors"))
    rows = [
        {
            "ttft": ttft,
            "e2e": ttft + sum(gaps),
            "itl": sum(gaps) / (output - 1),
            "input": prompt,
            "output": output,
        }
        for ttft, gaps, output, prompt, error in zip(*lists, strict=True)
        if not error
    ]
    return pd.DataFrame(rows)


# -- vLLM ------------------------------------------------------------------------------------------------------------


def test_a_vllm_result_becomes_a_row_under_its_own_figures():
    content = json.loads((CLIENTS / "vllm_bench/summary.json").read_text())
    (row,) = serving("vllm-bench", CLIENTS / "vllm_bench/summary.json", tp=1).to_dict("records")
    assert (row["model"], row["model_in_client"]) == (
        "llama-3.1-8b",
        "meta-llama/Llama-3.1-8B-Instruct",
    )
    assert (row["load"], row["request_rate"]) == ("poisson", 2.0)
    assert (row["num_requests"], row["failed_requests"]) == (200, 0)
    assert row["output_tokens_mean"] == content["total_output_tokens"] / 200
    for column, field in (("mean", "mean"), ("p50", "median"), ("p90", "p90"), ("p99", "p99")):
        assert row[f"itl_ms_{column}"] == pytest.approx(content[f"{field}_tpot_ms"], abs=1e-4), (
            "TPOT, not ITL"
        )
        assert row[f"e2e_ms_{column}"] == pytest.approx(content[f"{field}_e2el_ms"], abs=1e-4)
    assert (row["requests_per_s"], row["engine"]) == (content["request_throughput"], "vllm")


@pytest.mark.parametrize("name", ["vllm-bench", "sglang-bench"])
def test_listed_requests_fill_what_the_client_was_not_asked_for(name):
    sample = (
        CLIENTS
        / {
            "vllm-bench": "vllm_bench/detailed.json",
            "sglang-bench": "sglang_bench/server_info.jsonl",
        }[name]
    )
    row = serving(name, sample).iloc[0]
    requests = detail_of(sample)
    for what in ("ttft", "itl", "e2e"):
        assert row[f"{what}_ms_mean"] == pytest.approx(1e3 * requests[what].mean(), abs=1e-4)
        for percent in (50, 90, 99):
            expected = 1e3 * np.percentile(requests[what], percent)
            assert row[f"{what}_ms_p{percent}"] == pytest.approx(expected, abs=1e-4)
    for what in ("input", "output"):
        assert row[f"{what}_tokens_mean"] == pytest.approx(requests[what].mean())
        assert row[f"{what}_tokens_std"] == pytest.approx(requests[what].std(ddof=0), abs=1e-4)
    assert (row["failed_requests"], row["num_requests"]) == (1, len(requests) + 1)


def test_metadata_says_what_the_client_cannot_know(tmp_path):
    row = serving("vllm-bench", CLIENTS / "vllm_bench/detailed.json").iloc[0]
    assert (row["tp"], row["dtype"], row["engine"]) == (2, "fp8", "vllm 0.11.0")
    said = {"tensor-parallel-size": "4", "max_num_seqs": "256", "dtype": "bfloat16"}
    row = serving(
        "vllm-bench", changed(tmp_path, CLIENTS / "vllm_bench/summary.json", **said)
    ).iloc[0]
    assert (row["tp"], row["max_num_seqs"], row["dtype"]) == (4, 256, "bf16")


def test_results_appended_to_one_file_are_a_row_each():
    rows = serving("vllm-bench", CLIENTS / "vllm_bench/appended.json")
    assert rows["concurrency"].tolist() == [1, 8]
    assert rows["stage"].tolist() == ["0", "1"]
    assert rows["run_id"].unique().tolist() == ["appended"]


def test_the_oldest_vllm_format_is_read_too():
    row = serving("vllm-bench", CLIENTS / "vllm_bench/version_0.6.json", tp=1).iloc[0]
    assert (row["model"], row["load"], row["concurrency"]) == ("llama-2-7b", "closed", 10), (
        "all at once"
    )
    assert (row["num_requests"], row["failed_requests"]) == (10, 0)
    assert row["engine"] == "", "openai-chat is what was spoken, not who answered"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"request_rate": "inf", "max_concurrency": None}, ("closed", 200, None)),
        ({"request_rate": "inf", "max_concurrency": 16}, ("closed", 16, None)),
        ({"request_rate": "inf", "max_concurrency": 500}, ("closed", 200, None)),
        ({"request_rate": 2.0, "max_concurrency": 500}, ("poisson", None, 2.0)),
        (
            {"request_rate": 50.0, "max_concurrency": 1},
            ("closed", 1, None),
        ),  # 1.44 requests in flight
        ({"request_rate": 2.0, "burstiness": 0.25}, ("gamma", None, 2.0)),
    ],
)
def test_the_load_is_what_the_server_met(tmp_path, fields, expected):
    row = serving(
        "vllm-bench", changed(tmp_path, CLIENTS / "vllm_bench/summary.json", **fields), tp=1
    ).iloc[0]
    found = (row["load"], row.get("concurrency"), row.get("request_rate"))
    assert found == expected


def test_arrivals_that_the_table_does_not_know_are_said(tmp_path):
    phases = [{"name": "p", "type": "fixed", "rate": 2.0}]
    sample = CLIENTS / "aiperf/rate5/profile_export_aiperf.json"
    source = changed(tmp_path, sample, input_config={"phases": phases})
    imported = read_source("aiperf", str(source), "H100", {"model": "llama-3.1-8b", "tp": 1})
    assert imported.left_out[0].startswith(
        "the load of changed: the client says none, or arrivals that the table"
    )


def test_without_tpot_the_gaps_of_chunks_count_and_the_campaign_says_so(tmp_path):
    drop = [f"{s}_tpot_ms" for s in ("mean", "median", "std", "p50", "p90", "p99")]
    source = changed(tmp_path, CLIENTS / "vllm_bench/summary.json", drop=drop)
    content = json.loads(source.read_text())
    imported = read_source("vllm-bench", str(source), "H100", {"tp": 1})
    assert imported.tables["serving"]["itl_ms_mean"].item() == pytest.approx(
        content["mean_itl_ms"], abs=1e-4
    )
    assert imported.info["itl"] == "per-chunk"
    assert "1 rows without TPOT" in imported.info["notes"]
    assert (
        read_source("vllm-bench", str(CLIENTS / "vllm_bench"), "H100", {"tp": 2}).info["itl"]
        == "per-token"
    )


def test_a_backend_that_does_not_stream_has_no_first_token(tmp_path):
    zero = {
        f"{s}_{what}_ms": 0.0
        for s in ("mean", "median", "std", "p50", "p90", "p99")
        for what in ("ttft", "tpot")
    }
    rows = serving(
        "vllm-bench",
        changed(tmp_path, CLIENTS / "vllm_bench/summary.json", mean_itl_ms=0.0, **zero),
        tp=1,
    )
    assert not {"ttft_ms_mean", "itl_ms_mean"} & set(rows)
    assert rows["e2e_ms_mean"].notna().all()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"completed": 0}, "no request succeeded"),
        ({"ramp_up_strategy": "linear"}, "its rate of requests ramps up"),
        ({"spec_decode_acceptance_length": 2.4}, "it decoded speculatively"),
        ({"data-parallel-size": "2"}, "its server had 2 data-parallel replicas"),
        ({"run_number": -1}, "a sweep's warm-up"),
    ],
)
def test_a_run_that_says_nothing_of_steps_is_left_out(tmp_path, fields, reason):
    assert reason in refusal(
        "vllm-bench", changed(tmp_path, CLIENTS / "vllm_bench/summary.json", **fields), tp=1
    )
    shutil.copy(CLIENTS / "vllm_bench/appended.json", tmp_path)
    imported = read_source("vllm-bench", str(tmp_path), "H100")
    assert len(imported.tables["serving"]) == 2
    assert reason in imported.left_out[0]


def test_the_folder_of_a_sweep_gives_a_row_a_run_with_the_options_it_varied(tmp_path):
    folder = tmp_path / "20260301/SERVE--tp2-BENCH--c8"
    folder.mkdir(parents=True)
    varied = {"tensor_parallel_size": 2, "max_num_seqs": 128, "run_number": 0}
    changed(folder, CLIENTS / "vllm_bench/summary.json", "run=0.json", **varied)
    changed(
        folder, CLIENTS / "vllm_bench/summary.json", "warmup.json", **{**varied, "run_number": -1}
    )
    (folder / "summary.json").write_text(
        json.dumps([json.loads((folder / "run=0.json").read_text())])
    )
    imported = read_source("vllm-bench", str(tmp_path), "H100")
    (row,) = imported.tables["serving"].to_dict("records")
    assert (row["run_id"], row["tp"], row["max_num_seqs"]) == (
        "20260301/SERVE--tp2-BENCH--c8/run=0",
        2,
        128,
    )
    again = f"summary.json: is again what {folder / 'run=0.json'} holds"
    assert [text.removeprefix(f"{folder}/") for text in imported.left_out] == [
        "warmup.json: a sweep's warm-up",
        again,
    ]


def test_a_static_batch_is_a_closed_load_end_to_end_only():
    content = json.loads((CLIENTS / "vllm_latency/latency.json").read_text())
    (row,) = serving("vllm-latency", CLIENTS / "vllm_latency/latency.json", **BATCH).to_dict(
        "records"
    )
    assert (row["load"], row["concurrency"], row["num_requests"]) == ("closed", 8, 240)
    assert row["e2e_ms_mean"] == pytest.approx(1e3 * content["avg_latency"])
    for percent in (50, 90, 99):
        assert row[f"e2e_ms_p{percent}"] == pytest.approx(
            1e3 * content["percentiles"][str(percent)]
        )
    assert row["requests_per_s"] == pytest.approx(8 / content["avg_latency"])
    assert row["output_tokens_per_s"] == pytest.approx(8 * 128 / content["avg_latency"])
    assert not {"ttft_ms_mean", "itl_ms_mean"} & set(row)


# -- SGLang ----------------------------------------------------------------------------------------------------------


def test_sglang_takes_the_server_from_what_it_said_of_itself():
    rows = serving("sglang-bench", CLIENTS / "sglang_bench/server_info.jsonl")
    first = rows.iloc[0]
    assert (first["model"], first["tp"], first["dtype"], first["engine"]) == (
        "llama-3.1-8b",
        4,
        "fp8",
        "sglang 0.5.5",
    )
    limits = [
        first[name]
        for name in ("max_num_seqs", "max_num_batched_tokens", "kv_cache_tokens", "block_size")
    ]
    assert limits == [256, 8192, 1245184, 1]
    assert rows["load"].tolist() == ["closed", "poisson"], (
        "Infinity with a limit; 4 a second without"
    )
    assert rows["request_rate"].tolist()[1] == 4.0


def test_sglang_before_it_asked_the_server_needs_to_be_told():
    sample = CLIENTS / "sglang_bench/version_0.4.jsonl"
    assert "does not say what ran; give --model and --tp" in refusal("sglang-bench", sample)
    row = serving("sglang-bench", sample, model="llama-3.1-8b", tp=2).iloc[0]
    assert (row["model"], row["tp"], row["concurrency"], row["engine"]) == (
        "llama-3.1-8b",
        2,
        16,
        "sglang",
    )
    assert "failed_requests" not in row, "it does not say how many it sent"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"accept_length": 2.7}, "it decoded speculatively"),
        ({"server_info": {"tp_size": 1, "dp_size": 4}}, "its server had 4 data-parallel replicas"),
        ({"completed": 0}, "no request succeeded"),
    ],
)
def test_sglang_runs_that_are_not_of_one_plain_engine_are_left_out(tmp_path, fields, reason):
    source = changed(
        tmp_path, CLIENTS / "sglang_bench/version_0.4.jsonl", "changed.jsonl", **fields
    )
    assert reason in refusal("sglang-bench", source, model="llama-3.1-8b", tp=2)


def test_a_replayed_trace_has_no_load(tmp_path):
    source = changed(
        tmp_path, CLIENTS / "sglang_bench/version_0.4.jsonl", "changed.jsonl", request_rate="trace"
    )
    assert serving("sglang-bench", source, model="llama-3.1-8b", tp=2)["load"].tolist() == [""]


# -- AIPerf ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "load"),
    [
        ("concurrency8/profile_export_aiperf.json", ("closed", 8, None)),
        ("rate5/profile_export_aiperf.json", ("poisson", None, 5)),
        ("genai_perf/profile_export_genai_perf.json", ("closed", 4, None)),
    ],
)
def test_aiperf_and_genai_perf_state_model_and_load_each_in_its_way(sample, load):
    content = json.loads((CLIENTS / "aiperf" / sample).read_text())
    row = serving("aiperf", CLIENTS / "aiperf" / sample, tp=1).iloc[0]
    assert row["model"] == "llama-3.1-8b"
    assert (row["load"], row.get("concurrency"), row.get("request_rate")) == load
    for what, metric in (
        ("ttft", "time_to_first_token"),
        ("itl", "inter_token_latency"),
        ("e2e", "request_latency"),
    ):
        for column, statistic in (("mean", "avg"), ("p50", "p50"), ("p90", "p90"), ("p99", "p99")):
            assert row[f"{what}_ms_{column}"] == pytest.approx(content[metric][statistic], abs=1e-4)
    assert row["output_tokens_std"] == pytest.approx(
        content["output_sequence_length"]["std"], abs=1e-4
    )
    assert row["requests_per_s"] == content["request_throughput"]["avg"]


@pytest.mark.parametrize(
    ("config", "load"),
    [
        (
            {"model": ["m"], "concurrency": 3, "request_rate": None},
            {"load": "closed", "concurrency": 3},
        ),
        (
            {"model": ["m"], "concurrency": None, "request_rate": 2.5},
            {"load": "constant", "request_rate": 2.5},
        ),
        (
            {"perf_analyzer": {"stimulus": {"request_rate": 2.5}}},
            {"load": "constant", "request_rate": 2.5},
        ),
        ({"loadgen": {"request_rate": 2.5}}, {"load": "poisson", "request_rate": 2.5}),
        ({"loadgen": {"concurrency": 4}, "input": {"fixed_schedule": True}}, {"load": ""}),
        (
            {"phases": [{"name": "p", "type": "gamma", "rate": 2.0}]},
            {"load": "poisson", "request_rate": 2.0},
        ),
        (
            {"phases": [{"name": "p", "type": "gamma", "rate": 2.0, "smoothness": 4.0}]},
            {"load": "gamma", "request_rate": 2.0, "arrival_cv": 0.5},
        ),
        (
            {
                "loadgen": {
                    "request_rate": 2.5,
                    "arrival_pattern": "gamma",
                    "arrival_smoothness": 0.25,
                }
            },
            {"load": "gamma", "request_rate": 2.5, "arrival_cv": 2.0},
        ),
        (
            {"phases": [{"name": "p", "type": "constant", "rate": 2.0, "rate_ramp": 5}]},
            {"load": ""},
        ),
    ],
)
def test_every_layout_of_the_load_is_known(tmp_path, config, load):
    source = changed(
        tmp_path, CLIENTS / "aiperf/rate5/profile_export_aiperf.json", input_config=config
    )
    row = serving("aiperf", source, model="llama-3.1-8b", tp=1).iloc[0]
    assert {
        name: row[name]
        for name in ("load", "concurrency", "request_rate", "arrival_cv")
        if name in row
    } == load


@pytest.mark.parametrize("tool", ["aiperf", "genai_perf"])
def test_a_csv_export_says_the_same_but_neither_model_nor_load(tmp_path, tool):
    sample = CLIENTS / f"aiperf/csv_only/profile_export_{tool}.csv"
    assert "does not say what ran; give --model and --tp" in refusal("aiperf", sample)
    row = serving("aiperf", sample, model="llama-3.1-8b", tp=1, concurrency=8).iloc[0]
    assert (row["load"], row["concurrency"]) == ("closed", 8)
    if tool == "aiperf":
        twin = CLIENTS / "aiperf/concurrency8/profile_export_aiperf.json"
        whole = serving("aiperf", twin, tp=1).iloc[0]
        numbers = [
            name
            for name in row.index
            if name.endswith(("_mean", "_std", "_p50", "_p90", "_p99", "_per_s"))
        ]
        assert len(numbers) == 18
        assert row[numbers].astype(float).to_numpy() == pytest.approx(
            whole[numbers].astype(float), abs=0.006
        )
        shutil.copy(twin, tmp_path)
        shutil.copy(sample, tmp_path)
        assert len(serving("aiperf", tmp_path, tp=1)) == 1, "beside its JSON twin it is passed over"
    else:
        assert row["e2e_ms_mean"] == 1286.29, "1,286.29 with a comma"


def test_aiperf_runs_that_broke_off_or_served_two_models_are_left_out(tmp_path):
    sample = CLIENTS / "aiperf/rate5/profile_export_aiperf.json"
    assert "was cancelled or broke off" in refusal(
        "aiperf", changed(tmp_path, sample, was_cancelled=True), tp=1
    )
    two = {"endpoint": {"model_names": ["a", "b"]}}
    assert "it served 2 models: a, b" in refusal(
        "aiperf", changed(tmp_path, sample, input_config=two), tp=1
    )


def test_genai_perf_without_streaming_has_no_first_token(tmp_path):
    sample = CLIENTS / "aiperf/genai_perf/profile_export_genai_perf.json"
    rows = serving("aiperf", changed(tmp_path, sample, drop=["inter_token_latency"]), tp=1)
    assert not {"ttft_ms_mean", "itl_ms_mean"} & set(rows)


# -- GuideLLM --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "loads"),
    [
        ("0.3", [("closed", 1, None), ("closed", 4, None), ("constant", None, 3)]),
        ("0.4", [("closed", 4, None), ("poisson", None, 3)]),
        ("0.5", [("closed", 4, None), ("poisson", None, 3)]),
    ],
)
def test_guidellm_is_read_in_every_version(version, loads):
    sample = CLIENTS / f"guidellm/version_{version}/benchmarks.json"
    rows = serving("guidellm", sample, tp=2)
    found = rows[["load", "concurrency", "request_rate"]].astype(object)
    assert [tuple(row) for row in found.where(found.notna(), None).to_numpy()] == loads
    closed = rows[rows["concurrency"] == 4].iloc[0]
    assert (closed["model"], closed["tp"], closed["num_requests"]) == ("llama-3.1-8b", 2, 24)
    assert (closed["ttft_ms_mean"], closed["itl_ms_mean"]) == (37.625, 8.8)
    assert closed["e2e_ms_mean"] == pytest.approx(37.625 + 31 * 8.8, abs=0.01)
    assert closed["output_tokens_per_s"] == pytest.approx(32 * closed["requests_per_s"])


# -- all of them -----------------------------------------------------------------------------------------------------

GOOD = {
    "vllm-bench": ("vllm_bench", {"tp": 2}, 5),
    "vllm-latency": ("vllm_latency", BATCH, 1),
    "sglang-bench": ("sglang_bench", {"model": "llama-3.1-8b", "tp": 4}, 3),
    "aiperf": ("aiperf", {"model": "llama-3.1-8b", "tp": 2}, 5),
    "guidellm": ("guidellm", {"tp": 2}, 7),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_folder_of_good_runs_is_a_campaign_that_says_only_what_failed(tmp_path, name, h100):
    folder, said, rows = GOOD[name]
    write_campaign(read_source(name, str(CLIENTS / folder), "H100", said), tmp_path / "H100" / name)
    campaign = load_campaign(tmp_path / "H100" / name, "H100", h100)
    assert {problem.column for problem in campaign.problems} <= {"failed_requests"}
    assert len(campaign.serving) == campaign.files[0].used == rows


DEFECTS = {
    "vllm-bench": {
        "nan.json": "nan.json: mean_tpot_ms must be a number, got 'nan'",
        "negative.json": "negative.json: median_ttft_ms must be 0 or more, got -61.5",
        "missing.json": "missing.json: the field model_id is missing",
        "text_rate.json": "text_rate.json: request_rate must be a number, got 'fast'",
        "degree_in_words.json": "degree_in_words.json: tp must be a whole number of 1 or more, got 'two'",
        "uneven_lists.json": "uneven_lists.json: itls has 12 entries but ttfts 11, one a request",
        "nan_in_list.json": "nan_in_list.json: itls[0][0] must be a number from 0 to 1e+12, got nan",
    },
    "vllm-latency": {
        "nan.json": "nan.json: latencies[29] must be a number, got 'nan'",
        "negative.json": "negative.json: latencies[0] must be 0 or more, got -1.9",
        "missing.json": "missing.json: the field avg_latency is missing",
        "empty.json": "empty.json: latencies must hold the time of",
        "truncated.json": "truncated.json:16: not readable JSON",
    },
    "sglang-bench": {
        "nan.jsonl": "nan.jsonl: mean_ttft_ms must be a number, got 'nan'",
        "negative.jsonl": "negative.jsonl: mean_tpot_ms must be 0 or more, got -6.9",
        "missing.jsonl": "does not say how many tokens a request had; give --output-tokens",
        "degree_in_words.jsonl": "degree_in_words.jsonl: server_info: tp_size must be a number, got 'four'",
    },
    "aiperf": {
        "nan_aiperf.json": "nan_aiperf.json: inter_token_latency.avg must be a number, got 'nan'",
        "negative_aiperf.json": "negative_aiperf.json: request_latency.p50 must be 0 or more, got -1",
        "missing_aiperf.json": "does not say how many tokens a request had; give --output-tokens",
        "unit_aiperf.json": "request_latency.unit must be one of ns, us, µs, ms, s, sec, seconds, got 'fortnights'",
        "truncated_aiperf.json": "truncated_aiperf.json:1: not readable JSON",
        "words_aiperf.csv": "words_aiperf.csv:6: avg must be a number, got 'slow511.87'",
        "cut_aiperf.csv": "cut_aiperf.csv:3: has",
        "other_aiperf.csv": "other_aiperf.csv: holds no table of metrics",
    },
    "guidellm": {
        "nan.json": "nan.json: metrics.inter_token_latency_ms.successful.mean must be a number, got 'nan'",
        "negative.json": "negative.json: metrics.request_latency.successful.mean must be 0 or more, got -0.3",
        "missing.json": "missing.json: the field request_totals.total is missing",
        "streams.json": "streams.json: args.strategy.streams must be a number, got 'many'",
        "truncated.json": "truncated.json:1: not readable JSON",
    },
}


CUT_OFF = {"vllm-bench": "truncated.json", "sglang-bench": "truncated.jsonl"}


def test_a_list_of_results_is_read_as_lines_are(tmp_path):
    content = json.loads((CLIENTS / "vllm_bench/summary.json").read_text())
    (tmp_path / "runs.json").write_text(
        json.dumps([content, {**content, "duration": 2 * content["duration"]}])
    )
    imported = read_source("vllm-bench", str(tmp_path / "runs.json"), "H100", {"tp": 2})
    assert imported.tables["serving"]["stage"].tolist() == ["0", "1"]


def test_every_bad_sample_is_tried():
    tried = {
        f"{name.replace('-', '_')}/{file}" for name, files in DEFECTS.items() for file in files
    }
    tried |= {f"{name.replace('-', '_')}/{file}" for name, file in CUT_OFF.items()}
    assert tried == {path.relative_to(BAD).as_posix() for path in BAD.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", CUT_OFF)
def test_a_last_result_that_is_cut_off_is_left_out_and_said(name):
    path = BAD / name.replace("-", "_") / CUT_OFF[name]
    imported = read_source(name, str(path), "H100")
    assert len(imported.tables["serving"]) == 1
    assert imported.left_out == (f"{path}, result 2: is cut off: left out",)


@pytest.mark.parametrize(
    ("name", "file"), [(name, file) for name, files in DEFECTS.items() for file in files]
)
def test_a_bad_result_is_refused_in_words(name, file):
    said = {"model": "llama-3.1-8b", "tp": 4} if "missing" in file else BATCH
    assert DEFECTS[name][file] in refusal(name, BAD / name.replace("-", "_") / file, **said)


SAMPLES = {
    "vllm-bench": "vllm_bench/summary.json",
    "vllm-latency": "vllm_latency/latency.json",
    "sglang-bench": "sglang_bench/server_info.jsonl",
    "aiperf": "aiperf/rate5/profile_export_aiperf.json",
    "guidellm": "guidellm/version_0.5/benchmarks.json",
}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("writer", SAMPLES)
def test_another_tools_file_is_named_with_the_importer_for_it(name, writer):
    if name != writer:
        assert f"is for `calibrate import {writer}`, not for {name}" in refusal(
            name, CLIENTS / SAMPLES[writer]
        )


def test_a_folder_of_several_tools_results_gives_those_of_one(tmp_path):
    for number, sample in enumerate(SAMPLES.values()):
        path = CLIENTS / sample
        shutil.copy(path, tmp_path / f"{number}{path.suffix}")
    (tmp_path / "notes.json").write_text("[1, 2]")
    (tmp_path / "0.pytorch.json").write_text("[]")
    imported = read_source("vllm-bench", str(tmp_path), "H100", {"tp": 1})
    assert imported.tables["serving"]["run_id"].tolist() == ["0"]
    assert len(imported.left_out) == 6, "two results of SGLang, one of each other, and the notes"
    assert any(
        text.endswith("notes.json: is no result for vllm-bench") for text in imported.left_out
    )


@pytest.mark.parametrize("name", ["vllm-bench", "vllm-latency", "sglang-bench", "aiperf"])
def test_sources_without_a_result_are_refused_in_words(tmp_path, name):
    assert "no such file or folder" in refusal(name, tmp_path / "none")
    assert f"no result for {name} in it" in refusal(name, tmp_path)
    (tmp_path / "empty.json").write_text(" \n")
    assert "empty.json: is empty" in refusal(name, tmp_path / "empty.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    assert "bytes.json:1: is not UTF-16 text" in refusal(name, tmp_path / "bytes.json")
    (tmp_path / "list.json").write_text("[1]")
    assert "list.json: must hold named fields, not list" in refusal(name, tmp_path / "list.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    assert "deep.json:1: is nested more than 64 levels deep" in refusal(
        name, tmp_path / "deep.json"
    )


# -- what the user says ----------------------------------------------------------------------------------------------


def test_only_rows_that_leave_it_open_take_what_is_said():
    rows = serving("vllm-bench", CLIENTS / "vllm_bench", tp=2, dtype="fp8").set_index("run_id")
    assert rows["tp"].tolist() == [2, 2, 2, 2, 2]
    assert rows["dtype"].tolist() == ["fp8"] * 5, "as the metadata of one says"
    message = refusal("vllm-bench", CLIENTS / "vllm_bench")
    assert (
        "does not say what ran in version_0.6, summary; give --tp, or the log of its vLLM server"
        in message
    )


def test_what_a_row_says_otherwise_itself_is_not_to_be_said():
    detailed = CLIENTS / "vllm_bench/detailed.json"
    message = "tp is 2 in detailed, not 4; leave --tp out"
    assert message in refusal("vllm-bench", detailed, tp=4)
    assert "tp is 2 in appended, detailed, not 4" in refusal(
        "vllm-bench", CLIENTS / "vllm_bench", tp=4
    )
    assert "model is llama-3.1-8b in detailed, not qwen3-32b" in refusal(
        "vllm-bench", detailed, model="qwen3-32b"
    )
    named = serving("vllm-bench", detailed, tp=2, model="meta-llama/Llama-3.1-8B-Instruct")
    assert named["model"].tolist() == ["llama-3.1-8b"], "another name of the same"
    said = {"tp": 1, "concurrency": 4}
    assert "no row takes concurrency; leave --concurrency out" in refusal(
        "vllm-bench", CLIENTS / "vllm_bench/summary.json", **said
    ), "an open load"


def test_a_concurrency_is_for_the_rows_without_a_load(tmp_path):
    shutil.copy(CLIENTS / "aiperf/csv_only/profile_export_aiperf.csv", tmp_path)
    shutil.copytree(CLIENTS / "aiperf/rate5", tmp_path / "rate5")
    rows = serving("aiperf", tmp_path, model="llama-3.1-8b", tp=1, concurrency=8)
    assert rows["load"].tolist() == ["closed", "poisson"]
    assert rows["concurrency"].fillna(0).tolist() == [8, 0]


def test_a_scheme_that_leaves_the_weight_type_open_wants_it_said(tmp_path):
    source = changed(
        tmp_path, CLIENTS / "vllm_bench/summary.json", quantization="compressed-tensors"
    )
    message = refusal("vllm-bench", source, tp=1)
    assert (
        "quantized as compressed-tensors, which leaves the weight type open; give --dtype"
        in message
    )
    assert serving("vllm-bench", source, tp=1, dtype="int8")["dtype"].tolist() == ["int8"]


def test_the_servers_log_fills_what_a_client_cannot_know():
    source = str(CLIENTS / "guidellm/version_0.5/benchmarks.json")
    imported = read_source(
        "guidellm", source, "H100", server_log=DATA / "vllm_logs/v1_restarted.log"
    )
    first = imported.tables["serving"].iloc[0]
    assert (first["tp"], first["dtype"], first["kv_cache_tokens"]) == (2, "fp8", 400_000)
    assert imported.info["engine"] == first["engine"] == "vllm 0.11.1"


def test_the_log_of_another_engine_is_refused():
    with pytest.raises(
        ImportFormatError,
        match=r"says engine vllm 0\.11\.1, but the rows sglang 0\.5\.5 in server_info",
    ):
        read_source(
            "sglang-bench",
            str(CLIENTS / "sglang_bench/server_info.jsonl"),
            "H100",
            server_log=DATA / "vllm_logs/v1_restarted.log",
        )


def test_a_model_under_a_name_of_its_own_is_for_the_user_to_tell(tmp_path):
    source = changed(tmp_path, CLIENTS / "vllm_bench/summary.json", model_id="my-model")
    message = refusal("vllm-bench", source, tp=1)
    assert "(its model is called my-model, as none of the registry is); give --model" in message
    row = serving("vllm-bench", source, tp=1, model="llama-3.1-8b").iloc[0]
    assert (row["model"], row["model_in_client"]) == ("llama-3.1-8b", "my-model")


@pytest.mark.parametrize(
    ("name", "model", "kept"),
    [
        ("/models/Llama-3.1-8B-Instruct/", "llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct"),
        ("D:\\models\\Llama-3.1-8B-Instruct", "llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct"),
        ("./checkpoints/qwen/Qwen3-32B", "qwen3-32b", "Qwen/Qwen3-32B"),
        ("Qwen3-32B", "qwen3-32b", "Qwen3-32B"),
        ("someone/Llama-3.1-8B-Instruct", None, "someone/Llama-3.1-8B-Instruct"),
        ("/models/my-own", None, "/models/my-own"),
        ("/", None, "/"),
        ("", None, ""),
    ],
)
def test_a_path_is_known_by_the_model_it_ends_in(name, model, kept):
    assert named_model(name) == {**({"model": model} if model else {}), "model_in_client": kept}


def test_a_difference_of_clocks_just_below_zero_is_zero(tmp_path):
    zero = dict.fromkeys([f"{s}_itl_ms" for s in ("mean", "median", "std", "p95", "p99")], 0.0)
    fields = {**zero, "median_tpot_ms": -3e-4, "mean_tpot_ms": 1.76}
    source = changed(
        tmp_path, CLIENTS / "sglang_bench/version_0.4.jsonl", "changed.jsonl", **fields
    )
    row = serving("sglang-bench", source, model="llama-3.1-8b", tp=2).iloc[0]
    assert (row["itl_ms_mean"], row["itl_ms_p50"]) == (1.76, 0)


def test_the_command_line_fills_what_is_open(tmp_path, monkeypatch, calibrate):
    monkeypatch.chdir(tmp_path)
    source = CLIENTS / "vllm_latency/latency.json"
    place = ["--gpu", "H100", "--campaign", "batches"]
    code, _, error = calibrate(
        "import", "vllm-latency", source, *place, "--model", "llama-3.1-8b", "--tp", "2"
    )
    assert code == 1
    assert "give --concurrency and --input-tokens and --output-tokens" in " ".join(error.split())
    said = ["--concurrency", "8", "--input-tokens", "512", "--output-tokens", "128"]
    code, out, _ = calibrate(
        "import", "vllm-latency", source, *place, "--model", "llama-3.1-8b", "--tp", "2", *said
    )
    assert (code, "1 rows of serving" in out) == (0, True)
    code, out, _ = calibrate("validate", "--gpu", "H100")
    assert (code, "0 errors, 0 warnings" in out) == (0, True)
