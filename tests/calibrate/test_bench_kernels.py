"""Kernels of mixtures of experts and of latent attention compute what their formulas say."""

import numpy as np
import pandas as pd
import pytest

from calibrate.bench.mla import MlaShape, attend_latent, mla_decode_points, mla_shapes
from calibrate.bench.moe import MoeShape, looped, moe_points, moe_shapes, route, run_experts
from calibrate.campaign.physics import KERNELS
from sim.architecture_files import load_architecture
from tests.calibrate.fake_gpu import FakeDevice

MIXTRAL = MoeShape(4096, 14336, 8, 2)
DEEPSEEK = MlaShape(128, 512, 128, 64, 128)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip(
        "torch", reason="needs the extra: pip install 'llm-calibrate[bench]'"
    )


def test_experts_and_latents_of_a_gpu_are_cut_by_the_degree():
    assert moe_shapes(load_architecture("mixtral-8x7b"), [1, 2]) == [
        MIXTRAL,
        MoeShape(4096, 7168, 8, 2),
    ]
    assert moe_shapes(load_architecture("llama-3.1-8b"), [1]) == []
    assert mla_shapes(load_architecture("deepseek-v3"), [1, 8]) == [
        DEEPSEEK,
        MlaShape(16, 512, 128, 64, 128),
    ]
    assert mla_shapes(load_architecture("llama-3.1-8b"), [1]) == []


def test_a_point_needs_the_memory_of_its_weights_and_cache():
    device = FakeDevice(iter(()))
    [experts] = moe_points(device, [MIXTRAL], [1], "bf16")
    assert experts.bytes_needed == pytest.approx(2 * 3 * 8 * 4096 * 14336, rel=1e-3)
    [decode] = mla_decode_points(device, [DEEPSEEK], [(64, 4096)], "bf16")
    assert decode.bytes_needed == pytest.approx(2 * 64 * 4096 * 576, rel=0.1)


def test_the_sum_over_experts_is_that_of_every_token_alone(torch):
    torch.manual_seed(0)
    shape = MoeShape(8, 6, 4, 2)
    x = torch.randn(5, 8, dtype=torch.float64)
    gate_up = torch.randn(4, 12, 8, dtype=torch.float64)
    down = torch.randn(4, 8, 6, dtype=torch.float64)
    routed = route(torch, shape, 5, x)
    assert sum(routed.rows_of_expert) == 10

    def product(rows, weight):
        return looped(torch, routed.rows_of_expert, rows, weight)

    total = run_experts(torch, product, x, gate_up, down, routed)
    expert = np.repeat(range(4), routed.rows_of_expert)
    by_hand = torch.zeros_like(x)
    for token, which, weight in zip(routed.token, expert, routed.weight, strict=True):
        gate, up = (gate_up[which] @ x[token]).chunk(2)
        by_hand[token] += weight * (down[which] @ (gate * torch.sigmoid(gate) * up))
    torch.testing.assert_close(total, by_hand)
    weights = torch.zeros(5, dtype=torch.float64).index_add_(0, routed.token, routed.weight[:, 0])
    torch.testing.assert_close(weights, torch.ones(5, dtype=torch.float64))


def test_an_absorbed_decode_is_attention_to_the_unpacked_cache(torch):
    """Scores qᵀW·c and values summed in the latent, then unpacked: the same as with each head's own keys and values."""
    torch.manual_seed(0)
    shape = MlaShape(3, 8, 4, 2, 5)
    kind = {"dtype": torch.float64}
    nope, rope = torch.randn(2, 3, 4, **kind), torch.randn(2, 3, 2, **kind)
    key_up, value_up = torch.randn(3, 4, 8, **kind), torch.randn(3, 5, 8, **kind)
    latent = torch.randn(2, 7, 10, **kind)
    packed, shared = latent[..., :8], latent[..., 8:]

    absorbed = torch.cat([torch.einsum("bhd,hdr->bhr", nope, key_up), rope], dim=-1)
    found = torch.einsum("bhr,hvr->bhv", attend_latent(torch, shape, absorbed, latent), value_up)

    keys = torch.einsum("bcr,hdr->bhcd", packed, key_up)
    values = torch.einsum("bcr,hvr->bhcv", packed, value_up)
    scores = torch.einsum("bhd,bhcd->bhc", nope, keys) + torch.einsum("bhd,bcd->bhc", rope, shared)
    weights = torch.softmax(scores * 6**-0.5, dim=-1)
    torch.testing.assert_close(found, torch.einsum("bhc,bhcv->bhv", weights, values))


def work(table, **columns):
    return KERNELS[table].work(pd.DataFrame([columns]))


def test_experts_cost_the_rows_they_compute_and_the_weights_that_were_met():
    sizes = {"hidden_size": 4096, "intermediate_size": 14336, "experts_per_token": 2}
    one = work("moe", num_tokens=1, num_experts=8, dtype="bf16", active_experts=2, **sizes)
    weights = 3 * 4096 * 14336
    assert one.flops[0] == 2 * 2 * weights
    assert one.bytes[0] == 2 * (2 * weights + 2 * 4096)
    unknown = work("moe", num_tokens=64, num_experts=8, dtype="bf16", **sizes)
    assert unknown.bytes[0] == 2 * (2 * weights + 2 * 64 * 4096)


def test_latent_attention_costs_its_pairs_and_reads_the_latent_once():
    sizes = {"num_heads": 128, "cache_rank": 512, "nope_dim": 128, "rope_dim": 64, "value_dim": 128}
    decode = work("mla_decode", **sizes, batch_size=2, kv_len=1000, dtype="bf16")
    assert decode.bytes[0] == 2 * 2 * 1000 * 576
    assert decode.flops[0] == 2 * 128 * 2 * 1000 * (2 * 512 + 64)
    prefill = work("mla_prefill", **sizes, batch_size=1, seq_len=3, dtype="bf16")
    assert prefill.flops[0] == 2 * 128 * 320 * 6
    assert prefill.bytes[0] == 2 * 2 * 3 * 128 * 320


@pytest.mark.parametrize(
    ("table", "link_bytes"), [("allreduce", 800.0), ("allgather", 700.0), ("alltoall", 700.0)]
)
def test_collectives_send_what_is_not_a_gpus_own(table, link_bytes):
    found = work(table, tp=8, bytes=800.0)
    assert np.asarray(found.link_bytes).tolist() == [link_bytes]
