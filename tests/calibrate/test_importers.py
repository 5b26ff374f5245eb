"""Importers: what they read, what they leave out, and what they refuse."""

import numpy as np
import pandas as pd
import pytest

from calibrate.campaign.campaign import load_campaigns
from calibrate.importers import read_source, write_campaign
from calibrate.importers.kernel_grid import Grid
from calibrate.records.errors import ImportFormatError
from sim import load_architecture, load_hardware
from sim.hardware import gpu_specs
from tests.conftest import GUIDE_H100

SPLITWISE_HEADER = (
    "model,hardware,prompt_size,batch_size,token_size,peak_power,average_power,"
    "prompt_time,token_time,e2e_time,tensor_parallel\n"
)
SPLITWISE = SPLITWISE_HEADER + (
    "llama2-70b,h100-80gb,512,2,128,0,0,80.0,37.0,4816,4\n"
    "llama2-70b,h100-80gb,512,2,128,0,0,82.0,36.0,4690,4\n"
    "bloom-176b,h100-80gb,1024,1,256,0,0,120.0,40.0,10360,8\n"
    "llama2-70b,a100-80gb,512,2,128,0,0,180.0,57.0,7476,4\n"
)


@pytest.fixture
def splitwise(tmp_path):
    path = tmp_path / "perf_model.csv"
    path.write_text(SPLITWISE)
    return path


def test_splitwise_becomes_a_prefill_and_a_decode_step_a_row(splitwise):
    steps = read_source("splitwise", str(splitwise), "H100").tables["steps"]
    prefill = steps[steps["num_prefill_requests"] > 0]
    decode = steps[steps["num_decode_requests"] > 0]
    assert len(prefill) == len(decode) == 3
    assert prefill["sum_prefill_tokens"].tolist() == [1024, 1024, 1024]
    assert decode["sum_decode_kv_tokens"].tolist() == [2 * (512 + 64), 2 * (512 + 64), 1024 + 128]
    assert prefill["latency_us"].tolist() == [80_000, 82_000, 120_000]
    assert decode["latency_us"].tolist() == [37_000, 36_000, 40_000]
    assert steps["model"].unique().tolist() == ["llama-2-70b", "bloom-176b"]


def test_splitwise_replicates_keep_a_run_of_their_own(splitwise):
    steps = read_source("splitwise", str(splitwise), "H100").tables["steps"]
    assert steps.groupby("run_id").size().tolist() == [2, 2, 2]
    assert {"tp4-p512-b2-t128-r1", "tp4-p512-b2-t128-r2"} < set(steps["run_id"])


@pytest.mark.parametrize(
    ("hardware", "gpu"),
    [
        ("a100-80gb", "A100-80"),
        ("a100-80gb", "a100-80gb"),
        ("a100-80gb", "A100-SXM"),
        ("A100", "A100-SXM"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("a100-80gb-pcap", "A100-80GB-PCAP"),
        ("Some GPU_24GB", "some-gpu-24gb"),
    ],
)
def test_splitwise_gpus_are_found_by_any_spelling(splitwise, hardware, gpu):
    splitwise.write_text(SPLITWISE.replace("a100-80gb", hardware))
    assert len(read_source("splitwise", str(splitwise), gpu).tables["steps"]) == 2


@pytest.mark.parametrize(
    ("content", "gpu", "message"),
    [
        (SPLITWISE, "L40S", "no row for GPU L40S"),
        ("a,b\n1,2\n", "H100", "perf_model.csv:1: model: the required column is missing"),
        (
            SPLITWISE.replace("80.0", "soon"),
            "H100",
            ":2: prompt_time = soon: must be a positive number",
        ),
        (SPLITWISE.replace("36.0", "-1"), "H100", ":3: token_time = -1: must be a positive number"),
        ("", "H100", "is empty"),
    ],
)
def test_a_bad_splitwise_file_is_refused_in_words(tmp_path, content, gpu, message):
    path = tmp_path / "perf_model.csv"
    path.write_text(content)
    with pytest.raises(ImportFormatError, match=message):
        read_source("splitwise", str(path), gpu)


def test_an_unknown_format_is_answered_with_the_nearest():
    with pytest.raises(ImportFormatError, match="did you mean 'splitwise'"):
        read_source("splitwize", "x", "H100")


def test_a_missing_file_is_an_import_error(tmp_path):
    with pytest.raises(ImportFormatError, match="cannot be read"):
        read_source("splitwise", str(tmp_path / "none.csv"), "H100")


def test_the_grid_is_exact_on_power_laws_and_never_extrapolates():
    x, y = np.array([1, 2, 8, 64]), np.array([16, 128, 1024])
    rows = pd.DataFrame(
        [(a, b, 0.5 * a**1.5 * b**0.7) for a in x for b in y], columns=["a", "b", "latency"]
    )
    grid = Grid.from_rows(rows, ("a", "b"))
    for a, b in ((1, 16), (64, 1024), (3, 200), (50, 17), (8, 1024)):
        assert grid.latency_ms(a, b) == pytest.approx(0.5 * a**1.5 * b**0.7, rel=1e-12)
    for a, b in ((0.5, 16), (65, 16), (8, 1025), (8, 15)):
        assert np.isnan(grid.latency_ms(a, b))


def test_an_axis_of_one_point_is_known_there_alone():
    rows = pd.DataFrame([(4, 1, 1.0), (4, 4, 2.0)], columns=["a", "b", "latency"])
    grid = Grid.from_rows(rows, ("a", "b"))
    assert grid.latency_ms(4, 2) == pytest.approx(2.0**0.5)
    assert np.isnan(grid.latency_ms(5, 2))


def test_beside_a_hole_of_the_grid_there_is_no_value_but_on_its_edge_there_is():
    rows = pd.DataFrame([(1, 1, 1.0), (1, 2, 2.0), (2, 1, 3.0)], columns=["a", "b", "latency"])
    grid = Grid.from_rows(rows, ("a", "b"))
    assert np.isnan(grid.latency_ms(1.5, 1.5))
    assert grid.latency_ms(1, 2) == pytest.approx(2.0)
    assert grid.latency_ms(1.5, 1) > 1.0


def kernel_tables(folder, scale=1.0):
    """A data folder whose kernels follow simple laws, so that every composed step can be worked out by hand."""
    sizes = [64, 1024, 8192, 65536]
    frames = {
        "gemm/vllm/0.9.0/gemm_perf.parquet": pd.DataFrame(
            [
                ("bfloat16", m, n, k, scale * 1e-9 * m * n * k / 1e3)
                for m in (1, 32768)
                for n in sizes
                for k in sizes
            ],
            columns=["gemm_dtype", "m", "n", "k", "latency"],
        ),
        "comm/vllm/0.9.0/custom_allreduce_perf.parquet": pd.DataFrame(
            [("bfloat16", "vllm_graph", g, s, 1e-6 * s) for g in (2, 4, 8) for s in (128, 2**30)],
            columns=["allreduce_dtype", "backend", "num_gpus", "message_size", "latency"],
        ),
    }
    heads = [(h // tp, kv // tp) for h, kv in ((32, 8), (64, 8)) for tp in (1, 2, 4, 8)]
    for name, length in (("context", "isl"), ("generation", "step")):
        frames[f"attention/vllm/0.9.0/{name}_attention_perf.parquet"] = pd.DataFrame(
            [
                (h, kv, 128, "bfloat16", 0, b, s, 1e-6 * b * s)
                for h, kv in heads
                for b in (1, 2048)
                for s in (1, 131071)
            ],
            columns=[
                "num_heads",
                "num_key_value_heads",
                "head_dim",
                "kv_cache_dtype",
                "window_size",
                "batch_size",
                length,
                "latency",
            ],
        )
    for name, frame in frames.items():
        path = folder / "h100_sxm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(path)
    return folder


def test_a_kernel_that_takes_no_time_is_named_with_its_row(tmp_path):
    path = kernel_tables(tmp_path) / "h100_sxm/gemm/vllm/0.9.0/gemm_perf.parquet"
    rows = pd.read_parquet(path)
    rows.loc[2, "latency"] = 0.0
    rows.to_parquet(path)
    with pytest.raises(
        ImportFormatError, match=r"gemm_perf.parquet:4: latency = 0.0: must be a positive"
    ):
        read_source("aiconfigurator", str(tmp_path), "H100")


def test_a_step_is_the_sum_of_its_kernels(tmp_path):
    imported = read_source("aiconfigurator", str(kernel_tables(tmp_path)), "H100")
    steps = imported.tables["steps"]
    chosen = (
        (steps["model"] == "llama-3.1-8b")
        & (steps["tp"] == 2)
        & (steps["sum_prefill_tokens"] == 4 * 512)
    )
    row = steps[chosen & (steps["num_prefill_requests"] == 4)].iloc[0]
    d, ff, tokens = 4096, 14336, 2048
    shapes = [((16 + 2 * 4) * 128, d), (d, 16 * 128), (ff, d), (d, ff // 2)]
    gemm_ms = sum(1e-12 * tokens * n * k for n, k in shapes)
    layer_ms = gemm_ms + 1e-6 * tokens + 2 * 1e-6 * tokens * d
    head_ms = 1e-12 * 4 * (128256 // 2) * d  # the last token of each of four prompts
    assert row["latency_us"] == pytest.approx((32 * layer_ms + head_ms) * 1e3, rel=1e-5)
    assert imported.info["kind"] == "kernel-composed"
    assert "host time" in imported.info["notes"]
    assert "0.9.0" in imported.info["engine"]


def test_a_head_wider_than_every_measured_gemm_is_computed_in_equal_parts(tmp_path):
    folder = kernel_tables(tmp_path)
    path = folder / "h100_sxm/gemm/vllm/0.9.0/gemm_perf.parquet"
    pd.read_parquet(path).assign(latency=1.0).to_parquet(path)
    steps = read_source("aiconfigurator", str(folder), "H100").tables["steps"]
    chosen = (
        (steps["model"] == "qwen3-32b")
        & (steps["num_decode_requests"] == 1)
        & (steps["sum_decode_kv_tokens"] == 256)
    )
    latency_ms = steps[chosen].set_index("tp")["latency_us"] / 1e3
    layers_ms = 64 * (4 * 1.0 + 1e-6 * 256)
    # 151,936 of vocabulary are 2.3 times as wide as the widest GEMM; half of it on two GPUs 1.2 times
    assert latency_ms[1] == pytest.approx(layers_ms + 3 * 1.0)
    assert latency_ms[2] == pytest.approx(layers_ms + 2 * 1.0 + 64 * 2 * 1e-6 * 5120)


def test_models_that_do_not_fit_in_memory_are_not_composed(tmp_path):
    steps = read_source("aiconfigurator", str(kernel_tables(tmp_path)), "H100").tables["steps"]
    assert sorted(steps[steps["model"] == "llama-3.1-70b"]["tp"].unique()) == [2, 4, 8]
    memory = gpu_specs()["H100"].values["MemoryGiB"] * 2**30
    for model, rows in steps.groupby("model"):
        arch = load_architecture(model)
        kv = 4 * arch.num_layers * np.maximum(arch.kv_heads / rows["tp"], 1) * 128
        tokens = rows["sum_prefill_tokens"] + rows["sum_decode_kv_tokens"]
        assert (2 * arch.total_params / rows["tp"] + kv * tokens <= memory).all()


def test_points_outside_the_measured_grid_are_left_out_and_counted(tmp_path):
    folder = kernel_tables(tmp_path)
    path = folder / "h100_sxm/comm/vllm/0.9.0/custom_allreduce_perf.parquet"
    pd.read_parquet(path).query("message_size < 1000 or num_gpus != 8").to_parquet(path)
    imported = read_source("aiconfigurator", str(folder), "H100")
    assert (imported.tables["steps"]["tp"] < 8).all()
    assert int(imported.left_out[0].split()[0]) > 100


@pytest.mark.parametrize(
    ("gpu", "message"), [("V100", "no tables for GPU"), ("H200", "no version of it has")]
)
def test_tables_that_are_not_there_are_named(tmp_path, gpu, message):
    with pytest.raises(ImportFormatError, match=message):
        read_source("aiconfigurator", str(kernel_tables(tmp_path)), gpu)


def test_an_imported_campaign_loads_without_a_finding(tmp_path, splitwise):
    write_campaign(read_source("splitwise", str(splitwise), "H100"), tmp_path / "gt/H100/splitwise")
    hardware = load_hardware({"H100": GUIDE_H100})
    (campaign,) = load_campaigns(tmp_path / "gt", "H100", hardware=hardware)
    assert campaign.problems == ()
    assert len(campaign.steps) == 6
    assert campaign.info.licence == "MIT"


def test_kernel_tables_hold_the_packages_own_points(tmp_path):
    tables = read_source("aiconfigurator", str(kernel_tables(tmp_path)), "H100").tables
    gemm, reduce = tables["gemm"], tables["allreduce"]
    assert gemm[["m", "n", "k"]].to_numpy().tolist() == [
        [m, n, k] for m in (1, 32768) for n in (1024, 8192, 65536) for k in (1024, 8192, 65536)
    ]
    assert gemm["latency_us"].tolist() == pytest.approx(
        (1e-9 * gemm["m"] * gemm["n"] * gemm["k"]).tolist(), rel=1e-3, abs=0.006
    )
    assert reduce["bytes"].tolist() == [256, 2**31] * 3  # elements of two bytes
    assert reduce["latency_us"].tolist() == pytest.approx([0.13, 1e-3 * 2**30] * 3)
    # None of the usual lengths is in those grids
    assert set(tables) == {"steps", "gemm", "allreduce"}
