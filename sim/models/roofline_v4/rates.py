"""The parameters of roofline-v4 turned into µs of what each pair of model and tp computes, moves and sends."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from sim.models.roofline_v4.columns import Pairs
from sim.models.roofline_v4.layers import TYPES
from sim.models.roofline_v4.parameters import FACTOR_OF_EXPERTS, FACTOR_OF_GEMM
from sim.models.roofline_v4.reduces import fixed_us, token_us
from sim.steps.batch import Floats


@dataclasses.dataclass(frozen=True)
class Rates:
    """µs by pair, shape (p,), of a token's GEMMs and of all weights, of a token's moved and quantised bytes, of a row
    of experts and an expert's weights, a row's and a token's moved bytes, and a request's head; by pair and way,
    (p·3,), of a token in all-reduces, and of these whatever their size; and the µs of 1e6 FLOPs of attention, of bytes
    of cache, and of FLOPs of linear attention, cubed; and of bytes of its states.
    """

    gemm_flops: Floats
    gemm_bytes: Floats
    moved: Floats
    quantised: Floats
    reduced: Floats
    reduces: Floats
    expert_row: Floats
    expert_bytes: Floats
    row_moved: Floats
    token_moved: Floats
    head_flops: Floats
    head_bytes: Floats
    fixed: Floats
    attention_cubed: tuple[float, float]
    linear_flop_cubed: float
    state: float


def rates(pairs: Pairs, values: Mapping[str, float]) -> Rates:
    """Those of all parameters ``values``."""
    flops, moved = values["TFlopsPeak"], values["BwPeakTBs"]
    weight_rate = moved * values["weightBwFraction"]
    gemm_rate = flops * values["gemmMfu"]
    expert_moved = moved * values["moeActivationFraction"]
    return Rates(
        gemm_flops=gemm_by_type(pairs, values).sum(axis=1) / gemm_rate,
        gemm_bytes=pairs.gemm_bytes / weight_rate,
        moved=pairs.moved_bytes / weight_rate,
        quantised=pairs.quantised_bytes / (moved * values["quantiseBwFraction"]),
        reduced=token_us(pairs.reduces, pairs.reduced_bytes, pairs.tp, values).ravel(),
        reduces=fixed_us(pairs.reduces, pairs.tp, values).ravel(),
        expert_row=pairs.row_flops * expert_slowdown(pairs, values) / (flops * values["moeMfu"]),
        expert_bytes=pairs.expert_bytes / weight_rate,
        row_moved=pairs.row_bytes / expert_moved,
        token_moved=pairs.token_bytes / expert_moved,
        head_flops=pairs.head_flops / gemm_rate,
        head_bytes=pairs.head_bytes / weight_rate,
        fixed=pairs.fixed_layers * values["layerMicros"]
        + pairs.latent_layers * values["latentMicros"]
        + pairs.expert_layers * values["moeLayerMicros"]
        + pairs.quantised_layers * values["quantiseMicros"],
        attention_cubed=(
            (flops * values["attentionMfu"]) ** -3,
            (moved * values["kvBwFraction"]) ** -3,
        ),
        linear_flop_cubed=(flops * values["linearMfu"]) ** -3,
        state=1.0 / (moved * values["kvBwFraction"]),
    )


def gemm_by_type(pairs: Pairs, values: Mapping[str, float]) -> Floats:
    """FLOPs of GEMMs by type, each divided by the type's factor, (p, types)."""
    factors = np.array([_factor(FACTOR_OF_GEMM, name, values) for name in TYPES])
    by_type: Floats = pairs.gemm_flops / factors
    return by_type


def expert_slowdown(pairs: Pairs, values: Mapping[str, float]) -> Floats:
    """By what experts are slower for their type and width, (p,)."""
    factors = np.array([_factor(FACTOR_OF_EXPERTS, name, values) for name in TYPES])
    wide = np.hypot(1.0, pairs.expert_width / values["moeWideColumns"])
    slowdown: Floats = wide / factors[pairs.expert_kernel]
    return slowdown


def _factor(factors: Mapping[str, str], kernel: str, values: Mapping[str, float]) -> float:
    return values[factors[kernel]] if kernel in factors else 1.0
