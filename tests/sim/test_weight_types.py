"""In which types a checkpoint stores its weights, by what each quantiser writes."""

import pytest

from sim import ArchitectureError, load_architecture

PLAIN = {
    "num_hidden_layers": 4,
    "hidden_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 1024,
    "vocab_size": 1000,
}
ATTENTION = 4 * (512 * 512 * 2 + 2 * 512 * (2 * 64))
MLP = 4 * 3 * 512 * 1024


def quantised(**described):
    return load_architecture({**PLAIN, "quantization_config": described})


def group(bits, kind="int", size=None, **more):
    weights = {"num_bits": bits, "type": kind, "group_size": size, **more}
    return {"group_0": {"targets": ["Linear"], "weights": weights}}


@pytest.mark.parametrize(
    ("described", "dtype", "size"),
    [
        ({"quant_method": "fp8"}, "fp8", 1.0),
        (
            {"quant_method": "fp8", "weight_block_size": [128, 128]},
            "fp8_block",
            1 + 4 / 16384,
        ),
        ({"quant_method": "fbgemm_fp8"}, "fp8", 1.0),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8", 1.0),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4", 0.5625),
        ({"quant_algo": "W4A16_AWQ"}, "int4", 0.515625),
        ({"quant_method": "modelopt", "quant_algo": "MXFP8"}, "mxfp8", 1.03125),
        ({"quant_method": "gpt_oss_mxfp4"}, "mxfp4", 0.53125),
        ({"quant_method": "gptq", "bits": 8}, "int8", 1.0),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 64}, "int4", 0.53125),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8", 1.0),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4", 0.515625),
        ({"quant_method": "compressed-tensors", "config_groups": group(8, "float")}, "fp8", 1.0),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": group(8, "float", strategy="block"),
            },
            "fp8_block",
            1 + 4 / 16384,
        ),
        ({"quant_method": "compressed-tensors", "config_groups": group(8)}, "int8", 1.0),
        (
            {"quant_method": "compressed-tensors", "config_groups": group(4, size=32)},
            "int4",
            0.5625,
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": group(4, "float", 16)},
            "nvfp4",
            0.5625,
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": group(4, "float", 32)},
            "mxfp4",
            0.53125,
        ),
        (
            {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}}},
            "fp8",
            1.0,
        ),
        (
            {"quant_method": "quark", "global_quant_config": {"weight": [{"dtype": "fp4"}]}},
            "mxfp4",
            0.53125,
        ),
    ],
)
def test_each_quantiser_says_its_type(described, dtype, size):
    arch = quantised(**described)
    assert arch.dtype == dtype
    assert arch.layer_weight_bytes == pytest.approx(size * arch.layer_params)
    assert arch.weight_bytes - arch.layer_weight_bytes == 2 * 1000 * 512 * 2  # in 16 bits


@pytest.mark.parametrize(
    "pattern",
    [
        "re:.*self_attn.*",
        "model.layers.*.self_attn",
        "*.self_attn.*",
        "self_attn",
        "language_model.model.layers.*.self_attn*",
    ],
)
@pytest.mark.parametrize("name", ["ignore", "exclude_modules", "modules_to_not_convert"])
def test_what_is_left_out_stays_in_16_bits(pattern, name):
    arch = quantised(quant_method="modelopt", quant_algo="NVFP4", **{name: ["lm_head", pattern]})
    assert arch.layer_weight_bytes == pytest.approx(2 * ATTENTION + 0.5625 * MLP)
    assert arch.dtype == "nvfp4"


def test_layers_may_be_left_out_one_by_one():
    left_out = [f"model.layers.{n}.mlp.down_proj" for n in (0, 3)]
    arch = quantised(quant_method="fp8", modules_to_not_convert=left_out)
    assert arch.layer_weight_bytes == pytest.approx(ATTENTION + (1 + 2) / 2 * MLP)


def test_mixed_precision_names_every_module():
    named = {f"model.layers.{n}.mlp.down_proj": {"quant_algo": "NVFP4"} for n in range(4)}
    named |= {f"model.layers.{n}.self_attn.q_proj": {"quant_algo": "FP8"} for n in range(4)}
    arch = quantised(quant_method="modelopt", quant_algo="MIXED_PRECISION", quantized_layers=named)
    assert arch.layer_weight_bytes == pytest.approx(ATTENTION + 0.5625 * MLP)
    assert arch.dtype == "nvfp4"


def test_the_checkpoint_may_ask_for_an_8_bit_cache():
    scheme = {"num_bits": 8, "type": "float"}
    asked = quantised(quant_method="modelopt", quant_algo="FP8", kv_cache_scheme=scheme)
    assert asked.kv_dtype == "fp8"
    assert quantised(quant_method="fp8").kv_dtype == ""


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"quant_method": "magic"}, "quantization method 'magic' is not known here"),
        ({"quant_method": "modelopt", "quant_algo": "FP6"}, "quant_algo 'FP6' is not known here"),
        ({"config_groups": group(3)}, "weights of 3 bits"),
        ({"config_groups": {"group_0": {}}}, "names no weights"),
        ({"quant_method": "gptq", "bits": 3}, "quantization method 'gptq' is not known here"),
    ],
)
def test_a_type_that_is_not_known_is_refused_unless_the_caller_states_one(described, message):
    with pytest.raises(ArchitectureError, match=message):
        quantised(**described)
    stated = load_architecture({**PLAIN, "quantization_config": described}, dtype="fp8")
    assert (stated.dtype, stated.bytes_per_param) == ("fp8", 1.0)


@pytest.mark.parametrize(
    ("name", "known", "dtype"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct-FP8", "llama-3.1-8b", "fp8"),
        ("nvidia/Llama-3.1-8B-Instruct-NVFP4", "llama-3.1-8b", "nvfp4"),
        ("Qwen3-32B-AWQ", "qwen3-32b", "int4"),
        ("qwen3-32b-fp8-block", "qwen3-32b", "fp8_block"),
    ],
)
def test_a_name_that_states_a_type_suggests_the_model_and_the_type(name, known, dtype):
    with pytest.raises(ArchitectureError, match=f"dtype\\) {dtype}\\?") as error:
        load_architecture(name)
    assert (
        load_architecture(str(error.value).split("did you mean '")[1].split("'")[0]).name == known
    )
