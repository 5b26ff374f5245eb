"""What roofline-v4 counts of one architecture on so many GPUs: work of a token, a pair and a cached token, by part.

Every figure is one GPU's. FLOPs are in 1e6, those of a type with a peak of its own divided by how much higher it is
than the 16-bit one. Bytes are in 1e6. The form was chosen by held-out error on composed kernels (docs/models.md).
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping

from sim.architecture import Architecture, LayerGroup
from sim.architecture.attention import (
    Attention,
    GroupedAttention,
    LatentAttention,
    LinearAttention,
)
from sim.errors import ArchitectureError
from sim.models.roofline_v4.linear import LinearWork, linear_work

TYPES = ("bf16", "fp8", "fp8_block", "nvfp4", "int4", "mxfp4")
"""Types that have kernels of their own. The last two are 4-bit weights, computed in 16 bits."""

QUANTISED = ("fp8", "fp8_block", "nvfp4")
"""Of them, those whose inputs are quantised too, at a cost."""

ACTIVATION_BYTES = 2.0
_KERNEL_OF = {"fp16": "bf16", "fp32": "bf16", "int8": "bf16", "mxfp8": "fp8_block"}
_LATENT_HEADS = 64.0  # that a latent decode computes at the least, however few a GPU has
_MLP_SHARE = 0.4  # of a layer's fixed time that belongs to its dense MLP; attention has the rest
_LINEAR_SHARE = 0.8  # that linear attention has: its convolution, rates and gate are kernels, too


@dataclasses.dataclass(frozen=True)
class AttentionWork:
    """All layers with one kind of attention: FLOPs of a pair and bytes of a cached token.

    A query sees ``width`` tokens at the most (0: all). ``context_flops`` are those of a token of a prompt's context,
    which latent attention unpacks. ``joint_layers`` launch prompts and decodes together: all but latent ones.
    """

    width: float = 0.0
    prefill_flops: float = 0.0
    decode_flops: float = 0.0
    cached_bytes: float = 0.0
    context_flops: float = 0.0
    joint_layers: float = 0.0


@dataclasses.dataclass(frozen=True)
class ExpertWork:
    """All layers with experts: FLOPs of a row, bytes of an expert, and what routing needs.

    ``kernel`` is a place in TYPES, ``width`` an expert's on one GPU. ``row_bytes`` are moved for each row of this GPU,
    ``token_bytes`` for each token of the step. ``ranks`` GPUs share the experts.
    """

    layers: float = 0.0
    kernel: int = 0
    width: float = 0.0
    row_flops: float = 0.0
    expert_bytes: float = 0.0
    row_bytes: float = 0.0
    token_bytes: float = 0.0
    per_token: float = 1.0
    experts: float = 1.0
    ranks: float = 1.0


@dataclasses.dataclass(frozen=True)
class LayerWork:
    """One architecture on so many GPUs.

    ``gemm_flops`` a token by place in TYPES, ``gemm_bytes`` of their weights; ``moved_bytes`` a token beside weights;
    ``quantised_bytes`` a token and ``quantised_layers``, the layers that quantise their inputs, a whole one with four
    GEMMs. ``reduces`` all-reduces of ``reduced_bytes`` a token.
    """

    gemm_flops: tuple[float, ...]
    gemm_bytes: float
    moved_bytes: float
    quantised_bytes: float
    quantised_layers: float
    attention: tuple[AttentionWork, ...]
    latent_layers: float
    linear: LinearWork
    experts: ExpertWork
    head_flops: float
    head_bytes: float
    fixed_layers: float
    layers: float
    reduces: float
    reduced_bytes: float


Peaks = tuple[tuple[str, float], ...]
"""The peak of each type over the 16-bit one; 1 where left out."""


@functools.lru_cache(maxsize=4096)
def layer_work(arch: Architecture, tp: int, relative_peaks: Peaks = ()) -> LayerWork:
    """Count a model on ``tp`` GPUs. Raises ArchitectureError for layers without a term."""
    peaks = dict(relative_peaks)
    gemms = [gemm for group in arch.layer_groups for gemm in _gemms(arch, group, tp)]
    groups = arch.layer_groups
    latent = sum(g.count for g in groups if isinstance(g.attention, LatentAttention))
    linear = linear_work(arch, tp)
    return LayerWork(
        gemm_flops=_by_type(gemms, peaks),
        gemm_bytes=sum(1e-6 * gemm.count * gemm.params * gemm.weight_bytes for gemm in gemms),
        moved_bytes=_moved_bytes(arch, gemms) + linear.token_bytes,
        quantised_bytes=sum(3e-6 * gemm.count * gemm.inputs for gemm in gemms if gemm.is_quantised),
        quantised_layers=sum(0.25 * gemm.count for gemm in gemms if gemm.is_quantised),
        attention=tuple(_attentions(arch, tp)),
        latent_layers=float(latent),
        linear=linear,
        experts=_expert_work(arch, tp, peaks),
        head_flops=2e-6 * arch.head_params / tp,
        head_bytes=1e-6 * arch.head_params * max(arch.bytes_per_param, ACTIVATION_BYTES) / tp,
        fixed_layers=sum(g.count * _fixed_share(g) for g in groups),
        layers=float(sum(g.count for g in groups)),
        reduces=float(sum(g.count * _parts(g) for g in groups)) if tp > 1 else 0.0,
        reduced_bytes=ACTIVATION_BYTES * arch.hidden_size,
    )


def kernel_of(dtype: str) -> str:
    """The type whose kernels compute weights of ``dtype``."""
    return _KERNEL_OF.get(dtype, dtype)


@dataclasses.dataclass(frozen=True)
class _Gemm:
    """``count`` equal products on one GPU: weights, their type and bytes, and inputs a token."""

    count: int
    params: float
    inputs: float
    kernel: str
    weight_bytes: float

    @property
    def is_quantised(self) -> bool:
        return self.kernel in QUANTISED


_GemmMaker = Callable[[float, float, str], _Gemm]


def _gemms(arch: Architecture, group: LayerGroup, tp: int) -> Iterator[_Gemm]:
    d, n, types, sizes = arch.hidden_size, group.count, arch.part_dtypes, arch.part_bytes

    def gemm(params: float, inputs: float, part: str) -> _Gemm:
        return _Gemm(n, params, inputs, kernel_of(getattr(types, part)), getattr(sizes, part))

    match group.attention:
        case GroupedAttention() as attention:
            values = attention.value_dim or attention.head_dim
            output = attention.heads / tp * values
            keys = max(attention.kv_heads // tp, 1)
            width = (1 if attention.values_are_keys else 2) * keys
            queries = attention.heads / tp * (2 if attention.gated else 1)
            yield gemm(d * (queries + width) * attention.head_dim, d, "attention")
            yield gemm(d * output, output, "attention")
        case LatentAttention(indexer=None) as attention:
            yield from _latent_gemms(gemm, attention, d, tp)
        case LinearAttention() as attention:
            values = attention.value_heads / tp * attention.value_dim
            yield gemm(d * (attention.convolved_width / tp + values), d, "attention")
            yield _Gemm(n, 2.0 * d * attention.value_heads / tp, d, "bf16", ACTIVATION_BYTES)
            yield gemm(d * values, values, "attention")
        case None:
            pass
        case other:
            raise ArchitectureError(
                f"roofline-v4 cannot compute {arch.name}: no term for {other.peculiarity}"
            )
    if group.mlp_size:
        yield from _mlp_gemms(gemm, group, group.mlp_size / tp, d, "mlp")
    if group.experts:
        yield _Gemm(n, d * group.experts.num_experts, d, "bf16", ACTIVATION_BYTES)
        if group.experts.latent_size:
            raise ArchitectureError(
                f"roofline-v4 cannot compute {arch.name}: no term for experts on a projection of the token"
            )
        if group.experts.shared_intermediate_size:
            shared = group.experts.shared_intermediate_size / tp
            yield from _mlp_gemms(gemm, group, shared, d, "shared_experts")


def _latent_gemms(gemm: _GemmMaker, attention: LatentAttention, d: int, tp: int) -> Iterator[_Gemm]:
    """The projections down stand on every GPU; those up, and the output, are split by heads."""
    heads = attention.heads / tp
    query_width = heads * (attention.nope_dim + attention.rope_dim)
    key_width = heads * (attention.nope_dim + attention.value_dim)
    output = heads * attention.value_dim
    down = attention.query_rank + attention.cache_rank + attention.rope_dim
    yield gemm(d * down, d, "attention")
    if attention.query_rank:
        yield gemm(attention.query_rank * query_width, attention.query_rank, "attention")
    else:
        yield gemm(d * query_width, d, "attention")
    yield gemm(attention.cache_rank * key_width, 0.0, "attention")
    yield gemm(output * d, output, "attention")


def _mlp_gemms(
    gemm: _GemmMaker, group: LayerGroup, width: float, d: int, part: str
) -> Iterator[_Gemm]:
    yield gemm((group.matrices - 1) * d * width, d, part)
    yield gemm(d * width, width, part)


def _by_type(gemms: list[_Gemm], peaks: Mapping[str, float]) -> tuple[float, ...]:
    flops = dict.fromkeys(TYPES, 0.0)
    for gemm in gemms:
        flops[gemm.kernel] += 2e-6 * gemm.count * gemm.params / peaks.get(gemm.kernel, 1.0)
    return tuple(flops.values())


def _moved_bytes(arch: Architecture, gemms: list[_Gemm]) -> float:
    """Inputs and outputs of the GEMMs: twice the model's width a part, and the other side of each as it is split."""
    parts = sum(group.count * _dense_parts(group) for group in arch.layer_groups)
    whole = 2.0 * arch.hidden_size * parts
    split = sum(gemm.count * gemm.params for gemm in gemms) / arch.hidden_size
    return 1e-6 * ACTIVATION_BYTES * (whole + split)


def _attentions(arch: Architecture, tp: int) -> Iterator[AttentionWork]:
    kinds: dict[Attention, int] = {}
    for group in arch.layer_groups:
        if isinstance(group.attention, GroupedAttention | LatentAttention):
            kinds[group.attention] = kinds.get(group.attention, 0) + group.count
    value_bytes = arch.cached_value_bytes(ACTIVATION_BYTES)
    for attention, count in kinds.items():
        cached = 1e-6 * count * attention.cache_bytes_per_token(tp, value_bytes) / tp
        flops = 1e-6 * count * attention.flops_per_pair / tp
        if not isinstance(attention, LatentAttention):
            yield AttentionWork(
                float(attention.width), flops, flops, cached, joint_layers=float(count)
            )
            continue
        heads = attention.heads / tp
        pair = 2.0 * (2.0 * attention.cache_rank + attention.rope_dim)
        unpacked = 2.0 * attention.cache_rank * (attention.nope_dim + attention.value_dim)
        yield AttentionWork(
            prefill_flops=flops,
            decode_flops=1e-6 * count * max(heads, _LATENT_HEADS) * pair,
            cached_bytes=cached,
            context_flops=1e-6 * count * heads * unpacked,
        )


def _expert_work(arch: Architecture, tp: int, peaks: Mapping[str, float]) -> ExpertWork:
    groups = [(group.count, group, group.experts) for group in arch.layer_groups if group.experts]
    if not groups:
        return ExpertWork()
    _, group, experts = groups[0]
    if any(other != experts for _, _, other in groups):
        raise ArchitectureError(
            f"roofline-v4 cannot compute {arch.name}: no term for experts of several sizes"
        )
    layers = float(sum(count for count, _, _ in groups))
    d, kernel = arch.hidden_size, kernel_of(arch.part_dtypes.experts)
    width = experts.intermediate_size * arch.ep / tp
    params = group.matrices * d * width
    moved = 1e-6 * ACTIVATION_BYTES * layers
    return ExpertWork(
        layers=layers,
        kernel=TYPES.index(kernel),
        width=width,
        row_flops=2e-6 * layers * params / peaks.get(kernel, 1.0),
        expert_bytes=1e-6 * layers * params * arch.part_bytes.experts,
        row_bytes=moved * (2.0 * d + 3.0 * width),
        token_bytes=moved * experts.experts_per_token * (d + 3.0 * width),
        per_token=float(experts.experts_per_token),
        experts=float(experts.num_experts),
        ranks=float(arch.ep),
    )


def _dense_parts(group: LayerGroup) -> int:
    shared = group.experts.shared_intermediate_size if group.experts else 0
    return (group.attention is not None) + (group.mlp_size > 0) + (shared > 0)


def _parts(group: LayerGroup) -> int:
    return (group.attention is not None) + bool(group.mlp_size or group.experts)


def _fixed_share(group: LayerGroup) -> float:
    if group.attention is None:
        attention = 0.0
    elif isinstance(group.attention, LinearAttention):
        attention = _LINEAR_SHARE
    else:
        attention = 1.0 - _MLP_SHARE
    return attention + _MLP_SHARE * (group.mlp_size > 0)
