"""Models whose layers are not all alike: counted right, or refused by the field that says so."""

import importlib.util
import json
from pathlib import Path

import pytest

from sim import ArchitectureError, Batch, Hardware, load_architecture
from sim.architecture import ALL_TOKENS, Sampling
from sim.architecture_files import architecture_names
from sim.architecture_files.generation import sampling_of
from sim.models.registry import latency_model

PLAIN = {
    "num_hidden_layers": 4,
    "hidden_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 1024,
    "vocab_size": 1000,
}
REGISTRY = Path(importlib.util.find_spec("sim").origin).parent / "architectures"
ATTENTION = 512 * 512 * 2 + 2 * 512 * (2 * 64)
MLP = 3 * 512 * 1024
KV = 2 * 2 * 2 * 64  # bytes of a cached token in a layer


def model(**changed):
    """PLAIN with fields changed."""
    return load_architecture({**PLAIN, **changed})


def test_windows_are_layers_of_their_own():
    kinds = ["sliding_attention", "full_attention"] * 2
    arch = model(layer_types=kinds, sliding_window=128)
    assert arch.window == 128
    assert arch.windows == ("sliding windows of 128 tokens in 2 of 4 layers",)
    assert arch.not_modelled == ()
    assert arch.total_params == load_architecture(PLAIN).total_params
    assert arch.kv_bytes_per_token() == 4 * KV


@pytest.mark.parametrize(
    ("fields", "windowed"),
    [
        ({"model_type": "mistral", "sliding_window": 4096}, 4),
        ({"model_type": "mistral", "sliding_window": None}, 0),
        ({"model_type": "mistral", "sliding_window": 4096, "max_position_embeddings": 4096}, 0),
        ({"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": False}, 0),
        ({"model_type": "qwen2", "sliding_window": 4096}, 0),
        (
            {
                "model_type": "qwen2",
                "sliding_window": 64,
                "use_sliding_window": True,
                "max_window_layers": 3,
            },
            1,
        ),
        ({"model_type": "gemma2", "sliding_window": 4096}, 2),
        ({"model_type": "gemma3_text", "sliding_window": 512, "sliding_window_pattern": 2}, 2),
        ({"hybrid_layer_pattern": [0, 1, 1, 1], "sliding_window_size": 128}, 3),
    ],
)
def test_each_family_says_in_its_own_way_which_layers_have_windows(fields, windowed):
    groups = model(**fields).layer_groups
    assert sum(group.count for group in groups if group.attention.window) == windowed


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sliding_window": 0}, "sliding_window must be positive, got 0; leave it out"),
        (
            {"sliding_window": 0, "layer_types": ["sliding_attention", "full_attention"] * 2},
            "sliding_window must be positive, got 0",
        ),
        (
            {"attention_chunk_size": 0, "layer_types": ["chunked_attention"] * 4},
            "attention_chunk_size must be positive, got 0",
        ),
        ({"layer_types": ["chunked_attention"] * 4}, "'attention_chunk_size' is missing"),
    ],
)
def test_a_window_of_nothing_is_told_in_words(fields, words):
    with pytest.raises(ArchitectureError, match=words):
        model(**fields)


def test_chunked_attention_is_a_window_too():
    arch = model(
        model_type="llama4_text",
        head_dim=64,
        attention_chunk_size=8192,
        num_local_experts=8,
        num_experts_per_tok=1,
        intermediate_size=256,
        intermediate_size_mlp=1024,
        interleave_moe_layer_step=2,
    )
    assert arch.windows == ("attention within chunks of 8192 tokens in 3 of 4 layers",)
    expert = 3 * 512 * 256
    assert arch.layer_params == 4 * ATTENTION + 2 * MLP + 2 * (8 + 1) * expert
    assert arch.params_per_token == 4 * ATTENTION + 2 * MLP + 2 * (1 + 1) * expert


def test_latent_attention_keeps_one_compressed_vector_a_token():
    arch = model(
        kv_lora_rank=64, q_lora_rank=96, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32
    )
    queries = 96 * (512 + 8 * 48)
    keys_values = 512 * (64 + 16) + 64 * 8 * (32 + 32)
    output = 8 * 32 * 512
    assert arch.layer_params == 4 * (queries + keys_values + output + MLP)
    assert arch.kv_bytes_per_token() == 4 * (64 + 16) * 2
    assert arch.kv_bytes_per_token(tp=4) == 4 * arch.kv_bytes_per_token()
    assert arch.not_modelled == ("latent attention (MLA) in 4 of 4 layers",)


def test_linear_attention_keeps_a_state_and_no_tokens():
    arch = model(
        layer_types=["linear_attention"] * 3 + ["full_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=32,
        linear_value_head_dim=64,
        linear_conv_kernel_dim=4,
    )
    mixed, values = 2 * 2 * 32 + 4 * 64, 4 * 64
    linear = 512 * (mixed + values + 2 * 4 + values) + mixed * 4
    assert arch.layer_params == 3 * linear + ATTENTION + 4 * MLP
    assert arch.kv_bytes_per_token() == KV
    assert arch.state_bytes == 3 * (4 * (4 * 32 * 64) + 2 * mixed * 3)
    assert arch.not_modelled == ("linear attention in 3 of 4 layers",)


def test_a_layer_may_be_mamba_an_mlp_or_attention_alone():
    arch = model(
        model_type="nemotron_h",
        head_dim=64,
        hybrid_override_pattern="M-M*",
        mamba_num_heads=4,
        mamba_head_dim=64,
        ssm_state_size=16,
        n_groups=2,
        conv_kernel=4,
        use_mamba_kernels=True,
    )
    mixed = 4 * 64 + 2 * 2 * 16
    mamba = 512 * (256 + mixed + 4 + 256) + mixed * 4
    assert arch.layer_params == 2 * mamba + 2 * 512 * 1024 + ATTENTION
    assert arch.kv_bytes_per_token() == KV
    assert "Mamba layers in 2 of 4 layers" in arch.not_modelled


def test_pruned_blocks_have_their_own_sizes():
    def block(heads_in_group, factor):
        attention = {"n_heads_in_group": heads_in_group, "no_op": heads_in_group is None}
        return {"attention": attention, "ffn": {"ffn_mult": factor, "no_op": factor is None}}

    blocks = [block(4, 3.0), block(None, 1.5), block(8, None), block(4, 0.1)]
    arch = model(block_configs=blocks, num_key_value_heads=None)
    assert [group.mlp_size for group in arch.layer_groups] == [1024, 512, 0, 256]
    with_two = ATTENTION
    with_one = 512 * 512 * 2 + 2 * 512 * 64
    mlps = 3 * 512 * (1024 + 512 + 256)
    assert arch.layer_params == 2 * with_two + with_one + mlps
    assert arch.kv_bytes_per_token() == 2 * KV + KV / 2


def test_experts_may_work_on_a_projection_of_the_token():
    arch = model(
        n_routed_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=256,
        moe_latent_size=128,
        moe_shared_expert_intermediate_size=64,
    )
    expert, around = 3 * 128 * 256, 3 * 512 * 64 + 2 * 512 * 128
    assert arch.layer_params == 4 * (ATTENTION + 8 * expert + around)
    assert arch.params_per_token == 4 * (ATTENTION + 2 * expert + around)


def test_a_gate_doubles_the_queries():
    assert model(attn_output_gate=True).layer_params == 4 * (ATTENTION + 512 * 512 + MLP)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"layer_types": ["rwkv_attention"] * 4}, "layer_types names 'rwkv_attention' layers"),
        ({"layer_types": ["full_attention"] * 3}, "layer_types has 3 entries for 4 layers"),
        ({"compress_ratios": [4, 128, 4, 0]}, "compress_ratios says"),
        ({"linear_attn_config": {"kda_layers": [1]}}, "linear_attn_config says"),
        ({"sparse_attention_config": {"use_sparse_attention": True}}, "sparse_attention_config"),
        ({"attn_type_list": [0, 1, 1, 1]}, "attn_type_list says"),
        ({"hybrid_override_pattern": "MMXX"}, "hybrid_override_pattern says 'MMXX'"),
        ({"layers_block_type": ["mamba"] * 4, "model_type": "bamba"}, "layers_block_type says"),
        ({"attn_layer_period": 8}, "attn_layer_period says 8"),
        ({"expert_layer_period": 2}, "expert_layer_period says 2"),
        ({"mamba_d_state": 16}, "mamba_d_state says 16"),
        ({"cross_attention_layers": [3, 8]}, "cross_attention_layers says"),
        ({"attn_layer_freq": 4}, "attn_layer_freq says 4"),
        ({"expert_layer_offset": 1}, "expert_layer_offset says 1"),
        ({"num_kv_shared_layers": 10}, "num_kv_shared_layers says 10"),
        ({"layer_types": {"a": 1}}, "layer_types must be a list"),
        ({"mlp_only_layers": 3, "num_experts": 8, "num_experts_per_tok": 2}, "must be a list"),
        ({"num_experts": 4, "num_experts_per_tok": 8}, "8 experts serve a token, of 4"),
        ({"model_type": ["llama"]}, r"model_type must be text, got \['llama'\]"),
        ({"hidden_size": 10**400}, "hidden_size is too large"),
        ({"num_hidden_layers": 48_000_000_000}, "48,000,000,000 layers are too many"),
        ({"hybrid_override_pattern": [{}, "M", "M", "M"]}, "hybrid_override_pattern says"),
    ],
)
def test_what_is_not_known_is_refused_by_the_name_of_its_field(fields, name):
    with pytest.raises(ArchitectureError, match=name):
        model(**fields)


def test_a_field_that_says_nothing_is_passed_over():
    plain = load_architecture(PLAIN)
    for value in (None, False, 0, [], {}):
        assert model(compress_ratios=value, mamba_d_state=value) == plain


H100 = Hardware("H100", {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35})


@pytest.mark.parametrize("name", ["roofline-v1", "roofline-v3"])
def test_a_latency_model_refuses_what_it_has_no_term_for(name):
    chosen = latency_model(name)
    hardware = Hardware("H100", {**chosen.defaults(), **_guide(), **H100.values})
    windowed = model(sliding_window=128, model_type="mistral")
    within = chosen.step_time_us(Batch.from_requests([], [(100,)]), windowed, hardware)
    assert within == chosen.step_time_us(
        Batch.from_requests([], [(100,)]), load_architecture(PLAIN), hardware
    )
    with pytest.raises(ArchitectureError, match="contexts beyond 128 tokens are not modelled"):
        chosen.step_time_us(Batch.from_requests([], [(200,)]), windowed, hardware)
    gated = model(attn_output_gate=True)
    with pytest.raises(ArchitectureError, match=f"{name} cannot compute model: no term for"):
        chosen.step_time_us(Batch.from_requests([], [(100,)]), gated, hardware)


def _guide():
    return {
        "BwEffConstant": 0.7,
        "mfuPrefill": 0.6,
        "mfuDecode": 0.3,
        "tpScalingExponent": 0.8,
        "decodeTpScalingExponent": 0.9,
        "TOverheadMicros": 100.0,
        "mfuPrefillMultiplier": 1.0,
        "mfuDecodeMultiplier": 1.0,
        "prefillBwFactor": 1.0,
        "decodeBwFactor": 1.0,
    }


CARDS = {
    "DeepSeek-R1": (671, 37, 70272),
    "DeepSeek-V3.1-NVFP4": (671, 37, 70272),
    "DeepSeek-V3.2": (671, 37, None),
    "GLM-5.2": (744, 40, None),
    "Gemma-4-31B-IT-NVFP4": (30.7, None, None),
    "gemma-4-26B-A4B": (25.2, 3.8, None),
    "Kimi-K2-Instruct": (1026, 32, 70272),
    "Kimi-K2.5": (1026, 32, 70272),
    "Llama-3_3-Nemotron-Super-49B-v1": (49.9, None, 200704),
    "Llama-4-Maverick-17B-128E-Instruct": (400, 17, 196608),
    "Llama-4-Scout-17B-16E-Instruct": (108, 17, 196608),
    "Meta-Llama-3.1-405B": (405.9, None, 516096),
    "MiMo-V2-Flash": (309, 15, None),
    "MiniMax-M2.5": (229, 10, 253952),
    "Mixtral-8x22B-v0.1": (140.6, 39, 229376),
    "Nemotron-H-56B-Base-8K": (56, None, 40960),
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": (31.6, 3.2, 6144),
    "NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4": (120.6, 12, 8192),
    "NVIDIA-Nemotron-3-Ultra-550B-A55B-FP8": (550, 55, 12288),
    "Qwen3-235B-A22B-NVFP4": (235, 22, 192512),
    "Qwen3-Coder-480B-A35B-Instruct": (480, 35, 253952),
    "Qwen3.5-27B": (27, None, 65536),
    "Qwen3.5-35B-A3B": (35, 3, 20480),
    "Qwen3.5-397B-A17B": (397, 17, 30720),
    "Step-3.7-Flash": (196, 11, None),
    "gpt-oss-120b": (116.8, 5.1, 73728),
    "gpt-oss-20b": (20.9, 3.6, 49152),
}
"""Billions of weights, and of those that serve a token, as names or cards state them; bytes of a cached token."""

REFUSED = ("DeepSeek-V4", "Kimi-K3", "MiniMax-M3")


_REGISTERED = {
    alias.rpartition("/")[2]: name
    for name, aliases in architecture_names().items()
    for alias in aliases
}


def check_card(arch, card):
    total, active, kv_bytes = CARDS[card]
    assert arch.total_params / 1e9 == pytest.approx(total, rel=0.03)
    assert active is None or arch.active_params / 1e9 == pytest.approx(active, rel=0.08)
    assert kv_bytes is None or arch.kv_bytes_per_token() == kv_bytes


@pytest.mark.parametrize("card", [card for card in CARDS if card in _REGISTERED])
def test_a_registered_model_has_the_size_that_its_name_or_card_states(card):
    check_card(load_architecture(_REGISTERED[card]), card)


def _published():
    spec = importlib.util.find_spec("aiconfigurator_core")
    folder = Path(spec.origin).parent / "model_configs" if spec and spec.origin else None
    if folder is None or not folder.is_dir():
        pytest.skip("the extra 'silicon' is not installed")
    return sorted(f for f in folder.glob("*_config.json") if "hf_quant" not in f.name)


def test_every_published_description_is_counted_or_refused_by_name():
    for file in _published():
        if any(name in file.name for name in REFUSED):
            with pytest.raises(ArchitectureError, match=r"(compress_ratios|linear_attn|sparse)"):
                load_architecture(file)
        else:
            assert load_architecture(file).total_params > 5e8, file.name


def test_sizes_are_those_that_names_and_cards_state():
    for file in _published():
        card = file.name.partition("--")[2].removesuffix("_config.json")
        if card in CARDS:
            check_card(load_architecture(file), card)


def test_a_file_beside_the_description_says_the_weight_type(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(PLAIN))
    quantised = {"quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(quantised))
    arch = load_architecture(tmp_path)
    assert (arch.dtype, arch.bytes_per_param) == ("nvfp4", 0.5625)
    assert arch.weight_bytes == arch.layer_params * 0.5625 + 2 * 1000 * 512 * 2


@pytest.mark.parametrize(
    ("asked", "sampling"),
    [
        ({"top_p": 0.9, "temperature": 0.6}, Sampling(0.9)),
        ({"top_k": 20, "do_sample": True}, Sampling(1.0, 20)),
        ({"top_p": 0.9, "temperature": 0}, ALL_TOKENS),
        ({"top_p": 1.0, "top_k": -1}, ALL_TOKENS),
        ({"eos_token_id": 2}, ALL_TOKENS),
    ],
)
def test_a_generation_config_beside_a_description_says_how_tokens_are_drawn(
    tmp_path, asked, sampling
):
    (tmp_path / "config.json").write_text(json.dumps(PLAIN))
    (tmp_path / "generation_config.json").write_text(json.dumps(asked))
    assert load_architecture(tmp_path).sampling == sampling


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"top_p": 1.5}, "top_p must be above 0 and at most 1, got 1.5"),
        ({"top_p": "most"}, "top_p must be a number, got 'most'"),
        ({"top_k": True}, "top_k must be a number, got True"),
    ],
)
def test_a_generation_config_that_says_nonsense_is_an_error(tmp_path, asked, message):
    (tmp_path / "config.json").write_text(json.dumps(PLAIN))
    (tmp_path / "generation_config.json").write_text(json.dumps(asked))
    with pytest.raises(ArchitectureError, match=rf"generation_config.json: {message}"):
        load_architecture(tmp_path)


def test_every_way_of_sampling_in_the_registry_has_its_source():
    stated = [json.loads(path.read_text()) for path in REGISTRY.glob("*.json")]
    samplings = [entry["sampling"] for entry in stated if "sampling" in entry]
    assert len(samplings) >= 40
    for sampling in samplings:
        assert sampling["source"].endswith("/generation_config.json")
        assert sampling_of(sampling, "registry").sorts


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("llama-3.1-8b", "dense"),
        ("qwen3-30b-a3b", "experts"),
        ("gpt-oss-20b", "windows, experts"),
        ("deepseek-v3", "latent attention, experts"),
        ("deepseek-v3.2", "sparse attention, experts"),
        ("qwen3.5-27b", "linear attention"),
        ("nemotron-3-nano-30b-a3b", "Mamba, experts"),
    ],
)
def test_the_kind_of_a_model_is_what_sets_its_layers_apart(name, kind):
    assert load_architecture(name).kind == kind
