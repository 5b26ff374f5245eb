"""Steps and kernels faster or far slower than the peaks allow, with the cause that fits."""

import numpy as np
import pandas as pd
import pytest

from calibrate.campaign.campaign import load_campaign
from calibrate.campaign.physics import KERNELS, check_kernels_physics, fastest_us
from calibrate.records.schema import COLLECTIVES, TABLES
from sim import StepTable
from tests.synthetic import synthetic_steps, write_campaign

LATENT = {"cache_rank": 512, "nope_dim": 128, "rope_dim": 64, "value_dim": 128}
BIG = {
    "gemm": {"m": 4096, "n": 8192, "k": 8192},
    "attention_prefill": {
        "num_heads": 32,
        "num_kv_heads": 8,
        "head_dim": 128,
        "batch_size": 4,
        "seq_len": 8192,
    },
    "attention_decode": {
        "num_heads": 32,
        "num_kv_heads": 8,
        "head_dim": 128,
        "batch_size": 128,
        "kv_len": 8192,
    },
    "memory": {"op": "copy", "bytes": 4_000_000_000},
    "moe": {
        "num_tokens": 16384,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_experts": 8,
        "experts_per_token": 2,
    },
    "mla_prefill": {**LATENT, "num_heads": 128, "batch_size": 4, "seq_len": 8192},
    "mla_decode": {**LATENT, "num_heads": 16, "batch_size": 128, "kv_len": 8192},
    **{name: {"tp": 8, "bytes": 100_000_000} for name in COLLECTIVES},
}
FLOOR_US = {  # worked out by hand at 989.5 TFLOP/s, 3.35 TB/s and 450 GB/s
    "gemm": 2 * 4096 * 8192 * 8192 / 989.5e6,
    "attention_prefill": 4 * 32 * 128 * 4 * 8192 * 8193 / 2 / 989.5e6,
    "attention_decode": 2 * 2 * 128 * 8192 * 8 * 128 / 3.35e6,
    "memory": 4e9 / 3.35e6,
    "moe": 6 * 16384 * 2 * 4096 * 14336 / 989.5e6,
    "mla_prefill": 2 * 128 * (128 + 64 + 128) * 4 * 8192 * 8193 / 2 / 989.5e6,
    "mla_decode": 2 * 128 * 8192 * (512 + 64) / 3.35e6,
    "allreduce": 1e8 / 450e3,
    "allgather": 7e8 / 8 / 450e3,
    "alltoall": 7e8 / 8 / 450e3,
}


def table(name, *latencies, **changes):
    frame = pd.DataFrame([{**BIG[name], **changes, "latency_us": value} for value in latencies])
    return frame.assign(line=np.arange(2, 2 + len(frame)))


@pytest.fixture
def linked(h100):
    return h100.with_values({"IntraNodeBwGBps": 450.0})


def test_every_kernel_table_has_its_work():
    assert set(KERNELS) == set(BIG) == set(TABLES) - {"steps", "requests", "serving"}


@pytest.mark.parametrize("name", KERNELS)
def test_the_floor_under_a_kernel_is_what_the_peaks_allow(linked, name):
    floor = FLOOR_US[name]
    frame = table(name, floor * 0.999, floor * 1.001, floor * 20)
    possible, (problem,) = check_kernels_physics("f.csv", name, frame, linked)
    assert possible.tolist() == [False, True, True]
    assert (problem.severity, problem.lines, problem.column) == ("error", (2,), "latency_us")


@pytest.mark.parametrize("name", KERNELS)
def test_a_latency_next_to_nothing_is_infinitely_too_fast(linked, name):
    possible, (problem,) = check_kernels_physics("f.csv", name, table(name, 5e-324), linked)
    assert not possible.any()
    assert "inf times the value" in problem.message


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (1e-3, "milliseconds given as microseconds, or seconds as milliseconds: multiply by 1000"),
        (1e-6, "seconds given as microseconds: multiply by 1000000"),
    ],
)
def test_units_too_large_by_a_thousand_are_named(linked, name, factor, words):
    frame = table(name, *(FLOOR_US[name] * slowness * factor for slowness in (1.2, 1.6, 3.0)))
    possible, (problem,) = check_kernels_physics("f.csv", name, frame, linked)
    assert not possible.any()
    assert words in problem.fix


@pytest.mark.parametrize("name", ["memory", "allreduce"])
def test_bits_given_as_bytes_are_named(linked, name):
    frame = table(name, FLOOR_US[name] * 1.2, bytes=8 * BIG[name]["bytes"])
    _, (problem,) = check_kernels_physics("f.csv", name, frame, linked)
    assert "bits given as bytes: divide bytes by 8" in problem.fix


@pytest.mark.parametrize("name", KERNELS)
def test_nanoseconds_given_as_microseconds_are_a_warning(linked, name):
    frame = table(
        name, *(FLOOR_US[name] * slowness * 1000 for slowness in (1.2, 1.6)), FLOOR_US[name] * 50
    )
    possible, (problem,) = check_kernels_physics("f.csv", name, frame, linked)
    assert possible.all()
    assert (problem.severity, problem.lines) == ("warning", (2, 3))
    assert "nanoseconds given as microseconds (divide by 1000)" in problem.fix


def test_fp8_not_declared_is_named_and_declared_it_passes(h100):
    frame = table("gemm", FLOOR_US["gemm"] * 0.6)
    _, (problem,) = check_kernels_physics("f.csv", "gemm", frame, h100)
    assert "fp8 (say so in the dtype column)" in problem.fix
    assert check_kernels_physics("f.csv", "gemm", frame.assign(dtype="fp8"), h100)[0].all()
    assert check_kernels_physics("f.csv", "gemm", frame.assign(dtype="nvfp4"), h100)[0].all()
    assert not check_kernels_physics("f.csv", "gemm", frame.assign(dtype="bf16"), h100)[0].any()


def test_small_traffic_may_come_from_the_cache_but_only_so_fast(h100):
    megabytes = 16_000_000
    floor = megabytes / 3.35e6
    frame = table("memory", floor / 5, floor / 9, bytes=megabytes)
    assert check_kernels_physics("f.csv", "memory", frame, h100)[0].tolist() == [True, False]


def test_launch_time_is_no_slowness(linked):
    frame = table("gemm", 20.0, m=1, n=64, k=64)
    assert check_kernels_physics("f.csv", "gemm", frame, linked) == (pytest.approx([True]), [])


def test_a_tensor_parallel_decode_shares_heads_and_cache(h100):
    frame = table("attention_decode", FLOOR_US["attention_decode"] / 3)
    assert not check_kernels_physics("f.csv", "attention_decode", frame, h100)[0].any()
    assert check_kernels_physics("f.csv", "attention_decode", frame.assign(tp=4.0), h100)[0].all()


def test_links_of_unknown_speed_and_a_single_gpu_set_no_floor(h100, linked):
    frame = table("allreduce", 0.1)
    assert check_kernels_physics("f.csv", "allreduce", frame, h100)[0].all()
    assert check_kernels_physics("f.csv", "allreduce", frame.assign(tp=1), linked)[0].all()


def test_kernel_tables_of_a_campaign_are_checked_for_physics_repeats_and_replicates(
    tmp_path, linked
):
    folder = tmp_path / "H100/kernels"
    folder.mkdir(parents=True)
    (folder / "campaign.toml").write_text('title = "kernels"\n')
    wide = [FLOOR_US["gemm"] * x for x in (1.5, 2.0, 2.5)]
    outlier = [FLOOR_US["gemm"] * x for x in (1.5, 1.501, 1.502, 4.0)]
    frame = pd.concat(
        [
            table("gemm", *wide),
            table("gemm", *outlier, m=8192).assign(latency_us=np.multiply(outlier, 2)),
        ]
    )
    frame = pd.concat([frame, table("gemm", wide[0], wide[0], 0.1, m=4097)])
    frame.drop(columns="line").to_csv(folder / "gemm.csv", index=False)
    campaign = load_campaign(folder, "H100", linked)
    lines = {p.message.split(":")[0]: p.lines for p in campaign.problems}
    assert lines.pop("faster than physics") == (11,)
    assert lines.pop("repeats an earlier row to the letter") == (10,)
    assert lines.pop("is 1.5 times off the median of its replicates") == (8,)
    assert {2, 3, 4} <= set(lines.pop("its replicates spread by more than 10%"))
    assert lines == {}
    assert (campaign.files[0].rows, campaign.files[0].used, campaign.files[0].dropped) == (10, 9, 1)


def test_steps_in_nanoseconds_are_a_warning_and_slow_ones_are_not(tmp_path, h100):
    steps = synthetic_steps(h100, 24)
    steps.loc[:5, "latency_us"] *= 1000
    steps.loc[6:11, "latency_us"] *= 5
    campaign = load_campaign(write_campaign(tmp_path, "H100", steps), "H100", h100)
    (problem,) = campaign.problems
    assert (problem.severity, problem.lines) == ("warning", (2, 3, 4, 5, 6, 7))
    assert "times slower than the roofline" in problem.message
    assert len(campaign.steps) == 24


def test_a_table_in_nanoseconds_is_an_error_and_leaves_no_row(tmp_path, h100):
    steps = synthetic_steps(h100, 24)
    steps.loc[1:, "latency_us"] *= 1000
    campaign = load_campaign(write_campaign(tmp_path, "H100", steps), "H100", h100)
    (problem,) = campaign.problems
    assert (problem.severity, problem.lines) == ("error", tuple(range(3, 26)))
    assert "nanoseconds given as microseconds (divide by 1000)" in problem.fix
    assert "its unit is another" in problem.fix
    assert len(campaign.steps) == 1


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_table_in_nanoseconds_is_an_error(linked, name):
    frame = table(name, *(FLOOR_US[name] * slowness * 1000 for slowness in (1.2, 1.6)))
    possible, (problem,) = check_kernels_physics("f.csv", name, frame, linked)
    assert not possible.any()
    assert problem.severity == "error"


@pytest.mark.parametrize(
    ("dtype", "stated", "speedup"),
    [
        ("fp8", {}, 2.0),
        ("fp8", {"TFlopsFP8": 0.0}, 1.0),
        ("int8", {"TFlopsFP8": 0.0}, 2.0),
        ("int4", {"TFlopsFP8": 0.0}, 4.0),
        ("fp8", {"TFlopsFP8": 1979.0}, 2.0),
        ("bf16", {"TFlopsFP8": 0.0}, 1.0),
    ],
)
def test_a_peak_of_zero_for_fp8_means_that_fp8_runs_at_the_16_bit_peak(
    h100, dtype, stated, speedup
):
    floor = FLOOR_US["gemm"] / speedup
    frame = table("gemm", floor * 0.999, floor * 1.001, dtype=dtype)
    hardware = h100.with_values(stated)
    assert check_kernels_physics("f.csv", "gemm", frame, hardware)[0].tolist() == [False, True]
    step = {"model": ["llama-3.1-8b"], "tp": [1.0], "dtype": [dtype]}
    prompt = {"num_prefill_requests": [4.0], "sum_prefill_tokens": [32768.0]}
    prefill = StepTable.from_columns({**step, **prompt})
    plain = StepTable.from_columns({**step, **prompt, "dtype": ["bf16"]})
    ratio = fastest_us(plain, hardware) / fastest_us(prefill, hardware)
    assert ratio == pytest.approx([speedup])


def test_links_of_a_bandwidth_of_zero_set_no_floor(h100):
    hardware = h100.with_values({"IntraNodeBwGBps": 0.0})
    assert check_kernels_physics("f.csv", "allreduce", table("allreduce", 0.1), hardware)[0].all()


def fp8_cache_steps(h100):
    """Decodes of bf16 weights over an fp8 cache, at 85% of the bandwidth."""
    batch = 2.0 ** np.arange(3, 10)
    frame = pd.DataFrame({"model": "llama-3.1-8b", "tp": 1, "num_decode_requests": batch})
    frame["sum_decode_kv_tokens"] = 8192.0 * batch
    floor = fastest_us(StepTable.from_columns(frame.assign(kv_dtype="fp8")), h100)
    return frame.assign(latency_us=floor / 0.85, run_id=[f"d{i}" for i in range(7)])


def test_an_fp8_cache_not_declared_is_named_and_declared_it_passes(tmp_path, h100):
    steps = fp8_cache_steps(h100)
    silent = load_campaign(write_campaign(tmp_path / "silent", "H100", steps), "H100", h100)
    (problem,) = (p for p in silent.problems if p.severity == "error")
    assert "an fp8 cache (say so in kv_dtype)" in problem.fix
    assert len(silent.steps) == 0
    told = steps.assign(kv_dtype="fp8")
    declared = load_campaign(write_campaign(tmp_path / "told", "H100", told), "H100", h100)
    assert [p for p in declared.problems if p.severity == "error"] == []
    assert len(declared.steps) == 7


def test_an_unknown_type_of_cache_is_an_error_that_lists_the_known_ones(tmp_path, h100):
    steps = fp8_cache_steps(h100).assign(kv_dtype="fp8_e4m3")
    campaign = load_campaign(write_campaign(tmp_path, "H100", steps), "H100", h100)
    (problem,) = (p for p in campaign.problems if p.severity == "error")
    assert (problem.column, problem.value) == ("kv_dtype", "fp8_e4m3")
    assert "bf16, fp16, fp8," in problem.message
    assert "fp8_e4m3 is fp8" in problem.fix
