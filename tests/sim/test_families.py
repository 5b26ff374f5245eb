"""Families of models, by ``model_type``: counted as their own code builds them, or refused."""

import json
from pathlib import Path

import pytest

from sim import ArchitectureError, load_architecture

SAMPLES = json.loads((Path(__file__).parents[1] / "data" / "families.json").read_text())["samples"]


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_family_is_counted_as_transformers_builds_it(name):
    sample = SAMPLES[name]
    arch = load_architecture(sample["config"])
    assert arch.total_params == pytest.approx(sample["parameters"], rel=0.015)
    if sample["cached"] is not None and not arch.latent_attention:
        assert arch.kv_bytes_per_token(bytes_per_value=1.0) == sample["cached"]


def of_images_and_text(**text):
    """A description with the language part in a section, as Gemma 3 has it."""
    windows = {"sliding_window": 1024, "model_type": "gemma3_text"}
    return {"model_type": "gemma3", "text_config": {**windows, **text}, "vision_config": {"x": 1}}


def sized(layers, hidden, heads, mlp, vocab, **others):
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": mlp,
        "vocab_size": vocab,
        "tie_word_embeddings": False,
        **others,
    }


LATENT = {
    "kv_lora_rank": 512,
    "q_lora_rank": None,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "moe_intermediate_size": 1408,
    "first_k_dense_replace": 1,
}


@pytest.mark.parametrize(
    ("name", "config", "billions"),
    [
        ("baichuan", sized(32, 4096, 32, 11008, 125696), 7.51),  # Baichuan2-7B
        ("chatglm", sized(28, 4096, 32, 13696, 65024, multi_query_group_num=2), 6.24),  # ChatGLM3
        ("deepseek_v2", sized(27, 2048, 16, 10944, 102400, **LATENT), 15.7),  # DeepSeek-V2-Lite
        ("internlm2", sized(32, 4096, 32, 14336, 92544, num_key_value_heads=8), 7.74),  # 7B
        (
            "nemotron",
            sized(32, 4096, 48, 16384, 256000, num_key_value_heads=8, head_dim=128),
            8.27,
        ),  # Minitron-8B
    ],
)
def test_a_family_that_cannot_be_built_has_the_size_of_a_published_model(name, config, billions):
    arch = load_architecture({"model_type": name, **config})
    assert arch.total_params == pytest.approx(billions * 1e9, rel=0.01)


def test_a_section_leaves_out_what_its_class_has():
    """https://huggingface.co/google/gemma-3-27b-it and gemma-3-4b-it: config.json without a vocabulary."""
    large = load_architecture(
        of_images_and_text(
            head_dim=128,
            hidden_size=5376,
            intermediate_size=21504,
            num_attention_heads=32,
            num_hidden_layers=62,
            num_key_value_heads=16,
        )
    )
    assert large.total_params == pytest.approx(27.0e9, rel=0.005)
    assert large.tied_embeddings
    assert large.vocab_size == 262_208
    small = load_architecture(
        of_images_and_text(hidden_size=2560, intermediate_size=10240, num_hidden_layers=34)
    )
    assert (small.num_heads, small.num_kv_heads, small.head_dim) == (8, 4, 256)
    assert small.total_params == pytest.approx(3.88e9, rel=0.01)


def test_a_whole_file_without_its_vocabulary_or_its_layers_is_refused():
    config = {**SAMPLES["llama"]["config"]}
    for name in ("vocab_size", "num_hidden_layers"):
        without = {key: value for key, value in config.items() if key != name}
        with pytest.raises(ArchitectureError, match=f"'{name}' is missing"):
            load_architecture(without)


def test_embeddings_are_tied_where_the_class_ties_them():
    gemma = {
        "model_type": "gemma2",
        "hidden_size": 3584,
        "head_dim": 256,
        "intermediate_size": 14336,
        "num_attention_heads": 16,
        "num_hidden_layers": 42,
        "num_key_value_heads": 8,
        "vocab_size": 256_000,
    }
    assert load_architecture(gemma).total_params == pytest.approx(9.24e9, rel=0.005)
    assert load_architecture({**gemma, "tie_word_embeddings": False}).total_params > 10e9


def test_one_key_value_head_serves_all_where_a_falcon_says_multi_query():
    falcon = {
        "model_type": "falcon",
        "hidden_size": 4544,
        "num_attention_heads": 71,
        "num_hidden_layers": 32,
        "multi_query": True,
        "new_decoder_architecture": False,
        "vocab_size": 65024,
    }
    arch = load_architecture(falcon)
    assert arch.kv_heads == 1
    assert arch.total_params == pytest.approx(6.92e9, rel=0.01)
    assert load_architecture({**falcon, "multi_query": False}).kv_heads == 71


def test_sizes_in_sections_of_dbrx_are_read():
    """https://huggingface.co/databricks/dbrx-base: 132 B parameters, of which 36 B are active."""
    arch = load_architecture(
        {
            "model_type": "dbrx",
            "attn_config": {"clip_qkv": 8, "kv_n_heads": 8, "rope_theta": 500000},
            "ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4},
            "d_model": 6144,
            "n_heads": 48,
            "n_layers": 40,
            "tie_word_embeddings": False,
            "vocab_size": 100352,
        }
    )
    assert arch.total_params == pytest.approx(131.6e9, rel=0.01)
    assert arch.active_params == pytest.approx(36e9, rel=0.015)
    assert arch.kv_heads == 8


@pytest.mark.parametrize("name", ["xlstm", "mamba2", "lfm2", "doge", "a_new_one"])
def test_a_family_whose_layers_are_not_known_is_refused_with_what_can_be_done(name):
    config = {**SAMPLES["llama"]["config"], "model_type": name}
    with pytest.raises(ArchitectureError, match=rf"model_type says '{name}'.*name that one"):
        load_architecture(config)
