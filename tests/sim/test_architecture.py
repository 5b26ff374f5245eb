"""Model descriptions: the registry, and every way in which a ``config.json`` may say the same thing."""

import json

import pytest

from sim import ArchitectureError, load_architecture
from sim.architecture_files import architecture_names
from sim.units import DTYPE_BYTES

PLAIN = {
    "num_hidden_layers": 4,
    "hidden_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 1024,
    "vocab_size": 1000,
}


def model(**changed):
    """PLAIN with fields changed; None takes one out."""
    return {name: value for name, value in {**PLAIN, **changed}.items() if value is not None}


def test_the_registry_is_wide():
    assert len(architecture_names()) >= 25
    families = (
        "llama-2",
        "llama-3.1",
        "qwen3",
        "mixtral",
        "mistral",
        "gpt-oss",
        "deepseek",
        "bloom",
        "phi",
    )
    for family in families:
        assert any(name.startswith(family) for name in architecture_names()), family


@pytest.mark.parametrize("name", architecture_names())
def test_every_registered_model_loads_and_makes_sense(name):
    arch = load_architecture(name)
    assert arch.name == name
    assert 12 <= arch.num_layers <= 200
    assert arch.hidden_size % 64 == 0
    assert arch.num_heads % arch.kv_heads == 0
    assert 20_000 < arch.vocab_size < 300_000
    assert arch.bytes_per_param == DTYPE_BYTES[arch.dtype]
    assert hash(arch) == hash(load_architecture(name))
    if arch.experts is not None:
        assert 0 < arch.experts.experts_per_token < arch.experts.num_experts


@pytest.mark.parametrize("name", architecture_names())
def test_every_alias_finds_its_model_in_any_case(name):
    for alias in architecture_names()[name]:
        assert load_architecture(alias).name == name
        assert load_architecture(f" {alias.upper()} ").name == name


def test_no_alias_means_two_models():
    names = [
        alias.lower()
        for name, aliases in architecture_names().items()
        for alias in {name, *aliases}
    ]
    assert len(set(names)) == len(names)


def test_the_hub_name_of_llama_finds_it():
    assert load_architecture("meta-llama/Llama-3.1-8B-Instruct").name == "llama-3.1-8b"


PUBLISHED_BILLIONS = {  # the safetensors count on each model's Hugging Face page
    "llama-2-7b": 6.738,
    "llama-2-13b": 13.016,
    "llama-2-70b": 68.977,
    "llama-3.1-8b": 8.030,
    "llama-3.1-70b": 70.554,
    "llama-3.1-405b": 405.853,
    "llama-3.2-1b": 1.236,
    "llama-3.2-3b": 3.213,
    "mistral-7b": 7.248,
    "mixtral-8x7b": 46.703,
    "mixtral-8x22b": 140.621,
    "qwen2.5-7b": 7.616,
    "qwen2.5-72b": 72.706,
    "qwen3-8b": 8.191,
    "qwen3-32b": 32.762,
    "qwen3-30b-a3b": 30.532,
    "qwen3-235b-a22b": 235.094,
    "phi-3-mini": 3.821,
    "phi-4": 14.660,
    "yi-34b": 34.389,
    "bloom-176b": 176.247,
    "gemma-2-9b": 9.242,
    "codellama-34b": 33.744,
    "gpt-oss-120b": 116.8,
    "gpt-oss-20b": 20.9,
}


@pytest.mark.parametrize("name", PUBLISHED_BILLIONS)
def test_the_size_is_the_published_one_within_two_percent(name):
    assert load_architecture(name).total_params / 1e9 == pytest.approx(
        PUBLISHED_BILLIONS[name], rel=0.02
    )


ACTIVE_BILLIONS = {
    "mixtral-8x7b": 12.9,
    "qwen3-30b-a3b": 3.3,
    "qwen3-235b-a22b": 22.0,
    "gpt-oss-120b": 5.1,
}


@pytest.mark.parametrize("name", ACTIVE_BILLIONS)
def test_a_token_multiplies_with_the_published_active_weights(name):
    arch = load_architecture(name)
    embeddings = arch.total_params - arch.layer_params
    assert (
        arch.params_per_token
        < ACTIVE_BILLIONS[name] * 1e9
        < (arch.params_per_token + embeddings) * 1.05
    )


def test_latent_attention_is_counted():
    arch = load_architecture("deepseek-v3")
    assert arch.latent_attention
    assert arch.experts.num_dense_layers == 3
    assert arch.total_params / 1e9 == pytest.approx(671, rel=0.01)
    assert arch.kv_bytes_per_token() == 61 * (512 + 64) * 2
    assert arch.kv_bytes_per_token(tp=8) == 8 * arch.kv_bytes_per_token()


def test_the_parameters_of_a_dense_model_are_its_matrices():
    arch = load_architecture(PLAIN)
    attention = 512 * 512 * 2 + 2 * 512 * (2 * 64)
    assert arch.attention_params == attention
    assert arch.params_per_token == arch.layer_params == 4 * (attention + 3 * 512 * 1024)
    assert arch.total_params == arch.layer_params + 2 * 1000 * 512
    assert (
        load_architecture(model(tie_word_embeddings=True)).total_params
        == arch.layer_params + 1000 * 512
    )


def test_bytes_and_flops_follow_from_the_weights():
    arch = load_architecture("llama-3.1-8b", dtype="fp8")
    assert arch.head_params == 128256 * 4096
    head_bytes = 2 * 128256 * 4096 * 2  # embeddings and head stay in 16 bits
    assert arch.weight_bytes == pytest.approx(8.030e9 + head_bytes / 2, rel=1e-3)
    assert arch.active_weight_bytes == arch.layer_weight_bytes == arch.weight_bytes - head_bytes
    assert arch.flops_per_token == 2 * arch.layer_weight_bytes  # of fp8, a byte is a weight
    assert arch.attention_flops_per_pair == 32 * 32 * (2 * 128 + 2 * 128)


def test_a_cached_token_of_llama_3_1_8b_takes_128_kib_and_more_where_heads_are_copied():
    arch = load_architecture("llama-3.1-8b")
    assert arch.kv_bytes_per_token() == arch.kv_bytes_per_token(8) == 128 * 1024
    assert arch.kv_bytes_per_token(16) == 256 * 1024
    assert arch.kv_bytes_per_token(16, bytes_per_value=1.0) == 128 * 1024
    assert arch.with_dtype("fp8").kv_bytes_per_token() == 128 * 1024


def test_the_matrices_of_all_gpus_are_the_weights_of_a_layer():
    arch = load_architecture("llama-3.1-8b")
    for tp in (1, 2, 4, 8):
        assert (
            tp * sum(n * k for n, k in arch.layer_matrices(tp)) * arch.num_layers
            == arch.layer_params
        )
    # A key/value head each, two GPUs the same one
    assert arch.layer_matrices(16)[0] == ((2 + 2) * 128, 4096)


@pytest.mark.parametrize(
    ("usual", "other"),
    [
        ("num_hidden_layers", "n_layer"),
        ("num_hidden_layers", "n_layers"),
        ("hidden_size", "n_embd"),
        ("hidden_size", "d_model"),
        ("num_attention_heads", "n_head"),
        ("num_attention_heads", "n_heads"),
        ("num_key_value_heads", "num_kv_heads"),
        ("num_key_value_heads", "multi_query_group_num"),
        ("intermediate_size", "ffn_dim"),
        ("intermediate_size", "n_inner"),
        ("intermediate_size", "ffn_hidden_size"),
    ],
)
def test_a_field_is_read_under_each_of_its_names(usual, other):
    assert load_architecture(model(**{usual: None, other: PLAIN[usual]})) == load_architecture(
        PLAIN
    )


@pytest.mark.parametrize(
    "experts", ["num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"]
)
@pytest.mark.parametrize(
    "per_token", ["num_experts_per_tok", "experts_per_token", "moe_top_k", "top_k"]
)
@pytest.mark.parametrize(
    "width", ["moe_intermediate_size", "expert_intermediate_size", "intermediate_size"]
)
def test_experts_are_read_under_each_of_their_names(experts, per_token, width):
    arch = load_architecture(model(**{experts: 16, per_token: 2, width: 256}))
    assert (
        arch.experts.num_experts,
        arch.experts.experts_per_token,
        arch.experts.intermediate_size,
    ) == (16, 2, 256)
    mlp = 3 * 512 * 256
    assert arch.layer_params - arch.params_per_token == 4 * 14 * mlp
    assert arch.expert_params == 4 * mlp


def test_shared_experts_and_dense_layers_count():
    moe = {"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 256}
    shared = load_architecture(model(**moe, n_shared_experts=2, first_k_dense_replace=1))
    assert shared.experts.shared_intermediate_size == 512
    expected = 4 * shared.attention_params + 3 * 512 * (3 * (2 * 256 + 512) + 1024)
    assert shared.params_per_token == expected
    assert (
        load_architecture(
            model(**moe, shared_expert_intermediate_size=128)
        ).experts.shared_intermediate_size
        == 128
    )
    assert load_architecture(model(**moe, mlp_only_layers=[0, 3])).experts.num_dense_layers == 2


def test_one_expert_is_no_mixture():
    assert load_architecture(model(num_experts=1)).experts is None


def test_left_out_key_value_heads_and_width_take_the_conventions():
    arch = load_architecture(model(num_key_value_heads=None, intermediate_size=None))
    assert (arch.kv_heads, arch.mlp_size) == (8, 4 * 512)


def test_an_explicit_head_dimension_goes_before_the_quotient():
    assert load_architecture(PLAIN).true_head_dim == 64
    arch = load_architecture(model(head_dim=128))
    assert arch.true_head_dim == 128
    assert arch.attention_params == 2 * load_architecture(PLAIN).attention_params
    assert load_architecture("qwen3-32b").true_head_dim == 128


@pytest.mark.parametrize(
    ("kind", "matrices"), [("llama", 3), ("bloom", 2), ("falcon", 2), ("opt", 2), (None, 3)]
)
def test_a_plain_mlp_has_two_matrices_and_a_gated_one_three(kind, matrices):
    assert load_architecture(model(model_type=kind)).num_mlp_matrices == matrices


@pytest.mark.parametrize(
    ("field", "dtype", "size"),
    [
        ({}, "bf16", 2),
        ({"torch_dtype": "float16"}, "fp16", 2),
        ({"torch_dtype": "torch.bfloat16"}, "bf16", 2),
        ({"dtype": "float32"}, "fp32", 4),
        ({"quantization_config": {"quant_method": "fp8"}}, "fp8", 1),
        ({"quantization_config": {"quant_method": "fbgemm_fp8"}}, "fp8", 1),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "mxfp4", 0.53125),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "int4", 0.515625),
        ({"quantization_config": {"quant_method": "gptq", "bits": 8}}, "int8", 1),
    ],
)
def test_the_weight_type_is_the_quantized_one_else_the_stored_one(field, dtype, size):
    arch = load_architecture(model(**field))
    assert (arch.dtype, arch.bytes_per_param) == (dtype, size)


def test_the_caller_may_choose_the_weight_type():
    assert load_architecture("llama-3.1-8b", dtype="fp8").bytes_per_param == 1
    with pytest.raises(ArchitectureError, match=r"dtype 'bf61' is not known.*did you mean 'bf16'"):
        load_architecture("llama-3.1-8b", dtype="bf61")


def test_a_dict_a_file_and_its_folder_are_the_same_model(tmp_path):
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(PLAIN))
    from_folder = load_architecture(folder)
    assert from_folder.name == "my-model"
    assert load_architecture(folder / "config.json") == from_folder
    assert load_architecture(str(folder)) == from_folder
    assert load_architecture({**PLAIN, "_name_or_path": "my-model"}) == from_folder


def test_a_multimodal_description_is_read_by_its_text_part():
    assert load_architecture({"text_config": PLAIN, "model_type": "llava"}) == load_architecture(
        {**PLAIN, "model_type": "llava"}
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_hidden_layers": None}, "the field 'num_hidden_layers' is missing"),
        ({"hidden_size": None}, "the field 'hidden_size' is missing"),
        ({"num_attention_heads": None}, "the field 'num_attention_heads' is missing"),
        ({"hidden_size": 0}, "hidden_size must be positive, got 0"),
        ({"hidden_size": -512}, "hidden_size must be a non-negative whole number, got -512"),
        ({"hidden_size": "512"}, "hidden_size must be a non-negative whole number, got '512'"),
        ({"hidden_size": 512.5}, r"hidden_size must be a non-negative whole number, got 512\.5"),
        ({"hidden_size": True}, "hidden_size must be a non-negative whole number, got True"),
        ({"hidden_size": float("nan")}, "hidden_size must be a non-negative whole number, got nan"),
        ({"hidden_size": float("inf")}, "hidden_size must be a non-negative whole number, got inf"),
        ({"num_key_value_heads": 3}, "8 attention heads are not a multiple of 3 key/value heads"),
        ({"torch_dtype": "float9"}, "weight type 'float9' is not known"),
        (
            {"quantization_config": {"quant_method": "magic"}},
            "quantization method 'magic' is not known",
        ),
        ({"num_experts": 8}, "the field 'num_experts_per_tok' is missing"),
        (
            {"model_type": "qwen3_next", "linear_num_key_heads": 4, "full_attention_interval": 0},
            "full_attention_interval says 0: it must be positive",
        ),
    ],
)
def test_a_bad_field_is_named_with_its_file(tmp_path, changed, message):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(model(**changed)))
    with pytest.raises(ArchitectureError, match=message) as error:
        load_architecture(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "not readable JSON"), (b"\xff\xfe\x00", "is not UTF-16 text"), (b"[]", "object")],
)
def test_a_file_that_is_no_description_is_named(tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ArchitectureError, match=message) as error:
        load_architecture(tmp_path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("lama-3.1-8b", "llama-3.1-8b"), ("qwen3_32b", "qwen3-32b"), ("Mixtral8x7b", "mixtral-8x7b")],
)
def test_an_unknown_name_comes_with_the_nearest(name, meant):
    with pytest.raises(
        ArchitectureError,
        match=f"model '{name}' is neither in the registry nor a folder.*'{meant}'",
    ):
        load_architecture(name)
