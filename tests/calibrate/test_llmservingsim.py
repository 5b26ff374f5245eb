"""LLMServingSim's folders: what a step is composed of, what the kernel tables hold, a run's row, and refusals."""

import json

import pytest

from calibrate.campaign.campaign import load_campaign
from calibrate.importers import read_source, write_campaign
from calibrate.records.errors import ImportFormatError
from tests.conftest import ROOT

SHARED = ROOT.parent / "shared/ground_truth/llmservingsim"
LAYERS = {
    "embedding": 3.0,
    "layernorm": 2.0,
    "qkv_proj": 40.0,
    "rotary_emb": 4.0,
    "o_proj": 30.0,
    "gate_up_proj": 160.0,
    "act_fn": 5.0,
    "down_proj": 90.0,
    "final_layernorm": 6.0,
}
LAUNCHES = ["0,0,2,100,10", "8,0,0,0,12", "8,64,0,0,14", "8,64,2,100,20", "16,0,1,50,30"]
LAYER_US = 2 * 2 + 40 + 4 + 30 + 160 + 5 + 90
"""A layer's time but for attention: its norm twice, all else once."""
ONCE_US = 3 + 6 + 1100 + 25


def profile(folder, model="meta-llama/Llama-3.1-8B", degrees=(1,), layers=LAYERS, **meta):
    folder.mkdir(parents=True)
    said = {"model": model, "vllm_version": "0.19.0", "hardware": "RTX4090", "variant": "bf16"}
    (folder / "meta.yaml").write_text(json.dumps({**said, "gpu": "NVIDIA GeForce RTX 4090"} | meta))
    for tp in degrees:
        part = folder / f"tp{tp}"
        part.mkdir()
        dense = [f"{name},{m},{us}" for name, us in layers.items() for m in (1, 16)]
        (part / "dense.csv").write_text("\n".join(["layer,tokens,time_us", *dense]))
        head = [f"{n},{s},{us}" for n, us in (("lm_head", 1100), ("sampler", 25)) for s in (1, 4)]
        (part / "per_sequence.csv").write_text("\n".join(["layer,sequences,time_us", *head]))
        names = "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us"
        (part / "attention.csv").write_text("\n".join([names, *LAUNCHES]))
    return folder


def run(folder, hardware="RTX4090", requests=None, **options):
    where = folder / "vllm"
    where.mkdir(parents=True)
    nodes = [{"instances": [{"hardware": hardware}]}]
    (folder / "config.json").write_text(json.dumps({"nodes": nodes}))
    kwargs = {"tensor_parallel_size": 2, "max_num_seqs": 128, "dtype": "bfloat16"} | options
    meta = {"model": "Qwen/Qwen3-32B", "vllm_version": "0.19.0", "engine_kwargs": kwargs}
    cache = {"num_kv_tokens": 41408, "block_size": 16}
    (where / "meta.json").write_text(json.dumps({**meta, "num_requests": 5, "kv_cache": cache}))
    lines = REQUESTS if requests is None else requests
    (where / "requests.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


REQUESTS = [
    {
        "request_id": f"bench-{i}",
        "input_toks": 100 + 10 * i,
        "output_toks": 11,
        "arrival_time": 1_777_000_000.0 + at,
        "queued_ts": 500.0 + at,
        "scheduled_ts": 500.0 + at,
        "first_token_ts": 500.2 + at,
        "last_token_ts": 500.7 + at,
    }
    for i, at in enumerate([0.0, 0.1, 0.9, 1.0])
]


def imported(path, gpu="RTX4090"):
    return read_source("llmservingsim", str(path), gpu)


def refusal(path, gpu="RTX4090"):
    with pytest.raises(ImportFormatError) as error:
        imported(path, gpu)
    return str(error.value)


def test_a_step_is_the_sum_of_its_layers_attention_and_head(tmp_path):
    steps = imported(profile(tmp_path / "p")).tables["steps"]
    decode, prefill, cached, mixed = steps.to_dict("records")
    for row, attention_us in ((decode, 10), (prefill, 12), (cached, 14), (mixed, 20)):
        assert row["latency_us"] == 32 * (LAYER_US + attention_us) + ONCE_US
    assert (mixed["num_prefill_requests"], mixed["sum_prefill_tokens"]) == (1, 8)
    assert (mixed["sum_prefill_kv_tokens"], mixed["num_decode_requests"]) == (64, 2)
    assert mixed["sum_decode_kv_tokens"] == 200, "of both decodes"
    assert (mixed["model"], mixed["tp"], mixed["dtype"]) == ("llama-3.1-8b", 1, "bf16")
    assert mixed["run_id"] == "llama-3.1-8b-tp1-p8-d2"


def test_qk_norms_count_where_the_model_has_them(tmp_path):
    layers = {**LAYERS, "qk_norm": 7.0}
    steps = imported(profile(tmp_path / "p", "Qwen/Qwen3-8B", layers=layers)).tables["steps"]
    assert steps["latency_us"].iloc[0] == 36 * (LAYER_US + 7 + 10) + ONCE_US


def test_experts_are_those_that_so_many_tokens_choose(tmp_path):
    mlp = ("gate_up_proj", "act_fn", "down_proj")
    layers = {**{name: us for name, us in LAYERS.items() if name not in mlp}, "qk_norm": 7.0}
    large = {"hardware": "PRO", "gpu": "NVIDIA RTX PRO 6000 Blackwell Server Edition"}
    folder = profile(tmp_path / "p", "Qwen/Qwen3-30B-A3B-Instruct-2507", layers=layers, **large)
    moe = ["1,8,100", "16,8,100", "16,128,1300"]
    (folder / "tp1/moe.csv").write_text("\n".join(["tokens,activated_experts,time_us", *moe]))
    found = imported(tmp_path / "p", "RTX-PRO-6000-Server")
    steps = found.tables["steps"].set_index("run_id")["latency_us"]
    layer_us = 2 * 2 + 40 + 7 + 4 + 30
    of_sixteen = 128 * (1 / (1 + 1))  # a mean load of 16 · 8 / 128 = 1
    at_eight = 100 + (1300 - 100) * (of_sixteen - 8) / (128 - 8) * (8 - 1) / (16 - 1)
    prefill = steps["qwen3-30b-a3b-2507-tp1-p8-d0"].iloc[0]
    assert prefill == pytest.approx(48 * (layer_us + 12 + at_eight) + ONCE_US, abs=0.01)


def test_one_in_so_many_mixed_steps_is_kept(tmp_path):
    profile(tmp_path / "p")
    attention = tmp_path / "p/tp1/attention.csv"
    more = [f"8,0,2,{context},20" for context in (10, 20, 30, 40)]
    attention.write_text("\n".join([attention.read_text(), *more]))
    found = read_source("llmservingsim", str(tmp_path), "RTX4090", every="3")
    is_mixed = found.tables["steps"].query("num_prefill_requests > 0 and num_decode_requests > 0")
    assert is_mixed["sum_decode_kv_tokens"].tolist() == [200, 60], "the first of three, and so on"
    assert len(found.tables["steps"]) == 3 + 2
    assert "3 steps beside prompts: one in 3 is kept" in "\n".join(found.left_out)
    with pytest.raises(ImportFormatError, match="--every 0: must be a whole number from 1"):
        read_source("llmservingsim", str(tmp_path), "RTX4090", every="0")


def test_a_name_of_hardware_is_what_its_profiles_say(tmp_path):
    device = "NVIDIA RTX PRO 6000 Blackwell Server Edition"
    profile(tmp_path / "p", hardware="RTXPRO6000", gpu=device)
    run(tmp_path / "run", hardware="RTXPRO6000")
    found = imported(tmp_path, "RTX-PRO-6000-Server")
    assert (len(found.tables["steps"]), len(found.tables["serving"])) == (4, 1)
    assert f"ran on {device}" in refusal(tmp_path, "RTX-PRO-6000")


def test_layers_are_interpolated_between_what_was_measured(tmp_path):
    folder = profile(tmp_path / "p")
    dense = folder / "tp1/dense.csv"
    dense.write_text(dense.read_text().replace("qkv_proj,16,40.0", "qkv_proj,16,70.0"))
    prefill = imported(folder).tables["steps"].iloc[1]
    qkv_us = 40 + 30 * (8 - 1) / (16 - 1)
    assert prefill["latency_us"] == pytest.approx(32 * (LAYER_US - 40 + qkv_us + 12) + ONCE_US)


def test_kernel_tables_hold_what_was_launched_alone(tmp_path):
    tables = imported(profile(tmp_path / "p", degrees=(1, 2))).tables
    prefill, decode = tables["attention_prefill"], tables["attention_decode"]
    assert prefill[["num_heads", "num_kv_heads", "seq_len"]].to_numpy().tolist() == [
        [32, 8, 8],
        [16, 4, 8],
    ], "heads of a rank, no chunk with tokens cached"
    assert decode[["num_heads", "batch_size", "kv_len", "tp"]].to_numpy().tolist() == [
        [32, 2, 100, 1],
        [32, 2, 100, 2],
    ]
    gemm = {tuple(row) for row in tables["gemm"][["m", "n", "k"]].to_numpy().tolist()}
    assert {(1, 6144, 4096), (16, 4096, 14336), (4, 128256, 4096), (4, 64128, 4096)} <= gemm


def test_what_cannot_be_composed_is_left_out_and_counted(tmp_path):
    profile(tmp_path / "a", degrees=(1, 2))
    profile(tmp_path / "b", "Qwen/Qwen3-30B-A3B-Instruct-2507")
    profile(tmp_path / "c", layers={**LAYERS, "linear_attention": 1.0})
    profile(tmp_path / "d", layers={k: v for k, v in LAYERS.items() if k != "o_proj"})
    profile(tmp_path / "e", hardware="H100", gpu="NVIDIA H100 80GB HBM3")
    profile(tmp_path / "f", "some/Model-9B")
    words = "\n".join(imported(tmp_path).left_out)
    assert "a/tp1: 1 steps of more tokens or requests than were profiled" in words
    assert "a/tp2: 5 steps: the profile holds no all-reduce" in words
    assert "b/tp1: 5 steps: the profile holds no experts (moe.csv)" in words
    assert "c/tp1: 5 steps: its layer linear_attention has no place here" in words
    assert "d/tp1: 5 steps: the layer o_proj is missing" in words
    assert "e: was profiled on NVIDIA H100 80GB HBM3" in words
    assert "f: its model some/Model-9B is not in the registry" in words


def test_a_run_is_a_row_under_the_engines_own_times(tmp_path):
    (row,) = imported(run(tmp_path / "RTX4090/Qwen3-32B")).tables["serving"].to_dict("records")
    assert (row["model"], row["tp"], row["dtype"]) == ("qwen3-32b", 2, "bf16")
    assert (row["num_requests"], row["failed_requests"]) == (5, 1)
    assert row["ttft_ms_mean"] == pytest.approx(200)
    assert row["itl_ms_mean"] == pytest.approx(50), "half a second over ten tokens"
    assert row["e2e_ms_p99"] == pytest.approx(700)
    assert (row["input_tokens_mean"], row["output_tokens_mean"]) == (115, 11)
    assert (row["max_num_seqs"], row["kv_cache_tokens"], row["block_size"]) == (128, 41408, 16)
    assert row["requests_per_s"] == pytest.approx(4 / 1.7, abs=1e-4)
    assert row["run_id"] == "RTX4090-Qwen3-32B"


def test_runs_that_say_nothing_of_one_engine_here_are_named(tmp_path):
    run(tmp_path / "good")
    run(tmp_path / "replicas", data_parallel_size=2)
    run(tmp_path / "other", hardware="H100")
    (run(tmp_path / "empty") / "vllm/requests.jsonl").unlink()
    words = "\n".join(imported(tmp_path).left_out)
    assert "replicas/vllm: its server had 2 data-parallel replicas" in words
    assert "other/vllm: ran on H100" in words
    assert "empty/vllm: a run without requests.jsonl" in words


def test_a_run_whose_requests_are_cut_off_is_not_taken_for_the_whole(tmp_path):
    requests = run(tmp_path / "cut") / "vllm/requests.jsonl"
    requests.write_text(requests.read_text()[:-20])
    assert "is cut off: what is left is not the run" in refusal(tmp_path / "cut")


def test_a_request_whose_times_go_back_is_named_with_its_line(tmp_path):
    wrong = [REQUESTS[0], {**REQUESTS[1], "first_token_ts": 1.0}]
    words = "requests.jsonl:2: queued_ts, first_token_ts and last_token_ts must follow one another"
    assert words in refusal(run(tmp_path / "r", requests=wrong))


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("attention.csv", ",20", ",-20", "attention.csv:5: time_us = -20: must be a positive"),
        ("dense.csv", "embedding,16", "embedding,many", "dense.csv:3: tokens = many: must be a"),
        ("per_sequence.csv", "sequences", "rows", "per_sequence.csv:1: sequences: the required"),
    ],
)
def test_a_bad_cell_of_a_profile_is_named(tmp_path, file, old, new, words):
    path = profile(tmp_path / "p") / "tp1" / file
    path.write_text(path.read_text().replace(old, new))
    assert words in refusal(tmp_path)


def test_a_folder_with_nothing_of_the_gpu_says_what_it_has(tmp_path):
    assert "none: no such folder" in refusal(tmp_path / "none")
    assert "no profile or run of RTX4090 (neither meta.yaml nor meta.json in it)" in refusal(
        tmp_path
    )
    profile(tmp_path / "p")
    assert "no profile or run of H100 (" in refusal(tmp_path, "H100")
    assert "was profiled on NVIDIA GeForce RTX 4090" in refusal(tmp_path, "H100")
    assert len(imported(tmp_path, "RTX-4090").tables["steps"]) == 4


def test_the_campaign_is_read_back(tmp_path):
    profile(tmp_path / "source/perf", degrees=(1, 2))
    run(tmp_path / "source/run")
    write_campaign(imported(tmp_path / "source"), tmp_path / "RTX4090/sim")
    campaign = load_campaign(tmp_path / "RTX4090/sim", "RTX4090")
    assert not [problem for problem in campaign.problems if problem.severity == "error"]
    assert (len(campaign.steps), len(campaign.serving)) == (4, 1)
    assert campaign.info.kind == "kernel-composed"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared measurements are not here")
def test_the_published_folder_is_read():
    found = imported(SHARED)
    steps = found.tables["steps"]
    assert len(steps) == 5795
    assert ((steps["num_prefill_requests"] > 0) & (steps["num_decode_requests"] > 0)).sum() == 5628
    assert any("1,792 steps whose KV cache would not fit" in words for words in found.left_out)
    (row,) = found.tables["serving"].to_dict("records")
    assert row["itl_ms_mean"] == pytest.approx(32.4466, abs=1e-3)
    assert (row["num_requests"], row["kv_cache_tokens"]) == (300, 41408)
