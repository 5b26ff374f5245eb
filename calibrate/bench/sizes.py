"""What is measured where nothing else is asked for: on a GPU, and in small on any laptop."""

import dataclasses
import itertools

from calibrate.bench.attention import Shape
from sim.architecture import Architecture
from sim.architecture_files import load_architecture


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Grids of every table, and seconds for each point.

    Where peaks are measured, they are of buffers of ``peak_mib`` and of a square product of ``peak_gemm``.
    Models with experts and with latent attention stand in ``moe_models`` and ``mla_models``.
    ``prompts`` are (requests, new tokens, context), ``decodes`` (requests, context); attention is (batch, length).
    """

    models: tuple[Architecture, ...]
    peak_mib: int
    peak_gemm: int
    buffer_mib: tuple[int, ...]
    gemm_tps: tuple[int, ...]
    gemm_tokens: tuple[int, ...]
    gemm_squares: tuple[int, ...]
    attention_shapes: tuple[Shape, ...]
    attention_prefill: tuple[tuple[int, int], ...]
    attention_decode: tuple[tuple[int, int], ...]
    moe_models: tuple[Architecture, ...]
    moe_tokens: tuple[int, ...]
    mla_models: tuple[Architecture, ...]
    prompts: tuple[tuple[int, int, int], ...]
    decodes: tuple[tuple[int, int], ...]
    kernel_s: float
    step_s: float


def full_sizes() -> Sizes:
    """For a GPU: three models of the registry, small to large."""
    return Sizes(
        models=tuple(map(load_architecture, ("llama-3.1-8b", "qwen2.5-32b", "llama-3.2-1b"))),
        peak_mib=1024,
        peak_gemm=8192,
        buffer_mib=(512, 1024, 2048, 4096),
        gemm_tps=(1, 2, 4, 8),
        gemm_tokens=tuple(2**k for k in range(14)),
        gemm_squares=tuple(2**k for k in range(8, 15)),
        attention_shapes=((32, 8, 128), (40, 8, 128), (32, 32, 128), (32, 8, 64)),
        attention_prefill=_within([1, 4, 16], [128, 512, 1024, 2048, 4096, 8192, 16384], 2**16),
        attention_decode=_within(
            [1, 2, 4, 8, 16, 32, 64, 128, 256], [128, 512, 2048, 8192, 32768], 2**19
        ),
        moe_models=tuple(map(load_architecture, ("mixtral-8x7b", "qwen3-30b-a3b", "gpt-oss-20b"))),
        moe_tokens=tuple(2**k for k in range(14)),
        mla_models=(load_architecture("deepseek-v3"),),
        prompts=(
            *((1, 2**k, 0) for k in range(5, 15)),
            *itertools.product([4, 16], [32, 128, 512], [0]),
            *itertools.product([1], [128, 512, 2048], [2048, 8192, 32768]),
            *itertools.product([4], [128, 512], [1024, 4096]),
        ),
        decodes=_within([1, 2, 4, 8, 16, 32, 64, 128, 256], [128, 1024, 4096, 16384], 2**20),
        kernel_s=0.5,
        step_s=3.0,
    )


def small_sizes() -> Sizes:
    """For a processor: two tiny models made for it, in a minute or two."""
    return Sizes(
        models=(_tiny(768, 4), _tiny(512, 6)),
        peak_mib=256,
        peak_gemm=2048,
        buffer_mib=(128, 256),
        gemm_tps=(1,),
        gemm_tokens=(1, 8, 64, 256),
        gemm_squares=(256, 512, 1024, 2048),
        attention_shapes=((12, 3, 64), (8, 2, 64)),
        attention_prefill=_within([1, 4], [64, 256, 512], 2**10),
        attention_decode=_within([1, 4, 16], [256, 1024, 4096], 2**14),
        moe_models=(_tiny_latent_with_experts(),),
        moe_tokens=(1, 16, 128),
        mla_models=(_tiny_latent_with_experts(),),
        prompts=(
            *((1, 2**k, 0) for k in range(4, 9)),
            *itertools.product([2, 8], [16, 32], [0]),
            *itertools.product([1], [32, 128], [256, 1024]),
        ),
        decodes=_within([1, 2, 4, 8, 16, 32, 64], [64, 512, 2048], 2**15),
        kernel_s=0.1,
        step_s=0.3,
    )


def _within(counts: list[int], lengths: list[int], most: int) -> tuple[tuple[int, int], ...]:
    return tuple(
        (count, length)
        for count, length in itertools.product(counts, lengths)
        if count * length <= most
    )


def _tiny(hidden: int, layers: int) -> Architecture:
    return load_architecture(
        {
            "_name_or_path": f"tiny-{hidden}",
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": hidden // 64,
            "num_key_value_heads": hidden // 256,
            "intermediate_size": hidden * 11 // 4,
            "vocab_size": 4096,
        }
    )


def _tiny_latent_with_experts() -> Architecture:
    return load_architecture(
        {
            "_name_or_path": "tiny-latent-moe",
            "model_type": "deepseek_v3",
            "num_hidden_layers": 2,
            "first_k_dense_replace": 0,
            "hidden_size": 256,
            "num_attention_heads": 8,
            "intermediate_size": 512,
            "moe_intermediate_size": 128,
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "n_shared_experts": 1,
            "q_lora_rank": None,
            "kv_lora_rank": 64,
            "qk_nope_head_dim": 32,
            "qk_rope_head_dim": 16,
            "v_head_dim": 32,
            "vocab_size": 4096,
        }
    )
