"""roofline-v4 against sums written out by hand, against roofline-v3 where both count alike, and its own differences."""

import dataclasses

import numpy as np
import pytest

from sim import (
    Architecture,
    ArchitectureError,
    Batch,
    StepTable,
    latency_model,
    load_architecture,
    load_hardware,
)
from sim.architecture import Experts, LayerGroup
from sim.architecture.attention import GroupedAttention, LatentAttention, LinearAttention
from sim.models.roofline_v3.model import RooflineV3
from sim.models.roofline_v4.model import RooflineV4
from sim.models.roofline_v4.routing import busiest
from sim.serving.step_kernels import step_kernel

MODEL = RooflineV4()
OFF = dict.fromkeys(RooflineV4.defaults(), 0.0)
AS_ALONE = {
    "mixedDecodeRows": 1.0,
    "mixedDecodeTokens": 0.0,
    "mixedChunkShare": 0.0,
    "mixedWalkMicros": 0.0,
}
PLAIN = {  # 1 FLOP or byte takes 1e-6 µs; nothing else takes time
    **OFF,
    **{name: 1.0 for name in OFF if name.endswith(("Mfu", "Fraction", "Factor"))},
    "TFlopsPeak": 1.0,
    "BwPeakTBs": 1.0,
    "allReduceBwGBps": 1e12,
    "allReduceDirectGBps": 1e12,
    "moeWideColumns": 1e6,
    **AS_ALONE,
}
NO_REDUCES = {
    **{name: 0.0 for name in OFF if name.startswith("allReduce") and name.endswith("Micros")},
    "allReduceSetupMicros": 0.0,  # roofline-v3's own
    "allReduceBwGBps": 1e18,
    "allReduceDirectGBps": 1e18,
}
ENGINE = {
    "allReduceLargeMicrosPerMB": 1.5,
    "hostLayerMicros": 150.0,
    "hostPrefillMicros": 3000.0,
    "requestMicros": 10.0,
    "promptMicros": 100.0,
    "prefillLayerMicros": 6.0,
}
SERVED = [  # model, tp, ep
    ("llama-3.1-8b", 2, 1),
    ("qwen3-235b-a22b", 8, 8),
    ("gpt-oss-120b", 2, 2),
    ("llama-4-scout", 4, 1),
    ("deepseek-v3", 8, 8),
    ("kimi-k2.5", 8, 1),
    ("mixtral-8x7b", 2, 2),
    ("qwen3.5-27b", 2, 1),
    ("qwen3.5-397b-a17b", 8, 8),
]


def smooth(a, b):
    return (a**3 + b**3) ** (1 / 3)


def of_groups(*groups, d=1000, **changes):
    """A model of these layers, without a head: 1000 wide, ten heads of 100."""
    layers = sum(group.count for group in groups)
    return dataclasses.replace(
        Architecture("tiny", layers, d, 10, intermediate_size=1, groups=groups), **changes
    )


def time_us(batch, arch, tp=1, **values):
    return MODEL.step_time_us(batch, arch, load_hardware({**PLAIN, **values}), tp)


def decode(*contexts):
    return Batch.from_requests(decode=[(context,) for context in contexts])


@pytest.fixture(scope="module")
def h100():
    return load_hardware(
        {**RooflineV4.defaults(), "TFlopsPeak": 989.5, "BwPeakTBs": 3.35, **ENGINE}
    )


def random_steps(arch, tp, rows, seed):
    random = np.random.default_rng(seed)
    prompts, new = random.integers(0, 4, rows), random.integers(2, 9000, rows)
    context = random.integers(0, 5000, rows) * (random.random(rows) < 0.5)
    decodes, cached = random.integers(1, 200, rows), random.integers(1, 9000, rows)
    nothing = np.zeros(rows)
    pairs = prompts * new * (context + (new - 1) / 2)
    moments = np.array(
        [
            prompts,
            prompts * new,
            prompts * context,
            nothing,
            nothing,
            pairs,
            decodes,
            decodes * cached,
        ],
        dtype=np.float64,
    )
    return StepTable((arch,), np.zeros(rows, dtype=np.intp), np.full(rows, tp), moments)


@pytest.mark.parametrize("tp", [1, 4])
def test_a_dense_model_in_16_bits_costs_what_roofline_v3_says_but_for_all_reduces(tp, h100):
    steps = random_steps(load_architecture("llama-3.1-8b"), tp, 200, seed=1)
    pure = steps.take(steps.phases != "mixed")
    assert len(pure) > 30
    h100 = h100.with_values(NO_REDUCES)
    expected = RooflineV3().predict_us(pure, h100)
    assert MODEL.predict_us(pure, h100) == pytest.approx(expected, rel=1e-12)


def test_a_mixed_launch_that_treats_decodes_as_others_do_is_one_roofline(h100):
    steps = random_steps(load_architecture("llama-3.1-8b"), 4, 50, seed=1)
    h100 = h100.with_values({**AS_ALONE, **NO_REDUCES})
    expected = RooflineV3().predict_us(steps, h100)
    assert MODEL.predict_us(steps, h100) == pytest.approx(expected, rel=1e-12)


def reduces_us(tokens, tp, gpu="GPU", **values):
    """What three all-reduces of 2000 bytes a token take."""
    arch = of_groups(LayerGroup(3, GroupedAttention(heads=8, kv_heads=8, head_dim=100)))
    batch = Batch.from_requests(decode=[(0, tokens)])
    times = [
        MODEL.step_time_us(batch, arch, dataclasses.replace(load_hardware(known), gpu=gpu), tp)
        for known in (PLAIN, {**PLAIN, **values})
    ]
    return times[1] - times[0]


@pytest.mark.parametrize(
    ("tokens", "tp", "each_us"),
    [
        (60, 2, 5 + 0.5 * 2 + 120 / 200),
        (4000, 2, 5 + 0.5 * 2 + 8000 / 200),
        (60, 4, 5 + 0.5 * 3 + 3 * 120 * 2**-0.3 / 200),
        (400, 4, 5 + 0.5 * 3 + 7 * 2 + 1.5 * 800 * 2**-0.3 / 100),
        (5000, 4, 20 + 1.5 * 10000 * 2**-0.3 / 100 * (1e7 / 2**23) ** -0.1),
        (400, 8, 5 + 0.5 * 4 + 7 * 3 + 1.75 * 800 * 4**-0.3 / 100),
        (60, 16, 20 + 1.875 * 120 * 8**-0.3 / 100 * (120e3 / 2**23) ** -0.1),
    ],
)
def test_all_reduces_by_hand(tokens, tp, each_us):
    found = reduces_us(
        tokens,
        tp,
        allReduceMicros=5.0,
        allReduceHopMicros=0.5,
        allReduceTwoStepMicros=7.0,
        allReduceRingMicros=20.0,
        allReduceDirectGBps=200.0,
        allReduceBwGBps=100.0,
        allReduceTpExponent=-0.3,
        allReduceSizeExponent=-0.1,
    )
    assert found == pytest.approx(3 * each_us)


@pytest.mark.parametrize(
    ("gpu", "tp", "one_step", "own_kernel"),
    [
        ("GPU", 2, 8 << 20, 8 << 20),
        ("A100-SXM", 8, 256 << 10, 8 << 20),
        ("H100", 8, 256 << 10, 256 << 10),
        ("B200", 4, 512 << 10, 2 << 20),
        ("GB300", 2, 4 << 20, 4 << 20),
        ("GB300", 8, 0, 0),
    ],
)
def test_how_large_an_all_reduce_an_engine_makes_itself(gpu, tp, one_step, own_kernel):
    for limit, values in (
        (one_step, {"allReduceDirectGBps": 1e-6}),
        (own_kernel, {"allReduceMicros": 1.0}),
    ):
        from_on = max(-(-limit // 2000), 1)  # tokens
        assert reduces_us(from_on, tp, gpu, **values) == pytest.approx(0.0, abs=1e-6)
        assert limit == 0 or reduces_us(from_on - 1, tp, gpu, **values) > 1.0


def test_a_decode_beside_a_prompt_computes_a_tile_and_walks_its_context():
    attention = GroupedAttention(heads=10, kv_heads=2, head_dim=100)
    arch = of_groups(LayerGroup(3, attention))
    batch = Batch.from_requests(prefill=[(100, 60)], decode=[(500, 4)])
    mixed = {
        "mixedDecodeRows": 50.0,
        "mixedDecodeTokens": 150.0,
        "mixedChunkShare": 0.25,
        "mixedWalkMicros": 0.02,
    }
    pairs = 60 * 100 + 60 * 61 / 2 + 50 * 4 * (501 + 150 + 0.25 * 60)
    flops = 3 * 4e-6 * 10 * 100 * pairs
    moved = 3 * 2e-6 * 2 * 2 * 100 * (160 + 4 * 501)
    walked = 3 * 0.02 * 501
    prompt = 3 * 4e-6 * 10 * 100 * (60 * 100 + 60 * 61 / 2)
    attention_us = (flops**3 + moved**3 + walked**3) ** (1 / 3)
    alone_us = smooth(prompt + 3 * 4e-6 * 10 * 100 * 4 * 501, moved)
    rest_us = time_us(batch, arch) - alone_us
    assert time_us(batch, arch, **mixed) - rest_us == pytest.approx(attention_us)


def test_gemms_compute_tokens_that_fill_their_tiles():
    arch = of_groups(LayerGroup(1, GroupedAttention(heads=10, kv_heads=2, head_dim=100)))
    projections = 2e-6 * 1000 * 100 * (10 + 4 + 10)
    without, padded = (time_us(decode(9, 9, 9), arch, gemmPadTokens=pad) for pad in (0.0, 40.0))
    gemms = [smooth(tokens * projections, projections) for tokens in (3, 43)]
    assert padded - without == pytest.approx(gemms[1] - gemms[0])
    assert time_us(Batch.from_requests(), arch, gemmPadTokens=40.0) == 0


def test_latent_attention_launches_prompts_and_decodes_apart(h100):
    steps = random_steps(load_architecture("deepseek-v3"), 8, 50, seed=1)
    as_alone = MODEL.predict_us(steps, h100.with_values(AS_ALONE))
    assert MODEL.predict_us(steps, h100).tolist() == as_alone.tolist()


def test_a_window_cuts_pairs_and_cached_bytes():
    attention = GroupedAttention(heads=10, kv_heads=2, head_dim=100, window=50)
    arch = of_groups(LayerGroup(1, attention))
    without = time_us(Batch.from_requests(), arch)
    projections = 1000 * 100 * (10 + 4 + 10)
    gemm = smooth(2e-6 * projections, 2e-6 * projections)
    moved = 2e-6 * (2 * 1000 + projections / 1000)
    seen = smooth(4e-6 * 10 * 100 * 50, 2e-6 * 2 * 2 * 100 * 50)
    assert without == 0
    assert time_us(decode(500), arch) == pytest.approx(gemm + moved + seen)
    # a prompt of 60: the first 50 tokens see all before them and themselves, the other ten 50 each
    pairs = 50 * 51 / 2 + 10 * 50
    seen = smooth(4e-6 * 10 * 100 * pairs, 2e-6 * 2 * 2 * 100 * 50)
    gemm = smooth(60 * 2e-6 * projections, 2e-6 * projections)
    prompt = Batch.from_requests(prefill=[(0, 60)])
    assert time_us(prompt, arch) == pytest.approx(gemm + 60 * moved + seen)


def test_a_latent_decode_computes_64_heads_and_its_cache_stands_on_every_gpu():
    attention = LatentAttention(
        heads=10, query_rank=30, cache_rank=40, nope_dim=16, rope_dim=8, value_dim=20
    )
    arch = of_groups(LayerGroup(3, attention))
    for tp in (1, 2):
        near, far = (time_us(decode(context), arch, tp) for context in (999, 1999))
        a_thousand = 3 * smooth(1e3 * 2e-6 * 64 * (2 * 40 + 8), 1e3 * 2e-6 * (40 + 8))
        assert far - near == pytest.approx(a_thousand)


def test_a_latent_prompt_is_not_absorbed_and_unpacks_its_context():
    attention = LatentAttention(
        heads=10, query_rank=30, cache_rank=40, nope_dim=16, rope_dim=8, value_dim=20
    )
    arch = of_groups(LayerGroup(1, attention))
    prompt = Batch.from_requests(prefill=[(100, 1)])
    down, up = 1000 * (30 + 40 + 8), 30 * 10 * 24 + 40 * 10 * 36 + 10 * 20 * 1000
    params = down + up
    seen = smooth(2e-6 * 10 * (16 + 8 + 20) * 101 + 100 * 2e-6 * 40 * 10 * 36, 2e-6 * 48 * 101)
    moved = 2e-6 * (2 * 1000 + params / 1000)
    assert time_us(prompt, arch) == pytest.approx(
        smooth(2e-6 * params, 2e-6 * params) + moved + seen
    )


EXPERTS = Experts(num_experts=16, experts_per_token=4, intermediate_size=200)
MIXTURE = of_groups(LayerGroup(2, None, experts=EXPERTS))


def test_experts_by_hand():
    tokens = decode(*[1] * 8)
    load = 8 * 4 / 16
    touched = 16 * load / (1 + load)
    params = 3 * 1000 * 200
    products = smooth(2 * 2e-6 * params * (32 + 10 * touched), 2 * 2e-6 * params * touched)
    moved = 2 * 2e-6 * (32 * (2 * 1000 + 3 * 200) + 8 * 4 * (1000 + 3 * 200))
    router = 2 * 1000 * 16
    rest = smooth(8 * 2e-6 * router, 2e-6 * router) + 8 * 2e-6 * router / 1000
    assert time_us(tokens, MIXTURE, padTokens=10.0) == pytest.approx(products + moved + rest)
    slower = time_us(tokens, MIXTURE, padTokens=10.0, moeLayerMicros=7.0)
    assert slower == pytest.approx(products + moved + rest + 14.0)


def test_wide_experts_reach_less_of_the_peak():
    tokens = decode(*[1] * 4096)
    narrow, wide = (time_us(tokens, MIXTURE, moeWideColumns=width) for width in (1e6, 200.0))
    params = 3 * 1000 * 200
    assert wide - narrow == pytest.approx(2 * 2e-6 * params * 4096 * 4 * (2**0.5 - 1), rel=1e-3)


def test_the_busiest_gpu_has_one_expert_at_the_least_and_all_it_holds_at_the_most():
    tokens = np.array([0.0, 1.0, 1.0, 4096.0])
    per_token, experts = np.array([1.0, 1.0, 8.0, 8.0]), np.array([16.0, 16.0, 128.0, 128.0])
    rows, touched = busiest(tokens, per_token, experts, np.full(4, 8.0))
    assert rows[0] == touched[0] == 0
    assert rows[1] == pytest.approx(1.0)
    assert touched[1] == pytest.approx(1.0)
    assert 1 < rows[2] < 8
    assert 1 < touched[2] < 8
    assert 4096 < rows[3] < 2 * 4096  # the mean is 4096
    assert 15.9 < touched[3] <= 16


def test_shared_whole_experts_wait_for_the_busiest_gpu():
    tokens = decode(*[1] * 64)
    split, shared = time_us(tokens, MIXTURE, 4), time_us(tokens, MIXTURE.with_ep(4), 4)
    assert shared > split


def test_low_precision_has_its_own_peak_and_pays_for_quantising():
    layer = LayerGroup(1, None, mlp_size=500)
    tokens = decode(*[1] * 1000)
    usual = of_groups(layer)
    quantised = usual.with_dtype("fp8")
    params, inputs = 3 * 1000 * 500, 1000 + 500
    moved = 1000 * 2e-6 * (2 * 1000 + params / 1000)
    products = smooth(1000 * 2e-6 * params / 2 / 0.8, 1e-6 * params)
    scales = 1000 * 3e-6 * inputs / 0.5 + 2 / 4 * 12.0
    found = time_us(
        tokens,
        quantised,
        TFlopsFP8=2.0,
        gemmFp8Factor=0.8,
        quantiseBwFraction=0.5,
        quantiseMicros=12.0,
    )
    assert found == pytest.approx(products + moved + scales)
    assert time_us(tokens, usual, quantiseMicros=12.0) == pytest.approx(
        smooth(1000 * 2e-6 * params, 2e-6 * params) + moved
    )


def test_weights_without_a_peak_are_computed_in_16_bits_and_it_is_said():
    arch = load_architecture("llama-3.1-8b", "nvfp4")
    on_h100 = MODEL.remarks(arch, load_hardware({"TFlopsPeak": 989.5, "BwPeakTBs": 3.35}, "H100"))
    assert "nvfp4" in on_h100[0]
    assert "in 16 bits" in on_h100[0]
    blackwell = load_hardware({"TFlopsPeak": 2250, "BwPeakTBs": 8.0}, "B200")
    assert MODEL.remarks(arch, blackwell) == []


LINEAR = LinearAttention(key_heads=4, value_heads=8, key_dim=100, value_dim=50, convolution=4)
LINEAR_LAYERS = 3
CHUNKED_FLOPS = 2 * 8 * (3 * 100 * 50 + 64 * (3 * 100 + 2 * 50))


def linear_us(batch, tp=1, **values):
    """What linear attention adds to its three GEMMs and what they move."""
    arch = of_groups(LayerGroup(LINEAR_LAYERS, LINEAR))
    values = {"linearMfu": 1e9, **values}  # chunks take no time unless said otherwise
    tokens = batch.moments[[1, 3, 6]].sum()
    width = (2 * 4 * 100 + 8 * 50) / tp
    params = LINEAR_LAYERS * 1000 * (width + 2 * 8 * 50 / tp + 2 * 8 / tp)
    gemms = smooth(2e-6 * tokens * params, 2e-6 * params)
    moved = 2e-6 * tokens * (LINEAR_LAYERS * 2 * 1000 + params / 1000)
    return time_us(batch, arch, tp, **values) - gemms - moved


@pytest.mark.parametrize("tp", [1, 2])
def test_a_decode_of_linear_attention_reads_and_writes_its_state_whatever_its_context(tp):
    state = 4 * 8 * 100 * 50 + 2 * (2 * 4 * 100 + 8 * 50) * 3
    convolved = 2 * 2 * (2 * 4 * 100 + 8 * 50)
    expected = 1e-6 * LINEAR_LAYERS / tp * 5 * (2 * state + convolved)
    assert linear_us(decode(9, 9, 9, 9, 9), tp) == pytest.approx(expected)
    assert linear_us(decode(*[90_000] * 5), tp) == pytest.approx(expected)
    slower = linear_us(decode(9, 9, 9, 9, 9), tp, kvBwFraction=0.5)
    assert slower - expected == pytest.approx(1e-6 * LINEAR_LAYERS / tp * 5 * 2 * state)


def test_prompts_of_linear_attention_take_their_chunks_in_a_row_or_fill_the_gpu():
    def chunks_us(count, **values):
        batch = Batch.from_requests(prefill=[(0, 1000, count)])
        return linear_us(batch, **values) - linear_us(batch)

    walked = LINEAR_LAYERS * 2.0 * 1000
    filled = 1e-6 * LINEAR_LAYERS * 1000 * CHUNKED_FLOPS / 0.5
    few, many = (chunks_us(count, linearMfu=0.5, linearWalkMicros=2.0) for count in (1, 4))
    assert walked > filled
    assert few == pytest.approx(smooth(walked, filled))
    assert many == pytest.approx(smooth(walked, 4 * filled))


@pytest.mark.parametrize(("name", "tp", "ep"), SERVED)
def test_the_closed_form_jacobian_is_the_derivative(name, tp, ep, h100):
    steps = random_steps(load_architecture(name).with_ep(ep), tp, 20, seed=2)
    names = RooflineV4.parameter_names
    h100 = h100.with_values({"gemmPadTokens": 60.0})
    predicted, jacobian = MODEL.predict_with_jacobian_us(steps, h100, names)
    assert predicted == pytest.approx(MODEL.predict_us(steps, h100), rel=1e-12)
    for column, parameter in enumerate(names):
        value = h100.values[parameter]
        step = 1e-5 * max(abs(value), 1.0)
        above = MODEL.predict_us(steps, h100.with_values({parameter: value + step}))
        below = MODEL.predict_us(steps, h100.with_values({parameter: value - step}))
        found = (above - below) / (2 * step)
        scale = max(np.abs(found).max(), 1e-3)
        assert jacobian[:, column] == pytest.approx(found, rel=1e-4, abs=1e-4 * scale), parameter


@pytest.mark.parametrize(("name", "tp", "ep"), SERVED)
@pytest.mark.slow
def test_compiled_steps_take_what_the_table_says(name, tp, ep, h100):
    arch = load_architecture(name).with_ep(ep)
    h100 = h100.with_values({"gemmPadTokens": 60.0})
    steps = random_steps(arch, tp, 40, seed=3)
    kernel = step_kernel(MODEL, arch, h100, tp)
    compiled = [kernel.step_time_us(np.ascontiguousarray(row)) for row in steps.moments.T]
    assert compiled == pytest.approx(MODEL.predict_us(steps, h100), rel=1e-12)


def test_a_mixed_table_predicts_what_its_rows_do_alone(h100):
    tables = [random_steps(load_architecture(n).with_ep(ep), tp, 5, 4) for n, tp, ep in SERVED]
    alone = np.concatenate([MODEL.predict_us(table, h100) for table in tables])
    assert MODEL.predict_us(StepTable.concatenate(tables), h100) == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("deepseek-v3.2", "sparse"),
        ("nemotron-3-nano-30b-a3b", "Mamba"),
    ],
)
def test_what_has_no_term_is_refused_by_name(name, kind, h100):
    with pytest.raises(ArchitectureError, match=rf"{name}.*no term for .*{kind}"):
        MODEL.step_time_us(decode(100), load_architecture(name), h100)


def test_other_models_refuse_experts_that_gpus_share_whole(h100):
    arch = load_architecture("mixtral-8x7b").with_ep(2)
    with pytest.raises(ArchitectureError, match=r"ep 2.*roofline-v4 has"):
        latency_model("roofline-v3").step_time_us(decode(100), arch, h100, 2)


def test_an_ep_that_cannot_be_is_refused():
    with pytest.raises(ArchitectureError, match="ep 3 does not divide the 8 experts"):
        load_architecture("mixtral-8x7b").with_ep(3)
    with pytest.raises(ArchitectureError, match="has no experts"):
        load_architecture("llama-3.1-8b").with_ep(2)
    with pytest.raises(ArchitectureError, match=r"moe_dtype fp8: .* has no experts"):
        load_architecture("llama-3.1-8b").with_moe_dtype("fp8")
    with pytest.raises(ArchitectureError, match="ep 8 does not divide tp 4"):
        load_architecture("mixtral-8x7b").with_ep(8).check_tp(4)


def test_regimes_name_what_bounds_a_step(h100):
    steps = random_steps(load_architecture("qwen3-30b-a3b"), 2, 30, seed=5)
    known = {"compute", "memory", "host", "communication", "experts"}
    assert set(MODEL.regimes(steps, h100)) <= known
    names = ("qwen3-30b-a3b", "llama-3.1-8b")
    models = [load_architecture(name) for name in names]
    small = StepTable.from_batches([decode(100)] * 2, models, [1, 1])
    idle = h100.with_values(dict.fromkeys(ENGINE, 0.0))
    assert MODEL.regimes(small, idle).tolist() == ["experts", "memory"]
