"""Steps composed of kernels of every kind, and what is taken out of their tables."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from calibrate.campaign.campaign import load_campaign, load_campaigns
from calibrate.campaign.folders import campaigns_for_others
from calibrate.fitting.objective import build_dataset
from calibrate.importers import read_source, write_campaign
from calibrate.importers.aiconfigurator_steps import Composer, Ranks, Step, sweep
from calibrate.importers.aiconfigurator_tables import read_tables
from calibrate.records.errors import CampaignError, ImportFormatError
from calibrate.trust.metrics import errors_by_slice
from sim.architecture_files import load_architecture
from sim.hardware import Hardware, gpu_specs
from tests.conftest import ROOT

_ENDS = (1, 32768)
_GEMM_MS, _ATTENTION_MS, _REDUCE_MS = 0.01, 0.5, 0.03


def _parquet(folder, name, columns, rows):
    path = folder / "h100_sxm" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=columns).to_parquet(path)


def _gemms(dtype, latency_ms, ends=_ENDS):
    sizes = (32, 65536)
    return [(dtype, m, n, k, latency_ms(m)) for m in ends for n in sizes for k in sizes]


@pytest.fixture
def package(tmp_path):
    """Tables of an imaginary H100 on which every kernel of a kind takes the same time."""
    gemm = ["gemm_dtype", "m", "n", "k", "latency"]
    stray = _gemms("fp8", lambda m: 5.0 if m == 1 else 1.0)
    rows = [*_gemms("bfloat16", lambda _: _GEMM_MS), *stray, *_gemms("fp8_block", lambda _: 9.0)]
    _parquet(tmp_path, "gemm/vllm/1.0/gemm_perf.parquet", gemm, rows)
    others = _gemms("fp8_block", lambda _: 0.02)
    _parquet(tmp_path, "gemm/trtllm/1.0/gemm_perf.parquet", gemm, others)
    for name, length in (("context", "isl"), ("generation", "step")):
        columns = ["num_heads", "num_key_value_heads", "head_dim", "kv_cache_dtype", "window_size"]
        shapes = [
            (32, 4, 128, "bfloat16", 0),
            (16, 2, 128, "bfloat16", 0),
            (64, 8, 64, "bfloat16", 0),
        ]
        windowed = [(64, 8, 64, "bfloat16", 128)]
        times = {0: _ATTENTION_MS, 128: _ATTENTION_MS / 10}
        grid = [(b, s) for b in (1, 2048) for s in (1, 131072)]
        rows = [(*s, *point, times[s[-1]]) for s in (*shapes, *windowed) for point in grid]
        file = f"attention/vllm/1.0/{name}_attention_perf.parquet"
        _parquet(tmp_path, file, [*columns, "batch_size", length, "latency"], rows)
        columns = ["num_heads", "gemm_type", "kv_cache_dtype", "batch_size", length, "latency"]
        rows = [(16, "fp8_block", "bfloat16", *point, 0.7) for point in grid]
        _parquet(tmp_path, f"mla/vllm/1.0/mla_{name}_module_perf.parquet", columns, rows)
    columns = ["allreduce_dtype", "backend", "num_gpus", "message_size", "latency"]
    rows = [("bfloat16", "vllm_graph", g, s, _REDUCE_MS) for g in (2, 4, 8) for s in (1, 2**30)]
    _parquet(tmp_path, "comm/vllm/1.0/custom_allreduce_perf.parquet", columns, rows)
    _parquet(tmp_path, "moe/vllm/1.0/moe_perf.parquet", _MOE_COLUMNS, list(_experts()))
    columns = ["phase", "kernel_source", "num_k_heads", "num_v_heads", "head_k_dim", "head_v_dim"]
    rows = [
        (phase, kernel, *_LINEAR_HEADS, *point, ms)
        for phase, kernel, ms in _LINEAR_KERNELS
        for point in grid
    ]
    columns += ["d_conv", "batch_size", "seq_len", "latency"]
    _parquet(tmp_path, "linear_attention/vllm/1.0/gdn_perf.parquet", columns, rows)
    return tmp_path


_LINEAR_HEADS = (16, 48, 128, 128, 4)
_LINEAR_KERNELS = (
    ("context", "causal_conv1d_fn", 0.2),
    ("context", "chunk_gated_delta_rule", 0.4),
    ("generation", "causal_conv1d_update", 0.1),
    ("generation", "fused_recurrent_gated_delta_rule", 0.05),
)
_MOE_COLUMNS = ["moe_dtype", "hidden_size", "inter_size", "topk", "num_experts"]
_MOE_COLUMNS += ["moe_tp_size", "moe_ep_size", "distribution", "num_tokens", "latency"]
_DRAWS = (
    ("power_law_1.01", 1.0),
    ("power_law_1.01", 8.0),
    ("power_law_1.2", 4.0),
    ("balanced", 0.1),
)


def _experts():
    """Two draws of 1 and 4 ms, of one a slower kernel too; shared whole by two GPUs, three times as long."""
    qwen, gpt_oss, deepseek = (2048, 768, 8, 128), (2880, 2880, 4, 32), (7168, 2048, 8, 256)
    of = [("bfloat16", qwen, 1, 1, 1), ("bfloat16", qwen, 1, 2, 3), ("bfloat16", qwen, 2, 1, 1)]
    of += [("w4a16_mxfp4", gpt_oss, 1, 1, 1), ("fp8_block", deepseek, 8, 1, 1)]
    for dtype, shape, tp, ep, factor in of:
        for draw, ms in _DRAWS:
            for tokens in (1, 16384):
                yield (dtype, *shape, tp, ep, draw, tokens, factor * ms)


def compose_ms(package, name, step, tp=1, ep=1, dtype=None):
    composer = Composer(read_tables(package / "h100_sxm", "vllm", PEAK_TB_PER_S))
    return composer.latency_ms(load_architecture(name, dtype), Ranks(tp, ep), step)


DECODE = Step("decode", 4, 1024)
PEAK_TB_PER_S = 3.35


def test_experts_are_the_mean_of_skewed_draws_by_the_fastest_kernel(package):
    layer = 3 * _GEMM_MS + _ATTENTION_MS + 2.0  # the router is the third GEMM; √(1·4) = 2
    assert compose_ms(package, "qwen3-30b-a3b", DECODE) == pytest.approx(48 * layer + 3 * _GEMM_MS)


def test_shared_whole_experts_are_those_of_the_busiest_gpu(package):
    split, shared = (compose_ms(package, "qwen3-30b-a3b", DECODE, 2, ep) for ep in (1, 2))
    assert shared - split == pytest.approx(48 * 4.0)
    layer = 3 * _GEMM_MS + _ATTENTION_MS + 2.0 + 2 * _REDUCE_MS
    assert split == pytest.approx(48 * layer + 2 * _GEMM_MS)


def test_a_window_has_kernels_of_its_own_once_it_cuts(package):
    near, far = (compose_ms(package, "gpt-oss-20b", Step("decode", 1, n)) for n in (128, 129))
    assert near - far == pytest.approx(12 * 0.9 * _ATTENTION_MS)


def test_latent_attention_is_one_module_with_its_projections(package):
    found = compose_ms(package, "deepseek-v3", DECODE, 8)
    shared, dense = 2 * 0.02, 2 * 0.02
    routed = _GEMM_MS + 2.0 + shared
    both = 0.7 + 2 * _REDUCE_MS
    assert found == pytest.approx(58 * (routed + both) + 3 * (dense + both) + _GEMM_MS)


def test_linear_attention_is_its_kernels_and_three_gemms_beside_gated_attention(package):
    composer = Composer(read_tables(package / "h100_sxm", "vllm", PEAK_TB_PER_S))
    arch = load_architecture("qwen3.5-27b")
    linear, full = (dataclasses.replace(arch, groups=(group,)) for group in arch.layer_groups)
    head, mlp = 4 * _GEMM_MS, 2 * _GEMM_MS
    prefill = composer.latency_ms(linear, Ranks(1), Step("prefill", 1, 1024))
    assert prefill - head == pytest.approx(48 * (0.6 + 3 * _GEMM_MS + mlp))
    assert np.isnan(composer.latency_ms(full, Ranks(1), DECODE))  # heads of 256 were not measured


def test_a_state_found_in_a_cache_takes_what_the_memory_allows(package):
    tables = read_tables(package / "h100_sxm", "vllm", PEAK_TB_PER_S)
    state_bytes = 2 * 4 * 48 * 128 * 128
    assert tables.linear_decode.latency_ms(_LINEAR_HEADS, 1) == pytest.approx(0.15)
    floor_ms = 2048 * state_bytes / (PEAK_TB_PER_S * 1e9)
    assert tables.linear_decode.latency_ms(_LINEAR_HEADS, 2048) == pytest.approx(0.1 + floor_ms)
    assert any("2 times of recurrent states faster" in one for one in tables.artefacts)


def test_launches_longer_than_those_of_more_rows_are_taken_out_and_counted(package):
    tables = read_tables(package / "h100_sxm", "vllm", PEAK_TB_PER_S)
    assert tables.gemm.latency_ms(("fp8",), 1, 64, 64) == pytest.approx(1.0)
    assert tables.gemm.latency_ms(("fp8_block",), 1, 64, 64) == pytest.approx(0.02)
    said = " ".join(tables.artefacts)
    assert "4 times of quantised GEMMs" in said
    assert "8 times of fp8 GEMMs by blocks" in said


def test_kinds_without_a_kernel_are_nan(package):
    assert np.isnan(compose_ms(package, "qwen3.5-27b", DECODE))
    assert np.isnan(compose_ms(package, "mixtral-8x7b", DECODE))
    assert np.isnan(compose_ms(package, "llama-3.1-8b", DECODE, dtype="int4"))


def test_a_sweep_is_every_pair():
    steps = list(sweep(((1, 2), (8,)), ((4,), (16, 32))))
    assert [(s.phase, s.batch, s.length, s.tokens) for s in steps] == [
        ("prefill", 1, 8, 8),
        ("prefill", 2, 8, 16),
        ("decode", 4, 16, 4),
        ("decode", 4, 32, 4),
    ]


def test_models_asked_for_are_composed_with_their_split_and_their_latency_model(package, tmp_path):
    imported = read_source(
        "aiconfigurator", str(package), "H100", models="qwen3-30b-a3b,qwen3-30b-a3b:nvfp4"
    )
    steps = imported.tables["steps"]
    assert sorted({*zip(steps["tp"], steps["ep"], strict=True)}) == [(1, 1), (2, 1), (2, 2)]
    assert any("no kernels of qwen3-30b-a3b:nvfp4" in text for text in imported.left_out)
    write_campaign(imported, tmp_path / "gt/H100/kinds")
    plain = tmp_path / "gt/H100/plain"
    plain.mkdir()
    (plain / "steps.csv").write_text(
        "model,tp,num_decode_requests,sum_decode_kv_tokens,latency_us\nllama-3.1-8b,1,1,100,9000\n"
    )
    root = tmp_path / "gt"
    assert [one.name for one in load_campaigns(root, "H100", (), None, ["roofline-v1"])] == [
        "plain"
    ]
    assert "--campaign kinds" in campaigns_for_others(root, "H100", ["roofline-v1"])[0]
    both = load_campaigns(root, "H100", (), None, ["roofline-v4"])
    assert [one.name for one in both] == ["kinds", "plain"]
    assert both[0].table.architectures[-1].ep == 2
    assert not campaigns_for_others(root, "H100", ["roofline-v4"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "vlm"}, "did you mean 'vllm'"),
        ({"models": "qwen3-30b-a3"}, "--models: .*qwen3-30b-a3b"),
        ({"models": "qwen3-30b-a3b", "ep": "1,x"}, "--ep '1,x'"),
        ({"models": "llama-3.1-8b:int4"}, "no step of llama-3.1-8b:int4"),
    ],
)
def test_what_cannot_be_composed_is_refused_in_words(package, options, message):
    with pytest.raises(ImportFormatError, match=message):
        read_source("aiconfigurator", str(package), "H100", **options)


def test_an_option_of_another_importer_is_refused(tmp_path):
    with pytest.raises(ImportFormatError, match="splitwise takes no --engine"):
        read_source("splitwise", str(tmp_path / "x.csv"), "H100", engine="vllm")


@pytest.mark.parametrize(
    ("columns", "cells", "message"),
    [
        ("ep", "3", "ep.*does not divide tp"),
        ("ep", "3", r"ep = 3: ep 3 does not divide the \d+ experts .* a divisor of their number"),
        ("ep", "0", "ep.*does not divide tp"),
        ("dp", "2", "dp.*data-parallel"),
        ("moe_dtype", "fp9", "moe_dtype.*not a weight type"),
    ],
)
def test_how_a_model_is_served_is_checked(tmp_path, columns, cells, message):
    folder = tmp_path / "H100/c"
    folder.mkdir(parents=True)
    (folder / "steps.csv").write_text(
        f"model,tp,{columns},num_decode_requests,sum_decode_kv_tokens,latency_us\n"
        f"qwen3-30b-a3b,4,{cells},1,100,9000\n"
    )
    problems = load_campaigns(tmp_path, "H100")[0].problems
    with pytest.raises(CampaignError, match=message):
        raise CampaignError([p for p in problems if p.severity == "error"])


@pytest.mark.parametrize(
    ("columns", "cells", "message"),
    [
        ("moe_dtype", "fp8", "moe_dtype = fp8: .*llama-3.1-8b has no experts.* Leave it empty"),
        ("ep", "2", "ep = 2: .*llama-3.1-8b has no experts.* 1 without experts"),
        ("moe_dtype,ep", "fp8,2", "model = llama-3.1-8b: .*has no experts"),
    ],
)
def test_what_only_experts_have_is_refused_of_a_dense_model(tmp_path, columns, cells, message):
    (tmp_path / "H100/c").mkdir(parents=True)
    (tmp_path / "H100/c/steps.csv").write_text(
        f"model,tp,{columns},num_decode_requests,sum_decode_kv_tokens,latency_us\n"
        f"llama-3.1-8b,4,{cells},1,100,9000\n"
    )
    problems = load_campaigns(tmp_path, "H100")[0].problems
    with pytest.raises(CampaignError, match=message):
        raise CampaignError([p for p in problems if p.severity == "error"])


SHIPPED = sorted((ROOT / "ground_truth").glob("*/aiconfigurator-*-2026"))


@pytest.mark.parametrize("folder", SHIPPED, ids=[folder.parent.name for folder in SHIPPED])
def test_shipped_steps_of_2026_are_good_and_small(folder):
    gpu = folder.parent.name
    assert len(SHIPPED) == 9
    files = [file for file in folder.parent.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 600_000
    hardware = Hardware(gpu, dict(gpu_specs()[gpu].values))
    (campaign,) = load_campaigns(ROOT / "ground_truth", gpu, [folder.name], hardware)
    assert [str(p) for p in campaign.problems if p.severity == "error"] == []
    assert campaign.info.latency_models == ("roofline-v4",)
    assert campaign.steps["model"].nunique() >= 4


def test_steps_with_experts_split_and_shared_are_no_replicates(tmp_path):
    """Nor are those of a cache in other types: their times differ by what is served, not by noise."""
    shared = [("ep", [1.0, 2.0]), ("kv_dtype", ["bf16", "fp8"])]
    for column, values in shared:
        steps = pd.DataFrame(
            {
                "model": "qwen3-30b-a3b",
                "tp": 2,
                column: values,
                "num_decode_requests": 8.0,
                "sum_decode_kv_tokens": 8192.0,
                "latency_us": [9000.0, 12000.0],
            }
        )
        folder = tmp_path / "H100" / column
        folder.mkdir(parents=True)
        steps.to_csv(folder / "steps.csv", index=False)
        campaign = load_campaign(folder, "H100")
        data = build_dataset([campaign], 0.05)
        assert data.sigma == pytest.approx([0.05, 0.05])


def test_errors_are_told_apart_by_layers_and_type_where_models_differ():
    models = ["llama-3.1-8b", "qwen3-30b-a3b"]
    frame = pd.DataFrame(
        {
            "phase": "decode",
            "model": models,
            "tp": 1,
            "campaign": "here",
            "layers": [load_architecture(name).kind for name in models],
            "dtype": "bf16",
            "ep": 1,
            "latency_us": [100.0, 100.0],
        }
    )
    found = errors_by_slice(np.array([110.0, 80.0]), frame)
    assert found["layers:dense"].bias == pytest.approx(0.1)
    assert found["layers:experts"].bias == pytest.approx(-0.2)
    assert not any(name.startswith(("dtype:", "ep:")) for name in found)
