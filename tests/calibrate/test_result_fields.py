"""What the fields of clients' results mean in each of their layouts, and which results say nothing of one engine."""

import json

import numpy as np
import pandas as pd
import pytest

from calibrate.campaign.serving_rules import overloaded
from calibrate.importers import read_source
from calibrate.importers.model_names import named_model
from calibrate.importers.server import read_log
from calibrate.records.errors import ImportFormatError

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
ENGINE = (
    "INFO [core.py:1] Initializing a V1 LLM engine (v0.22.1) with config: model='{model}', dtype=torch.bfloat16, "
    "tensor_parallel_size=2, {more}served_model_name={model}\n"
)


def vllm(**fields):
    """A run of ``vllm bench serve``: 64 requests of 1000 and 100 tokens, 16 at once; None takes a field out."""
    run = {
        "backend": "vllm",
        "model_id": LLAMA,
        "num_prompts": 64,
        "request_rate": "inf",
        "burstiness": 1.0,
        "max_concurrency": 16,
        "duration": 4.0,
        "completed": 64,
        "failed": 0,
        "total_input_tokens": 64_000,
        "total_output_tokens": 6_400,
        "request_throughput": 16.0,
        "output_throughput": 1600.0,
        "mean_ttft_ms": 109.0,
        "median_ttft_ms": 105.0,
        "mean_tpot_ms": 9.0,
        "median_tpot_ms": 9.0,
        "mean_itl_ms": 9.0,
        "mean_e2el_ms": 1000.0,
    }
    return {name: value for name, value in {**run, **fields}.items() if value is not None}


def sglang(**fields):
    """A run of ``sglang.bench_serving``: 64 requests of 500 and 60 tokens, 16 at once; None takes a field out."""
    run = {
        "backend": "sglang",
        "dataset_name": "random",
        "request_rate": float("inf"),
        "max_concurrency": 16,
        "random_input_len": 1000,
        "random_output_len": 120,
        "random_range_ratio": 0.0,
        "server_info": {"model_path": "Qwen/Qwen2.5-7B-Instruct", "tp_size": 1, "version": "0.5.5"},
        "duration": 2.0,
        "completed": 64,
        "total_input_tokens": 32_000,
        "total_output_tokens": 3_840,
        "total_output_tokens_retokenized": 3_840,
        "request_throughput": 32.0,
        "output_throughput": 1920.0,
        "mean_e2e_latency_ms": 522.0,
        "mean_ttft_ms": 50.0,
        "mean_tpot_ms": 8.0,
        "mean_itl_ms": 8.0,
    }
    return {name: value for name, value in {**run, **fields}.items() if value is not None}


def put(path, *results):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(result) for result in results))
    return path


def serving(name, source, **said):
    return read_source(name, str(source), "H100", said).tables["serving"]


def refusal(name, source, **said):
    with pytest.raises(ImportFormatError) as error:
        read_source(name, str(source), "H100", said)
    return str(error.value)


# -- vLLM ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("burstiness", "load", "cv"),
    [(1.0, "poisson", None), (100.0, "gamma", 0.1), (0.25, "gamma", 2.0)],
)
def test_burstiness_is_the_shape_of_gamma_gaps(tmp_path, burstiness, load, cv):
    run = vllm(request_rate=16.0, max_concurrency=None, burstiness=burstiness)
    (row,) = serving("vllm-bench", put(tmp_path / "run.json", run), tp=1).to_dict("records")
    assert (row["load"], row["request_rate"], row.get("arrival_cv")) == (load, 16.0, cv)


def test_a_burstiness_of_zero_is_refused(tmp_path):
    run = vllm(request_rate=16.0, max_concurrency=None, burstiness=0.0)
    message = refusal("vllm-bench", put(tmp_path / "run.json", run), tp=1)
    assert "run.json: the shape of gamma gaps must be positive, got 0" in message


def test_a_result_without_its_sums_wants_the_lengths_and_has_no_throughput(tmp_path):
    sums = ("duration", "completed", "failed", "total_input_tokens", "total_output_tokens")
    gone = dict.fromkeys((*sums, "request_throughput", "output_throughput", "mean_e2el_ms"))
    source = put(tmp_path / "run.json", vllm(request_rate=1.0, max_concurrency=None, **gone))
    message = refusal("vllm-bench", source, tp=1)
    assert (
        "does not say how many tokens a request had; give --input-tokens and --output-tokens"
        in message
    )
    lengths = {"input_tokens_mean": 500, "output_tokens_mean": 150}
    (row,) = serving("vllm-bench", source, tp=1, **lengths).to_dict("records")
    assert (row["load"], row["request_rate"], row["num_requests"]) == ("poisson", 1.0, 64)
    assert (row["input_tokens_mean"], row["output_tokens_mean"]) == (500, 150)
    assert not {"requests_per_s", "output_tokens_per_s", "failed_requests"} & set(row)
    in_a_folder = serving("vllm-bench", tmp_path, tp=1, **lengths)
    assert len(in_a_folder) == 1, "it is known for vLLM's without them"


def test_throughput_is_the_sums_over_the_duration_where_the_client_gives_none(tmp_path):
    run = vllm(request_throughput=None, output_throughput=None)
    (row,) = serving("vllm-bench", put(tmp_path / "run.json", run), tp=1).to_dict("records")
    assert (row["requests_per_s"], row["output_tokens_per_s"]) == (16.0, 1600.0)


def test_the_list_of_a_sweep_is_a_row_a_run_and_no_run_counts_twice(tmp_path):
    runs = [{**vllm(), "run_number": number, "max_num_seqs": 8} for number in (0, 1)]
    summary = tmp_path / "sweep/summary.json"
    summary.parent.mkdir()
    summary.write_text(json.dumps(runs))
    rows = serving("vllm-bench", summary, tp=1)
    assert rows["stage"].tolist() == ["0", "1"]
    assert rows["max_num_seqs"].tolist() == [8, 8]
    put(tmp_path / "sweep/run=0.json", runs[0])
    imported = read_source("vllm-bench", str(tmp_path), "H100", {"tp": 1})
    assert imported.tables["serving"]["run_id"].tolist() == ["sweep/run=0", "sweep/summary"]
    (again,) = imported.left_out
    assert again.endswith(
        f"summary.json, result 1: is again what {tmp_path / 'sweep/run=0.json'} holds"
    )


def test_the_printed_table_names_the_option_that_saves_a_result(tmp_path):
    path = tmp_path / "table.txt"
    path.write_text(
        "============ Serving Benchmark Result ============\nSuccessful requests:   100\n"
    )
    for name in ("vllm-bench", "sglang-bench"):
        assert "is the table that the client prints; run the client with --save-result" in refusal(
            name, path
        )


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"mean_tpot_ms": -0.82}, "mean_tpot_ms must be 0 or more, got -0.82"),
        ({"mean_ttft_ms": "nan"}, "mean_ttft_ms must be a number, got 'nan'"),
        (
            {"mean_e2el_ms": 80.0},
            "its mean end-to-end time, 80 ms, is below its mean time to first token, 109 ms",
        ),
        ({"mean_e2el_ms": "slow"}, "mean_e2el_ms must be a number, got 'slow'"),
        ({"total_output_tokens": "many"}, "total_output_tokens must be a number, got 'many'"),
    ],
)
def test_a_run_that_cannot_be_is_left_out_and_named_and_the_others_are_not(tmp_path, wrong, words):
    good = [vllm(max_concurrency=limit) for limit in (8, 16, 32)]
    source = put(tmp_path / "runs.jsonl", *good[:2], vllm(**wrong), good[2])
    imported = read_source("vllm-bench", str(source), "H100", {"tp": 1})
    assert imported.tables["serving"]["concurrency"].tolist() == [8, 16, 32]
    assert imported.left_out == (f"{source}, result 3: {words}",)


def test_a_file_that_cannot_be_read_does_not_stop_its_folder(tmp_path):
    put(tmp_path / "good.json", vllm())
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe\x00")
    imported = read_source("vllm-bench", str(tmp_path), "H100", {"tp": 1})
    assert imported.tables["serving"]["run_id"].tolist() == ["good"]
    assert "bad.json:1: is not UTF-16 text" in imported.left_out[0]


# -- SGLang ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        ({"prefill": [{"tp_size": 1}], "decode": [{"tp_size": 1}]}, "its server was disaggregated"),
        ({"tp_size": 1, "disaggregation_mode": "decode"}, "its server was disaggregated"),
        ({"workers": [{"tp_size": 1}, {"tp_size": 1}]}, "it was routed to 2 engines"),
        ([{"tp_size": 1}] * 3, "it was routed to 3 engines"),
        ([{"tp_size": 1, "dp_size": 2}], "its server had 2 data-parallel replicas"),
    ],
)
def test_a_run_of_several_engines_is_left_out_by_name(tmp_path, server, reason):
    source = put(tmp_path / "runs.jsonl", sglang(server_info=server), sglang())
    imported = read_source("sglang-bench", str(source), "H100")
    assert len(imported.tables["serving"]) == 1
    assert imported.left_out[0].startswith(f"{source}, result 1: {reason}")


def test_the_earliest_lines_have_their_medians_and_rates_from_sums(tmp_path):
    means = ("mean_ttft_ms", "mean_tpot_ms", "mean_itl_ms", "request_throughput", "server_info")
    early = {
        "request_rate": 1.0,
        "max_concurrency": None,
        "median_ttft_ms": 180.0,
        "median_itl_ms": 35.0,
    }
    source = put(tmp_path / "early.jsonl", sglang(**dict.fromkeys(means), **early))
    imported = read_source("sglang-bench", str(source), "H100", {"model": "qwen2.5-7b", "tp": 1})
    (row,) = imported.tables["serving"].to_dict("records")
    assert (row["load"], row["request_rate"], row["requests_per_s"]) == ("poisson", 1.0, 32.0)
    assert (row["ttft_ms_p50"], row["itl_ms_p50"], row["e2e_ms_mean"]) == (180.0, 35.0, 522.0)
    assert imported.info["itl"] == "per-chunk"


@pytest.mark.parametrize(
    ("line", "tool"),
    [
        ({"successful_requests": 9, "total_latency": 2.0}, "sglang.bench_offline_throughput"),
        ({"prefill_latency": 0.1, "overall_throughput": 9.0}, "sglang.bench_one_batch"),
        ({"elapsed_time": 2.0, "tokens_per_second": 9.0}, "vllm bench throughput"),
    ],
)
def test_results_that_time_no_request_are_left_out_by_name(tmp_path, line, tool):
    source = put(tmp_path / "runs.jsonl", sglang(), line)
    (left_out,) = read_source("sglang-bench", str(source), "H100").left_out
    assert f"result 2: is of {tool}, which times no request" in left_out


@pytest.mark.parametrize(
    ("fields", "spread"),
    [
        ({}, (1000 / 12**0.5, 120 / 12**0.5)),
        (
            {"random_range_ratio": 1.0, "total_input_tokens": 64_000, "total_output_tokens": 7_680},
            (0, 0),
        ),
        ({"total_output_tokens": 2_000}, (1000 / 12**0.5, None)),
        ({"dataset_name": "sharegpt"}, (None, None)),
    ],
)
def test_random_lengths_spread_as_they_were_asked_for(tmp_path, fields, spread):
    (row,) = serving("sglang-bench", put(tmp_path / "run.jsonl", sglang(**fields))).to_dict(
        "records"
    )
    found = (row.get("input_tokens_std"), row.get("output_tokens_std"))
    assert found == pytest.approx(spread, abs=1e-3), (
        "evenly from ratio·n to n, if the mean is that of it"
    )


def test_tokens_that_were_counted_but_never_came_are_warned_of(tmp_path):
    stuck = {"total_output_tokens_retokenized": 720, "mean_itl_ms": 43.0}
    source = put(tmp_path / "runs.jsonl", sglang(), sglang(**stuck))
    imported = read_source("sglang-bench", str(source), "H100")
    (warning,) = imported.warnings
    assert warning.startswith(
        "runs, result 2: its text holds 19% of the output tokens that it counts and its mean ITL is 5.38 × "
    )
    assert warning in imported.info["notes"]
    assert imported.tables["serving"]["output_tokens_per_s"].tolist() == [1920.0, 360.0]


def test_gaps_of_several_tokens_are_warned_of(tmp_path):
    source = put(tmp_path / "run.json", vllm(mean_itl_ms=45.0))
    (warning,) = read_source("vllm-bench", str(source), "H100", {"tp": 1}).warnings
    assert "its mean ITL is 5 × its mean TPOT: a chunk holds several tokens" in warning


def test_the_command_prints_its_warnings(tmp_path, monkeypatch, calibrate):
    monkeypatch.chdir(tmp_path)
    source = put(tmp_path / "run.jsonl", sglang(total_output_tokens_retokenized=720))
    code, out, _ = calibrate("import", "sglang-bench", source, "--gpu", "H100", "--campaign", "c")
    assert code == 0
    assert "warning: run, result 1: its text holds 19% of the output tokens" in " ".join(
        out.split()
    )
    code, out, _ = calibrate("validate", "--gpu", "H100")
    assert "output_tokens_per_s = 360: is 0.188 × requests_per_s × output_tokens_mean" in " ".join(
        out.split()
    )


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "model", "kept"),
    [
        (
            f"/root/.cache/hub/models--{LLAMA.replace('/', '--')}/snapshots/0123abcd",
            "llama-3.1-8b",
            LLAMA,
        ),
        (f"models--{LLAMA.replace('/', '--')}", "llama-3.1-8b", LLAMA),
        (
            "/c/models--someone--Llama-3.1-8B-Instruct/snapshots/0",
            None,
            "someone/Llama-3.1-8B-Instruct",
        ),
        ("/data/models/Llama-3.1-8B-Instruct", "llama-3.1-8b", LLAMA),
        ("/data/meta-llama_Llama-3.1-8B-Instruct", "llama-3.1-8b", LLAMA),
        ("/modelscope/Qwen/Qwen2___5-7B-Instruct", "qwen2.5-7b", "Qwen/Qwen2.5-7B-Instruct"),
    ],
)
def test_folders_of_caches_are_known_by_the_model_they_hold(name, model, kept):
    assert named_model(name) == {**({"model": model} if model else {}), "model_in_client": kept}


@pytest.mark.parametrize(
    ("name", "tp", "said"),
    [
        ("run_TP4_DP2", 8, "run_TP4_DP2: its name says 2 data-parallel replicas"),
        ("run_TP4_DP1", 8, "run_TP4_DP1: its name says TP 4, not 8; import it with --tp 4"),
        ("tp-4-pp2", 4, "tp-4-pp2: its name says 2 pipeline stages"),
        ("tensor_parallel_size=2", 1, "tensor_parallel_size=2: its name says TP 2, not 1"),
        ("http4-pp512-data2024", 8, None),
        ("qwen3-8b_tp1", 1, None),
    ],
)
def test_a_name_of_another_degree_leaves_its_run_out(tmp_path, name, tp, said):
    put(tmp_path / "other.json", vllm(max_concurrency=8))
    put(tmp_path / f"{name}.json", vllm())
    imported = read_source("vllm-bench", str(tmp_path), "H100", {"tp": tp})
    assert len(imported.tables["serving"]) == (1 if said else 2)
    assert [text[: len(said)] for text in imported.left_out] == ([said] if said else [])
    if said:
        assert said in refusal("vllm-bench", tmp_path / f"{name}.json", tp=tp)


def test_a_run_that_says_its_degree_itself_is_kept_beside_another_name_and_warned_of(tmp_path):
    source = put(tmp_path / "tp4/run.json", vllm(tensor_parallel_size=2))
    imported = read_source("vllm-bench", str(source), "H100")
    assert imported.tables["serving"]["tp"].tolist() == [2]
    (warning,) = imported.warnings
    assert "its name says TP 4, the run itself 2" in warning


# -- servers' logs ---------------------------------------------------------------------------------------------------


def log_of(path, more="", lines=""):
    path.write_text(ENGINE.format(model=LLAMA, more=more) + lines)
    return path


def test_the_blocks_of_the_weight_loader_are_none_of_the_cache(tmp_path):
    loader = (
        "INFO [weight_utils.py:884] Prefetching files (num_threads=8, block_size=16777216 bytes)\n"
    )
    log = log_of(tmp_path / "s.log", lines=loader + "INFO GPU KV cache size: 420,016 tokens\n")
    said = read_log(log)
    assert "block_size" not in said
    assert (said["kv_cache_tokens"], said["tp"], said["dtype"]) == (420_016, 2, "bf16")
    log_of(log, lines=f"INFO args: Namespace(block_size=32)\n{loader}")
    assert read_log(log)["block_size"] == 32


@pytest.mark.parametrize(
    ("more", "lines", "reason"),
    [
        ("data_parallel_size=2, ", "", "its server had 2 data-parallel replicas"),
        ("pipeline_parallel_size=4, ", "", "its server had 4 pipeline stages"),
        ("speculative_config=SpeculativeConfig(method='eagle'), ", "", "it decoded speculatively"),
        ("", "kv_transfer_config=KVTransferConfig(kv_role='kv_producer')\n", "disaggregated"),
    ],
)
def test_the_log_of_no_single_engine_is_refused(tmp_path, more, lines, reason):
    log = log_of(tmp_path / "s.log", more, lines)
    with pytest.raises(ImportFormatError, match=reason):
        read_log(log)
    log_of(log, "data_parallel_size=1, pipeline_parallel_size=1, speculative_config=None, ")
    assert read_log(log)["tp"] == 2


@pytest.mark.parametrize(
    ("result", "log"),
    [
        ("a.json", "a.log"),
        ("a.json", "a-server.log"),
        ("a-result.json", "a_server.log"),
        ("a_results.json", "a.log"),
        ("a.json", "vllm.log"),
        ("a.json", "server.log"),
    ],
)
def test_the_log_beside_a_result_fills_what_the_client_cannot_know(tmp_path, result, log):
    source = put(tmp_path / result, vllm())
    log_of(tmp_path / log, lines="INFO GPU KV cache size: 420,016 tokens\n")
    imported = read_source("vllm-bench", str(source), "H100")
    (row,) = imported.tables["serving"].to_dict("records")
    assert (row["tp"], row["engine"], row["kv_cache_tokens"]) == (2, "vllm 0.22.1", 420_016)
    assert f"From the server's log beside each result: {log}." in imported.info["notes"]


def test_a_log_beside_a_result_that_says_otherwise_is_passed_over_with_a_warning(tmp_path):
    source = put(tmp_path / "a.json", vllm(tensor_parallel_size=4))
    log_of(tmp_path / "server.log")
    imported = read_source("vllm-bench", str(source), "H100")
    assert imported.tables["serving"][["tp", "engine"]].to_numpy().tolist() == [[4, "vllm"]]
    (warning,) = imported.warnings
    assert "server.log beside it says tp 2 (here 4): it is passed over" in warning


def test_a_log_beside_a_result_of_several_engines_leaves_the_result_out(tmp_path):
    put(tmp_path / "a.json", vllm())
    put(tmp_path / "b.json", vllm(max_concurrency=8))
    log_of(tmp_path / "a.log", "data_parallel_size=2, ")
    imported = read_source("vllm-bench", str(tmp_path), "H100", {"tp": 2})
    assert imported.tables["serving"]["run_id"].tolist() == ["b"]
    assert "a.log: its server had 2 data-parallel replicas" in imported.left_out[0]


# -- AIPerf ----------------------------------------------------------------------------------------------------------


def test_aiperf_without_the_length_of_prompts_wants_it(tmp_path):
    times = {"ttft": ("time_to_first_token", 90.0), "itl": ("inter_token_latency", 14.6)}
    metrics = {name: {"unit": "ms", "avg": ms} for name, ms in times.values()}
    run = {
        **metrics,
        "request_latency": {"unit": "ms", "avg": 3000.0},
        "request_throughput": {"avg": 18.0},
        "output_sequence_length": {"avg": 200.0, "std": 90.0},
        "input_config": {
            "models": {"items": [{"name": "qwen3-8b"}]},
            "loadgen": {"concurrency": 56},
        },
    }
    source = put(tmp_path / "profile_export_aiperf.json", run)
    assert "does not say how many tokens a request had; give --input-tokens" in refusal(
        "aiperf", source, tp=1
    )
    (row,) = serving("aiperf", source, tp=1, input_tokens_mean=180).to_dict("records")
    assert (row["input_tokens_mean"], row["output_tokens_mean"]) == (180, 200)
    assert (row["model"], row["concurrency"], row["requests_per_s"]) == ("qwen3-8b", 56, 18.0)
    assert "output_tokens_per_s" not in row


# -- overload --------------------------------------------------------------------------------------------------------


SHORT = {
    "load": "poisson",
    "request_rate": 8.0,
    "num_requests": 512,
    "requests_per_s": 5.8,
    "ttft_ms_mean": 133.0,
    "itl_ms_mean": 29.0,
    "output_tokens_mean": 1000,
}


@pytest.mark.parametrize(
    ("row", "crowded"),
    [
        (SHORT, False),  # 64 s of arrivals and 29 s more: 5.5 a second is all that could be
        ({**SHORT, "requests_per_s": 3.0}, True),
        ({**SHORT, "output_tokens_mean": 100}, True),
        ({**SHORT, "output_tokens_mean": 500, "output_tokens_std": 250}, False),
        ({**SHORT, "itl_ms_mean": np.nan, "e2e_ms_mean": 29_100.0}, False),
        (
            {**SHORT, "output_tokens_mean": 200, "e2e_ms_p99": 29_100.0, "ttft_ms_p99": 227.0},
            False,
        ),
        (
            {**SHORT, "output_tokens_mean": 200, "e2e_ms_p99": 29_100.0, "ttft_ms_p99": 25_000.0},
            True,
        ),  # a queue, not a long request
    ],
)
def test_a_short_open_load_may_drain_as_long_as_its_longest_request_takes(row, crowded):
    assert overloaded(pd.DataFrame([row])).tolist() == [crowded]
