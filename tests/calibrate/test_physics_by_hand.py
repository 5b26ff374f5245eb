"""The physical floor under steps and kernels, and what is said below it, against numbers worked out by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from calibrate.campaign.campaign import load_campaign
from calibrate.campaign.physics import KERNELS, check_steps_physics, fastest_us
from calibrate.campaign.thresholds import STEP_HOST_US
from sim import Batch, StepTable, load_architecture
from sim.architecture import LayerGroup
from sim.architecture.attention import GroupedAttention
from tests.synthetic import write_campaign

LLAMA = load_architecture("llama-3.1-8b")
WEIGHTS = 32 * (2 * 4096 * 128 * (32 + 8) + 3 * 4096 * 14336)
PROMPT = Batch.from_requests(prefill=[(0, 32768, 1)])
DECODE = Batch.from_requests(decode=[(4096, 64)])
PROMPT_FLOPS = 2 * WEIGHTS * 32768 + 4 * 128 * 32 * 32 * 32768 * 32767 / 2
CACHE = 64 * 4096 * 2 * 32 * 8 * 128
"""Keys and values that the decode reads: of 64 contexts of 4096, in 32 layers and 8 heads of 128."""


def table(*rows):
    batches, architectures, tp = zip(*rows, strict=True)
    return StepTable.from_batches(batches, architectures, tp)


@pytest.mark.parametrize("tp", [1, 4])
def test_the_floor_under_a_step(h100, tp):
    """989.5 TFLOP/s and 3.35 TB/s on each GPU; attention is 38% of the long prompt's arithmetic."""
    steps = table((PROMPT, LLAMA, tp), (DECODE, LLAMA, tp))
    expected = [PROMPT_FLOPS / 989.5e6 / tp, 2 * (WEIGHTS + CACHE) / 3.35e6 / tp]
    assert fastest_us(steps, h100) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("dtype", "values", "peak"),
    [
        ("fp32", {}, 989.5),
        ("bf16", {}, 989.5),
        ("fp8", {}, 2 * 989.5),
        ("fp8", {"TFlopsFP8": 1500.0}, 1500.0),
        ("int4", {}, 4 * 989.5),
        ("int4", {"TFlopsFP8": 1500.0}, 3000.0),
        ("mxfp4", {}, 4 * 989.5),
    ],
)
def test_narrow_types_have_a_peak_of_their_own(h100, dtype, values, peak):
    steps = table((PROMPT, LLAMA.with_dtype(dtype), 1))
    found = fastest_us(steps, h100.with_values(values))
    assert found == pytest.approx([PROMPT_FLOPS / (peak * 1e6)])


def test_attention_that_is_not_full_adds_nothing_to_the_floor_and_leaves_the_other_rows_theirs(
    h100,
):
    attention = GroupedAttention(32, 8, 128, window=1024)
    windowed = dataclasses.replace(LLAMA, groups=(LayerGroup(32, attention, 14336),))
    steps = table((DECODE, windowed, 1), (DECODE, LLAMA, 1))
    expected = [2 * WEIGHTS / 3.35e6, 2 * (WEIGHTS + CACHE) / 3.35e6]
    assert fastest_us(steps, h100) == pytest.approx(expected)


def test_a_campaign_of_both_keeps_the_steps_of_both(h100, tmp_path):
    steps = pd.DataFrame(
        {
            "model": ["deepseek-v3", "llama-3.1-8b", "llama-3.1-8b"],
            "tp": [8, 1, 1],
            "num_decode_requests": [4, 4, 4],
            "sum_decode_kv_tokens": [4000, 4000, 4000],
            "latency_us": [9000.0, 9000.0, 9.0],
        }
    )
    campaign = load_campaign(write_campaign(tmp_path, "H100", steps), "H100", h100)
    assert campaign.steps["model"].tolist() == ["deepseek-v3", "llama-3.1-8b"]
    assert [p.lines for p in campaign.problems if p.message.startswith("faster")] == [(4,)]


def judged(h100, *latencies, batch=DECODE):
    steps = table(*[(batch, LLAMA, 1)] * len(latencies))
    frame = pd.DataFrame({"latency_us": latencies, "line": np.arange(2, 2 + len(latencies))})
    return check_steps_physics("steps.csv", frame, steps, h100)


def test_steps_below_the_floor_are_errors_with_the_floor_in_words(h100):
    floor = 2 * (WEIGHTS + CACHE) / 3.35e6
    possible, (problem,) = judged(h100, floor * 0.999, floor, floor * 0.5, floor * 1.001)
    assert possible.tolist() == [False, True, False, True]
    assert (problem.severity, problem.lines) == ("error", (2, 4))
    said = "989.5 dense TFLOP/s, 3.35 TB/s) allow no less than 1.44e+04 µs, 1 times the value"
    assert said in problem.message


def test_slow_is_300_times_the_roofline_and_half_a_millisecond_of_host_time(h100):
    floor = 2 * (WEIGHTS + CACHE) / 3.35e6
    slow = 300 * (floor + STEP_HOST_US)
    possible, (problem,) = judged(h100, slow * 0.999, slow * 1.001)
    assert possible.all()
    assert (problem.severity, problem.lines) == ("warning", (3,))
    assert f"{slow * 1.001 / floor:.3g} times slower than the roofline" in problem.message
    assert problem.fix.startswith("Probably nanoseconds given as microseconds (divide by 1000)")


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (2.0, "Probably fp8 or int4 weights (say so in the dtype column), an fp8 cache"),
        (2.3, "Check the unit, the model, tp and the GPU"),
        (11.0, "Probably milliseconds given as microseconds, or seconds as milliseconds"),
        (990.0, "multiply by 1000"),
        (1010.0, "Check the unit"),
        (11_000.0, "Probably seconds given as microseconds: multiply by 1000000"),
        (990_000.0, "multiply by 1000000"),
        (1.1e6, "Check the unit"),
    ],
)
def test_the_likely_cause_of_so_many_times_too_fast(h100, times, words):
    """What was a thousand times too small must come to a hundredth of the peaks, or the unit was not it."""
    floor = 2 * (WEIGHTS + CACHE) / 3.35e6
    _, (problem,) = judged(h100, floor / times)
    assert words in problem.fix


KERNEL = {
    "dtype": ["bf16", "fp8", "", "fp4-of-some-kind"],
    **{name: [2.0] * 4 for name in ("m", "tp")},
    **{name: [3.0] * 4 for name in ("n", "batch_size", "num_kv_heads")},
    **{name: [5.0] * 4 for name in ("k", "head_dim")},
    **{name: [7.0] * 4 for name in ("seq_len", "kv_len")},
    "num_heads": [6.0] * 4,
    "bytes": [11.0] * 4,
}
BYTES = np.array([2.0, 1.0, 2.0, 0.5])


@pytest.mark.parametrize(
    ("name", "flops", "values", "link_bytes"),
    [
        ("gemm", 2 * 2 * 3 * 5, 2 * 5 + 5 * 3 + 2 * 3, 0),
        ("attention_prefill", 4 * 6 * 5 * 3 * (7 * 8 / 2), 2 * 3 * 7 * 5 * (6 + 3), 0),
        ("attention_decode", 4 * 6 * 5 * 3 * 7 / 2, 2 * 3 * 7 * 5 * 3 / 2, 0),
        ("memory", 0, None, 0),
        ("allreduce", 0, 0, 11),
    ],
)
def test_work_of_a_kernel(name, flops, values, link_bytes):
    """Rows of 16, 8, 16 (where it is not said) and 4 bits (where it is not known); a decode on two GPUs."""
    work = KERNELS[name].work(pd.DataFrame(KERNEL))
    bytes_ = 11.0 if values is None else values * BYTES
    for found, expected in (
        (work.flops, flops),
        (work.bytes, bytes_),
        (work.link_bytes, link_bytes),
    ):
        assert np.broadcast_to(found, 4) == pytest.approx(np.broadcast_to(expected, 4))


def test_a_decode_kernel_reads_its_cache_in_the_caches_type():
    frame = pd.DataFrame(KERNEL).assign(
        kv_dtype=["fp8", "bf16", "fp8", "bf16"], tp=[np.nan, 0, 1, 2]
    )
    found = KERNELS["attention_decode"].work(frame).bytes
    whole = 2 * 3 * 7 * 5 * 3
    assert found == pytest.approx([whole, 2 * whole, whole, 2 * whole / 2])
