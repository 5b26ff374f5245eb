"""The work that no step avoids, and the room of the KV cache, against numbers worked out by hand."""

import math

import numpy as np
import pytest

from sim import Batch, HardwareError, StepTable, load_architecture, load_hardware
from sim.architecture import Architecture, Experts
from sim.serving.engine import EngineLimits, kv_cache_tokens
from sim.steps.work import minimum_work
from tests.conftest import GUIDE_H100

LLAMA = load_architecture("llama-3.1-8b")  # 32 layers of 4096, 32 heads of 128 and 8 of KV
LAYERS = 32 * (2 * 4096 * 128 * (32 + 8) + 3 * 4096 * 14336)
HEAD = 128256 * 4096
GIB = 2**30
H100 = load_hardware({"H100": GUIDE_H100}).with_values({"MemoryGiB": 80.0})

TINY = Architecture("tiny", num_layers=3, hidden_size=8, num_heads=4, num_kv_heads=2, head_dim=5)
"""MLP of 4·8; attention of a layer: 2·8·5·(4 + 2) = 480 weights, its three MLP matrices 3·8·32 = 768."""

SPARSE = Architecture(
    "sparse",
    num_layers=3,
    hidden_size=8,
    num_heads=4,
    intermediate_size=10,
    vocab_size=100,
    num_mlp_matrices=2,
    experts=Experts(
        7, experts_per_token=2, intermediate_size=6, shared_intermediate_size=5, num_dense_layers=1
    ),
)
"""Heads of 8/4 = 2, as many of KV; one dense layer of 10, two of experts."""


def table(*batches, arch=LLAMA, tp=1):
    return StepTable.from_batches(batches, [arch] * len(batches), [tp] * len(batches))


def work(*batches, arch=LLAMA, tp=1):
    found = minimum_work(table(*batches, arch=arch, tp=tp))
    return found.flops.tolist(), found.bytes.tolist()


PROMPT = Batch.from_requests(prefill=[(0, 1000, 2)])
CHUNK = Batch.from_requests(prefill=[(500, 100, 1)])
LAST_TOKEN = Batch.from_requests(prefill=[(700, 1, 3)])
DECODE = Batch.from_requests(decode=[(4096, 64)])
MIXED = Batch.from_requests(prefill=[(0, 1000, 2), (700, 1, 3)], decode=[(300, 10)])


@pytest.mark.parametrize(
    ("batch", "tokens", "pairs", "cached"),
    [
        (PROMPT, 2000, 2 * 1000 * 999 / 2, 0),
        (CHUNK, 100, 100 * 500 + 100 * 99 / 2, 500),
        (LAST_TOKEN, 3, 3 * 700, 3 * 700),
        (DECODE, 64, 64 * 4096, 64 * 4096),
        (MIXED, 2013, 2 * 1000 * 999 / 2 + 3 * 700 + 10 * 300, 3 * 700 + 10 * 300),
    ],
)
def test_work_of_a_step_of_llama_3_1_8b(batch, tokens, pairs, cached):
    """Two FLOPs a weight and token, 4·128 a pair, layer and head; weights once, 128 KiB a cached token."""
    flops, bytes_ = work(batch)
    assert flops == pytest.approx([2 * LAYERS * tokens + 4 * 128 * 32 * 32 * pairs], rel=1e-12)
    assert bytes_ == pytest.approx([2 * LAYERS + 128 * 1024 * cached], rel=1e-12)


@pytest.mark.parametrize(("dtype", "size"), [("fp8", 1.0), ("int4", 0.515625), ("fp32", 4.0)])
def test_bytes_have_the_size_of_a_weight(dtype, size):
    (flops,), (bytes_,) = work(DECODE, arch=LLAMA.with_dtype(dtype))
    assert bytes_ == pytest.approx(size * (LAYERS + 64 * 1024 * 64 * 4096))
    assert flops == work(DECODE)[0][0]


def test_a_step_on_more_gpus_is_the_same_work():
    assert work(MIXED, tp=4) == work(MIXED, tp=1)


def test_heads_of_their_own_size():
    """Layers of 480 + 768 weights; a pair costs 4·3·4·5 FLOPs, a cached token 2·2·3·2·5 bytes."""
    assert TINY.params_per_token == TINY.layer_params == 3 * (480 + 768)
    assert TINY.attention_flops_per_pair == 240
    assert TINY.kv_bytes_per_token() == 120
    assert TINY.layer_matrices() == ((40, 8), (8, 20), (64, 8), (8, 32))
    assert TINY.layer_matrices(2) == ((20, 8), (8, 10), (32, 8), (8, 16))
    assert TINY.layer_matrices(4) == ((15, 8), (8, 5), (16, 8), (8, 8))  # a KV head on each of 4


def test_experts_that_serve_a_token_and_all_of_them():
    """Attention 2·8·2·8 = 256 a layer; experts of 2·8·6 = 96, a shared one of 80, a dense layer of 160."""
    assert SPARSE.params_per_token == 3 * 256 + 2 * (2 * 96 + 80) + 160
    assert SPARSE.layer_params == 3 * 256 + 2 * (7 * 96 + 80) + 160
    assert SPARSE.expert_params == 2 * 96
    assert SPARSE.total_params == SPARSE.layer_params + 2 * 800
    (flops,), (bytes_,) = work(Batch.from_requests(decode=[(6, 5)]), arch=SPARSE)
    assert flops == 2 * SPARSE.params_per_token * 5 + 4 * 3 * 4 * 2 * 30
    assert bytes_ == 2 * SPARSE.params_per_token + 2 * 2 * 3 * 4 * 2 * 30


def test_the_floor_is_the_slower_of_arithmetic_and_memory_over_all_gpus():
    """On two GPUs of 1000 TFLOP/s (100 for the second row) and 4 TB/s."""
    steps = table(PROMPT, DECODE, tp=2)
    floor = minimum_work(steps).floor_us(steps, np.array([1000.0, 100.0]), 4.0)
    compute = (2 * LAYERS * 2000 + 4 * 128 * 32 * 32 * 999_000) / 1e15 / 2
    memory = (2 * LAYERS + 128 * 1024 * 64 * 4096) / 4e12 / 2
    assert floor == pytest.approx([1e6 * compute, 1e6 * memory], rel=1e-12)


def room(memory_gib, share, tp, weight_bytes, token_bytes):
    return math.floor((memory_gib * GIB * share * tp - weight_bytes) / token_bytes)


@pytest.mark.parametrize(
    ("tp", "copies"), [(1, 1), (2, 1), (8, 1), (16, 2), (32, 4)], ids=lambda value: str(value)
)
def test_beyond_its_kv_heads_a_cache_keeps_copies(tp, copies):
    """Eight KV heads on 16 GPUs are two of each: a token takes twice 128 KiB of all memory together."""
    expected = room(80, 0.9, tp, 2 * (LAYERS + 2 * HEAD), copies * 128 * 1024)
    assert kv_cache_tokens(LLAMA, H100, tp) == expected


def test_a_cache_of_an_fp8_model_has_16_bits_a_value_and_its_own_share_of_memory():
    expected = room(80, 0.5, 2, LAYERS + 2 * 2 * HEAD, 128 * 1024)  # the head stays in 16 bits
    assert kv_cache_tokens(LLAMA.with_dtype("fp8"), H100, 2, 0.5) == expected


def test_layers_with_windows_keep_no_more_of_a_request_than_these():
    """gpt-oss-20b: 12 layers of all tokens, 12 of the last 128; 8 heads of 64 numbers twice, 2 KiB a layer."""
    arch = load_architecture("gpt-oss-20b")
    layer_bytes = 2 * 8 * 64 * 2
    assert arch.cache_bytes(100) == 24 * 100 * layer_bytes
    assert arch.cache_bytes(4096) == (12 * 4096 + 12 * 128) * layer_bytes
    free = 80 * GIB * 0.9 - arch.weight_bytes
    expected = int(free // (arch.cache_bytes(4096) / 4096))
    assert kv_cache_tokens(arch, H100, 1, request_tokens=4096) == expected
    assert expected == pytest.approx(1.94 * kv_cache_tokens(arch, H100, 1), rel=0.01)


def test_a_recurrent_layers_state_is_kept_once_a_request():
    """Qwen3.5-27B: 16 of 64 layers keep 4 heads of 256 numbers twice a token; the others a state each."""
    arch = load_architecture("qwen3.5-27b")
    assert arch.cache_bytes(0) == arch.state_bytes > 0
    assert arch.cache_bytes(1000) == arch.state_bytes + 1000 * 16 * 2 * 4 * 256 * 2


def test_of_full_attention_the_room_is_the_same_for_requests_of_any_length():
    for tokens in (1, 100, 1e6):
        assert kv_cache_tokens(LLAMA, H100, 2, request_tokens=tokens) == kv_cache_tokens(
            LLAMA, H100, 2
        )


def test_room_for_one_token_is_enough_and_for_less_an_error():
    """TINY's weights are 2·3744 bytes, a token 120: a thousandth of a byte short of one is none."""
    just = H100.with_values({"MemoryGiB": (2 * 3744 + 120.001) / GIB})
    short = H100.with_values({"MemoryGiB": (2 * 3744 + 119.999) / GIB})
    assert kv_cache_tokens(TINY, just, 1, 1.0) == 1
    with pytest.raises(HardwareError, match=r"tiny .* does not fit on 1 × H100"):
        kv_cache_tokens(TINY, short, 1, 1.0)


def test_blocks_are_whole_and_delays_grow_with_the_prompt():
    engine = EngineLimits(
        kv_cache_tokens=100, block_size=16, api_us=30.0, api_us_per_prompt_token=0.5
    )
    assert engine.blocks == 6
    assert engine.delay_us(np.array([10, 200])).tolist() == [35.0, 130.0]
