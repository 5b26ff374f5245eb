"""roofline-v3 against sums written out by hand and against its own finite differences."""

import dataclasses

import numpy as np
import pytest

from sim import (
    Architecture,
    ArchitectureError,
    Batch,
    HardwareError,
    StepTable,
    latency_model,
    load_architecture,
    load_hardware,
)
from sim.architecture import Experts
from sim.models.roofline_v3.model import RooflineV3

MODEL = RooflineV3()
# one layer: 2·1000·100·(10 + 2) = 2.4e6 weights of attention and 3·1000·3000 = 9e6 of the MLP; two layers: 22.8e6
TINY = Architecture(
    "tiny", 2, 1000, 10, num_kv_heads=2, intermediate_size=3000, vocab_size=5000, head_dim=100
)
OFF = dict.fromkeys(RooflineV3.defaults(), 0.0)
PLAIN = {  # 1 FLOP or byte takes 1e-6 µs; nothing else takes time
    **OFF,
    "TFlopsPeak": 1.0,
    "BwPeakTBs": 1.0,
    "gemmMfu": 1.0,
    "attentionMfu": 1.0,
    "weightBwFraction": 1.0,
    "kvBwFraction": 1.0,
    "allReduceBwGBps": 1e12,
}
ENGINE = {
    "allReduceLargeMicrosPerMB": 1.5,
    "hostLayerMicros": 150.0,
    "hostPrefillMicros": 3000.0,
    "requestMicros": 10.0,
    "promptMicros": 100.0,
    "prefillLayerMicros": 6.0,
}


def smooth(a, b):
    return (a**3 + b**3) ** (1 / 3)


def time_us(batch, arch=TINY, tp=1, **values):
    return MODEL.step_time_us(batch, arch, load_hardware({**PLAIN, **values}), tp)


DECODE = Batch.from_requests(decode=[(99,)])
PREFILL = Batch.from_requests(prefill=[(100, 50)])
# of the decode: GEMMs 2·22.8 MFLOP and 2·22.8 MB; 100 keys for each of 10 heads: 4·2·10·100·100 FLOPs, and keys and
# values of 100 tokens: 2·2·2·100·2 = 1600 bytes each; the head: 2·5 MFLOP and 2·5 MB; inputs and outputs of GEMMs: of a
# layer's four 1000 values each, 1400 and 1000 beside attention, 3·3000 in the MLP: 2·(4000 + 11400)·2 bytes
MOVED = 2 * (4000 + 11400) * 2e-6
DECODE_US = smooth(45.6, 45.6) + smooth(0.8, 0.16) + smooth(10.0, 10.0) + MOVED


def test_a_decode_by_hand():
    assert time_us(DECODE) == pytest.approx(DECODE_US)


def test_a_prefill_by_hand():
    pairs = sum(range(101, 151))  # each new token sees those before it and itself
    attention = smooth(4e-6 * 2 * 1000 * pairs, 2e-6 * 2 * 2 * 100 * 2 * 150)
    # The head computes the last token only
    expected = smooth(50 * 45.6, 45.6) + attention + smooth(10.0, 10.0)
    assert time_us(PREFILL) == pytest.approx(expected + 50 * MOVED)


def test_a_mixed_step_reads_the_weights_once():
    both = Batch.from_requests(prefill=[(100, 50)], decode=[(99,)])
    pairs = sum(range(101, 151)) + 100
    attention = smooth(4e-6 * 2 * 1000 * pairs, 2e-6 * 2 * 2 * 100 * 2 * 250)
    assert time_us(both) == pytest.approx(
        smooth(51 * 45.6, 45.6) + attention + smooth(20.0, 10.0) + 51 * MOVED
    )


def test_every_rate_divides_its_part():
    rates = {"gemmMfu": 0.5, "weightBwFraction": 0.25, "attentionMfu": 0.1, "kvBwFraction": 0.2}
    expected = smooth(91.2, 182.4) + smooth(8.0, 0.8) + smooth(20.0, 40.0)
    assert time_us(DECODE, **rates) == pytest.approx(expected + 4 * MOVED)


def test_the_share_of_the_gemms_changes_with_their_work():
    # a layer of 50 tokens computes 50·22.8e6 FLOPs, 1.14e-3 TFLOP; on two GPUs, half of it; the head is not a layer's
    for tp, work in ((1, 1.14e-3), (2, 0.57e-3)):
        slower = work**-0.1  # a share that grows with work is small where there is little
        gemm = smooth(50 * 45.6 / tp * slower, 45.6 / tp) - smooth(50 * 45.6 / tp, 45.6 / tp)
        extra = time_us(PREFILL, tp=tp, gemmMfuExponent=0.1) - time_us(PREFILL, tp=tp)
        assert extra == pytest.approx(gemm)


def test_tensor_parallelism_divides_all_but_a_kv_head():
    # two KV heads over four GPUs: each GPU holds one whole; of each GEMM, the side of the whole width is on every GPU
    expected = (
        smooth(11.4, 11.4) + smooth(0.2, 0.08) + smooth(2.5, 2.5) + 2 * (4000 + 11400 / 4) * 2e-6
    )
    assert time_us(DECODE, tp=4) == pytest.approx(expected)


def test_all_reduces_by_hand():
    base, reduces = time_us(DECODE, tp=4), 2 * 2
    # one token sends 2 kB; a ring of four sends 2·3/4 of it from each GPU
    # A launch and two hops
    assert time_us(DECODE, tp=4, allReduceHopMicros=3.0) - base == pytest.approx(reduces * 3 * 3.0)
    assert time_us(DECODE, tp=4, allReduceSetupMicros=8.0) - base == pytest.approx(
        reduces * 8.0 * 2 / 502
    )
    assert time_us(DECODE, tp=4, allReduceBwGBps=1.0) - base == pytest.approx(reduces * 3.0)
    four = time_us(DECODE, tp=4, allReduceBwGBps=1.0, allReduceTpExponent=-0.5) - base
    assert four == pytest.approx(reduces * 3.0 * 2**-0.5)
    alone = {"allReduceHopMicros": 3.0, "allReduceSetupMicros": 8.0, "allReduceBwGBps": 1.0}
    assert time_us(DECODE, **alone) == pytest.approx(DECODE_US)


def test_large_all_reduces_cost_more_for_each_byte_of_the_others():
    for tokens, large in ((20_000, 0.0), (20_001, 2 * 2 * 3 * 40.002)):
        batch = Batch.from_requests(prefill=[(0, tokens)])
        extra = time_us(batch, tp=4, allReduceLargeMicrosPerMB=2.0) - time_us(batch, tp=4)
        assert extra == pytest.approx(2.0 * large, abs=1e-6)


def test_host_time_hides_behind_the_gpu_until_it_is_longer():
    assert time_us(DECODE, layerMicros=10.0) == pytest.approx(DECODE_US + 20.0)
    assert time_us(DECODE, hostLayerMicros=10.0) == pytest.approx(DECODE_US)
    assert time_us(DECODE, hostLayerMicros=1000.0) == pytest.approx(2000.0)
    assert time_us(DECODE, hostLayerMicros=1000.0, hostPrefillMicros=500.0) == pytest.approx(2000.0)
    assert time_us(PREFILL, hostLayerMicros=1000.0, hostPrefillMicros=500.0) == pytest.approx(
        2500.0
    )


def test_time_for_each_request_is_added():
    both = Batch.from_requests(prefill=[(0, 10, 3)], decode=[(99, 4)])
    assert time_us(both, requestMicros=5.0, promptMicros=7.0) - time_us(both) == pytest.approx(
        4 * 5.0 + 3 * 7.0
    )


def test_an_empty_step_takes_the_layers_time_only():
    assert time_us(Batch.from_requests(), layerMicros=10.0) == pytest.approx(20.0)


def test_fp8_halves_weights_and_runs_at_its_own_peak():
    fp8 = TINY.with_dtype("fp8")
    others = smooth(0.8, 0.16) + smooth(10.0, 10.0) + MOVED  # they stay at 16 bits
    assert time_us(DECODE, fp8) == pytest.approx(smooth(45.6, 22.8) + others)
    assert time_us(DECODE, fp8, TFlopsFP8=2.0) == pytest.approx(smooth(22.8, 22.8) + others)
    assert time_us(DECODE, TFlopsFP8=2.0) == pytest.approx(DECODE_US)


def test_a_mixture_reads_the_experts_that_some_token_chose():
    experts = Experts(
        num_experts=8, experts_per_token=2, intermediate_size=500, shared_intermediate_size=100
    )
    moe = dataclasses.replace(TINY, experts=experts, vocab_size=0)
    # attention 4.8e6, shared expert 2·3·1000·100 = 0.6e6, a routed expert 2·3·1000·500 = 3e6 weights
    for tokens in (1, 4, 1000):
        batch = Batch.from_requests(decode=[(0, tokens)])
        chosen = 8 * (1 - 0.75**tokens)
        attention = smooth(8e-3 * tokens, 16e-4 * tokens)
        gemm = smooth(2 * tokens * (4.8 + 0.6 + 2 * 3.0), 2 * (4.8 + 0.6 + chosen * 3.0))
        moved = tokens * 2e-6 * (2 * 4000 + 4800 + 600 + 2 * 3000)
        assert time_us(batch, moe) == pytest.approx(gemm + attention + moved)


def test_a_dense_first_layer_of_a_mixture_is_no_expert():
    experts = Experts(num_experts=8, experts_per_token=2, intermediate_size=500, num_dense_layers=1)
    moe = dataclasses.replace(TINY, experts=experts, vocab_size=0)
    gemm = smooth(2 * (4.8 + 9.0 + 2 * 1.5), 2 * (4.8 + 9.0 + 2 * 1.5))
    moved = 2e-6 * (2 * 4000 + 4800 + 9000 + 2 * 1500)
    assert time_us(Batch.from_requests(decode=[(99,)]), moe) == pytest.approx(
        gemm + smooth(0.8, 0.16) + moved
    )


def mixed_table(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    prefill = rng.integers(0, 6, rows)
    decode = rng.integers(0, 300, rows)
    return StepTable.from_columns(
        {
            "model": rng.choice(
                ["llama-3.1-8b", "llama-3.1-70b", "qwen3-32b", "mixtral-8x7b"], rows
            ),
            "dtype": rng.choice(["bf16", "fp8"], rows),
            "tp": rng.choice([1, 2, 4, 8], rows),
            "num_prefill_requests": prefill,
            "sum_prefill_tokens": prefill * rng.integers(1, 4000, rows),
            "sum_prefill_kv_tokens": prefill * rng.integers(0, 900, rows),
            "num_decode_requests": decode * rng.integers(0, 2, rows),
            "sum_decode_kv_tokens": decode * rng.integers(1, 4000, rows),
        }
    )


def test_the_closed_form_jacobian_is_the_derivative(h100):
    table = mixed_table()
    hardware = h100.with_values({**ENGINE, "TFlopsFP8": 1979.0})
    names = MODEL.parameter_names
    value, jacobian = MODEL.predict_with_jacobian_us(table, hardware, names)
    np.testing.assert_allclose(value, MODEL.predict_us(table, hardware), rtol=1e-12)
    here = MODEL.parameters(hardware)
    for column, name in zip(jacobian.T, names, strict=True):
        step = 1e-6 * abs(here[name])
        up = MODEL.predict_us(table, hardware.with_values({name: here[name] + step}))
        down = MODEL.predict_us(table, hardware.with_values({name: here[name] - step}))
        np.testing.assert_allclose(
            column, (up - down) / (2 * step), rtol=1e-5, atol=1e-5 * np.abs(column).max()
        )
    assert (np.abs(jacobian).max(axis=0) > 0).all()
    assert (MODEL.regimes(table, hardware) == "host").any()


def test_a_mixed_table_predicts_what_its_rows_do_alone(h100):
    table = mixed_table(40)
    hardware = h100.with_values({**ENGINE, "TFlopsFP8": 1979.0})
    alone = [MODEL.predict_us(table.take([row]), hardware)[0] for row in range(len(table))]
    np.testing.assert_allclose(MODEL.predict_us(table, hardware), alone, rtol=1e-12)


def test_a_table_serves_gpus_with_and_without_an_fp8_peak(h100):
    table = mixed_table(40)
    registered = MODEL.predict_us(table, h100)  # the block has none, the registry says 1979
    without = MODEL.predict_us(table, h100.with_values({"TFlopsFP8": 0.0}))
    is_fp8 = np.array([arch.dtype == "fp8" for arch in table.architectures])[table.arch_index]
    assert (registered[is_fp8] < without[is_fp8]).any()
    np.testing.assert_array_equal(registered[~is_fp8], without[~is_fp8])
    np.testing.assert_array_equal(
        MODEL.predict_us(table, h100.with_values({"TFlopsFP8": 1979.0})), registered
    )


def test_its_limits_are_said_in_words():
    assert MODEL.limits(load_architecture("qwen3-32b")) == []
    assert "chosen evenly" in MODEL.limits(load_architecture("mixtral-8x7b"))[0]
    assert "output head" in MODEL.limits(dataclasses.replace(TINY, vocab_size=0))[0]
    with pytest.raises(ArchitectureError, match="roofline-v3 cannot compute deepseek-v3"):
        time_us(DECODE, load_architecture("deepseek-v3"))


def test_the_peaks_are_all_it_needs():
    values = latency_model("roofline-v3").parameters(
        load_hardware({"TFlopsPeak": 989.5, "BwPeakTBs": 3.35})
    )
    assert values == {**RooflineV3.defaults(), "TFlopsPeak": 989.5, "BwPeakTBs": 3.35}
    with pytest.raises(HardwareError, match="BwPeakTBs must be a valid positive number, got 0"):
        MODEL.parameters(load_hardware({"TFlopsPeak": 989.5}))
    with pytest.raises(HardwareError, match="gemmMfu must be a valid positive number, got 0"):
        MODEL.parameters(load_hardware({**PLAIN, "gemmMfu": 0.0}))


def test_only_exponents_may_be_negative():
    for name in ("allReduceTpExponent", "gemmMfuExponent"):
        assert load_hardware({**PLAIN, name: -0.1}).values[name] == -0.1
    with pytest.raises(HardwareError, match="layerMicros must not be negative"):
        load_hardware({**PLAIN, "layerMicros": -1.0})


def test_regimes_name_what_bounds_a_step(h100):
    arch = load_architecture("llama-3.1-8b")
    batches = [Batch.from_requests(prefill=[(0, 8192)]), Batch.from_requests(decode=[(2000, 1)])]
    table = StepTable.from_batches([*batches, batches[1]], [arch] * 3, [1, 1, 8])
    assert MODEL.regimes(table, h100).tolist() == ["compute", "memory", "memory"]
    waiting = h100.with_values({"hostLayerMicros": 400.0})
    assert MODEL.regimes(table, waiting).tolist() == ["compute", "host", "host"]
    slow = h100.with_values({"allReduceHopMicros": 90.0})
    assert MODEL.regimes(table, slow).tolist() == ["compute", "memory", "communication"]
