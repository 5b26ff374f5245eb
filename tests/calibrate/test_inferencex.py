"""InferenceMAX's own results: seconds become milliseconds, and what the table cannot say is left out and named."""

import json

import pytest

from calibrate.campaign.campaign import load_campaign
from calibrate.importers import read_source, write_campaign
from calibrate.records.errors import ImportFormatError

AGG = {
    "hw": "h200-nv_2",
    "conc": 16,
    "image": "vllm/vllm-openai:v0.11.2",
    "model": "openai/gpt-oss-120b",
    "framework": "vllm",
    "precision": "fp4",
    "spec_decoding": "none",
    "disagg": False,
    "isl": 1000,
    "osl": 500,
    "is_multinode": False,
    "tp": 2,
    "ep": 1,
    "dp_attention": "false",
    "tput_per_gpu": 1200.0,
    "output_tput_per_gpu": 400.0,
    **{
        f"{word}_{name}": times * value
        for word, times in (("mean", 1.0), ("median", 0.5), ("p99", 2.0))
        for name, value in (("ttft", 0.125), ("tpot", 0.01), ("itl", 0.02), ("e2el", 4.625))
    },
}
HEADS = (
    "Model,ISL,OSL,Hardware,Hardware Key,Framework,Precision,TP,Concurrency,Output Throughput/GPU (tok/s),"
    "Mean TTFT ({0}),Median TTFT ({0}),Mean TPOT ({0}),Median TPOT ({0}),Median Interactivity (tok/s/user),"
    "Mean E2E Latency ({0}),Disaggregated,Spec Decoding,EP,DP Attention,Is Multinode"
)
SECONDS = (
    "Llama 3.1 70B,1000,500,H200,h200_trt,trt,fp8,8,4,100,0.2,0.1,0.01,0.008,125,4.7,false,none,1,,"
)
MILLISECONDS = "Llama 3.1 70B,1000,500,H200,h200,vllm,fp8,8,4,100,200,100,10,8,125,4700,false,,,,"


def results(tmp_path, *contents, name="agg_run.json"):
    path = tmp_path / name
    path.write_text(json.dumps(contents[0] if len(contents) == 1 else list(contents)))
    return path


def imported(path, gpu="H200", **said):
    return read_source("inferencemax", str(path), gpu, said)


def rows(path, gpu="H200", **said):
    return imported(path, gpu, **said).tables["serving"].to_dict("records")


def refusal(path, gpu="H200", **said):
    with pytest.raises(ImportFormatError) as error:
        imported(path, gpu, **said)
    return str(error.value)


def test_seconds_become_milliseconds_of_a_closed_load_point(tmp_path):
    (row,) = rows(results(tmp_path, AGG))
    assert (row["ttft_ms_mean"], row["ttft_ms_p50"], row["ttft_ms_p99"]) == (125, 62.5, 250)
    assert row["itl_ms_mean"] == 10, "TPOT, not the gaps of chunks"
    assert row["e2e_ms_mean"] == 4625
    assert (row["load"], row["concurrency"], row["num_requests"]) == ("closed", 16, 160)
    assert (row["tp"], row["engine"], row["run_id"]) == (2, "vllm 0.11.2", "agg_run")
    assert row["output_tokens_per_s"] == 800, "of both GPUs"


def test_lengths_are_drawn_evenly_between_four_fifths_and_the_nominal(tmp_path):
    (row,) = rows(results(tmp_path, AGG))
    assert (row["input_tokens_mean"], row["output_tokens_mean"]) == (900, 450)
    assert row["input_tokens_std"] == pytest.approx(200 / 12**0.5, abs=0.05)
    assert row["cached_input_tokens_mean"] == 0


def test_four_bits_are_the_type_of_a_models_own_file_and_else_left_to_the_user(tmp_path):
    (row,) = rows(results(tmp_path, AGG))
    assert row["dtype"] == "mxfp4"
    other = results(tmp_path, {**AGG, "model": "meta-llama/Llama-3.1-8B"}, name="agg_other.json")
    assert "give --dtype" in refusal(other)
    assert rows(other, dtype="int4")[0]["dtype"] == "int4"


def test_a_list_and_a_folder_hold_many(tmp_path):
    results(tmp_path, AGG, {**AGG, "conc": 32}, name="agg_bmk.json")
    results(tmp_path, {**AGG, "conc": 64}, name="agg_more.json")
    assert [row["concurrency"] for row in rows(tmp_path)] == [16, 32, 64]
    assert [row["stage"] for row in rows(tmp_path)] == ["0", "1", "0"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"hw": "b200"}, "was measured on b200, not on H200; import it with the --gpu that ran it"),
        ({"disagg": True}, "its server was disaggregated"),
        ({"is_multinode": True}, "its server spanned several nodes"),
        ({"dp_attention": "true"}, "its attention was data-parallel"),
        ({"spec_decoding": "mtp"}, "it decoded speculatively"),
        ({"mtp": "on"}, "it decoded speculatively"),
        ({"ep": 2}, "its experts were spread over GPUs"),
        ({"model": "deepseek-ai/DeepSeek-R1"}, "deepseek-r1 has latent attention"),
    ],
)
def test_what_the_table_cannot_say_is_left_out_and_named(tmp_path, changed, words):
    found = imported(results(tmp_path, AGG, {**AGG, **changed}))
    assert len(found.tables["serving"]) == 1
    (left_out,) = found.left_out
    assert "agg_run.json, result 2: " in left_out
    assert words in left_out
    assert words in refusal(results(tmp_path, {**AGG, **changed}))


@pytest.mark.parametrize("gpu", ["H200", "NVIDIA H200", "h200"])
def test_a_runner_is_known_by_any_name_of_its_gpu(tmp_path, gpu):
    assert len(rows(results(tmp_path, AGG), gpu)) == 1


def test_a_result_without_lengths_asks_for_them(tmp_path):
    path = results(tmp_path, {k: v for k, v in AGG.items() if k not in ("isl", "osl")})
    assert "give --input-tokens and --output-tokens" in refusal(path)
    (row,) = rows(path, input_tokens_mean=900, output_tokens_mean=450)
    assert (row["input_tokens_mean"], row["output_tokens_mean"]) == (900, 450)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"mean_ttft": -1}, "agg_run.json: mean_ttft must be 0 or more, got -1"),
        ({"median_tpot": "fast"}, "agg_run.json: median_tpot must be a number, got 'fast'"),
        ({"conc": 0}, "agg_run.json: conc must be 1 or more, got 0"),
        ({"model": None}, "agg_run.json: the field model_id is missing"),
    ],
)
def test_a_wrong_field_is_refused_in_words(tmp_path, changed, words):
    assert words in refusal(results(tmp_path, {**AGG, **changed}))


def test_medians_in_seconds_without_means_keep_their_percentiles(tmp_path):
    client = {
        "model_id": "meta-llama/Llama-3.1-8B",
        "request_rate": "inf",
        "max_concurrency": 8,
        "completed": 80,
        "total_input_tokens": 80_000,
        "total_output_tokens": 8_000,
        "request_throughput": 1.6,
        "output_throughput": 160.0,
        "median_ttft": 1.7,
        "p99_ttft": 4.6,
        "median_tpot": 0.02,
    }
    path = results(tmp_path, client)
    (row,) = rows(path, tp=1)
    assert (row["ttft_ms_p50"], row["ttft_ms_p99"], row["itl_ms_p50"]) == (1700, 4600, 20)
    assert "ttft_ms_mean" not in row
    assert (row["load"], row["concurrency"], row["num_requests"]) == ("closed", 8, 80)
    assert (row["input_tokens_mean"], row["output_tokens_mean"]) == (1000, 100), "its own totals"
    assert "cached_input_tokens_mean" not in row, "nobody says that these prompts were random"
    with pytest.raises(ImportFormatError, match="is for `calibrate import inferencemax`"):
        read_source("vllm-bench", str(path), "H200", {"tp": 1})


@pytest.mark.parametrize(("head", "line"), [("ms", SECONDS), ("s", SECONDS), ("ms", MILLISECONDS)])
def test_the_unit_of_the_sites_table_is_told_by_its_interactivity(tmp_path, head, line):
    path = tmp_path / "InferenceX.csv"
    path.write_text(f"{HEADS.format(head)}\n{line}\n")
    (row,) = rows(path)
    assert (row["ttft_ms_mean"], row["ttft_ms_p50"], row["itl_ms_mean"]) == (200, 100, 10)
    assert row["e2e_ms_mean"] == 4700
    assert (row["model"], row["tp"], row["dtype"]) == ("llama-3.1-70b", 8, "fp8")
    assert (row["concurrency"], row["input_tokens_mean"]) == (4, 900)
    assert row["engine"] in ("tensorrt-llm", "vllm")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (",125,", ",30,", "InferenceX.csv:2: Median TPOT (ms) = 0.008 is neither 1/Median Interac"),
        (",125,", ",0,", "InferenceX.csv:2: Median TPOT (ms) = 0.008 is neither"),
        (",125,", ",,", "InferenceX.csv:2: Median TPOT (ms) = 0.008 is neither"),
        (",4,100,", ",four,100,", "InferenceX.csv:2: Concurrency = four: must be a whole number"),
        ("0.2,0.1", "0.2,fast", "InferenceX.csv:2: Median TTFT (ms) = fast: must be a number"),
    ],
)
def test_a_bad_row_of_the_sites_table_is_named_with_its_line(tmp_path, old, new, words):
    path = tmp_path / "InferenceX.csv"
    path.write_text(f"{HEADS.format('ms')}\n{SECONDS.replace(old, new)}\n")
    assert words in refusal(path)


def test_the_campaign_is_without_a_finding(tmp_path):
    write_campaign(imported(results(tmp_path, AGG)), tmp_path / "H200/inferencex")
    campaign = load_campaign(tmp_path / "H200/inferencex", "H200")
    assert campaign.problems == ()
    assert len(campaign.serving) == 1
