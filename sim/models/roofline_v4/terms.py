"""The parts of a prediction of roofline-v4, and their derivatives."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from sim.models.roofline_v4.columns import Columns
from sim.models.roofline_v4.layers import TYPES
from sim.models.roofline_v4.mixed import MixedTerms, mixed_terms
from sim.models.roofline_v4.parameters import FACTOR_OF_EXPERTS, FACTOR_OF_GEMM
from sim.models.roofline_v4.rates import Rates, gemm_by_type
from sim.models.roofline_v4.reduces import ONE_STEP, RING, TWO_STEPS, WAYS
from sim.models.smooth_maximum import Roofline, cubed, roofline
from sim.steps.batch import Floats

_TINY = 1e-300
_OF_PAIR = {
    "layerMicros": "fixed_layers",
    "latentMicros": "latent_layers",
    "moeLayerMicros": "expert_layers",
    "quantiseMicros": "quantised_layers",
}
_GEMM_FACTORS = {name: TYPES.index(kernel) for kernel, name in FACTOR_OF_GEMM.items()}
_EXPERT_FACTORS = {name: TYPES.index(kernel) for kernel, name in FACTOR_OF_EXPERTS.items()}


@dataclasses.dataclass(frozen=True)
class Terms:
    """The parts of a block of predictions, in µs, each of shape (n,)."""

    gemm: Roofline
    attention: Roofline
    mixed: MixedTerms
    linear: Roofline
    states: Floats
    experts: Roofline
    head: Roofline
    padding: Floats  # what of the experts' compute side is padding
    moved: Floats
    quantised: Floats
    expert_moved: Floats
    reduced: Floats  # of all-reduces, what their size takes
    communication: Floats
    gpu: Floats
    host: Floats
    added: Floats

    @property
    def total(self) -> Floats:
        """The step: GPU or host, whichever takes longer, and what nothing hides."""
        return np.maximum(self.gpu, self.host) + self.added


def block_terms(c: Columns, values: Mapping[str, float], rate: Rates, block: slice) -> Terms:
    """All parts of the rows of ``block``."""
    pair, tokens = c.pair[block], c.tokens[block]
    tiled = tokens + values["gemmPadTokens"] * c.any_token[block]
    gemm = roofline(
        cubed(tiled * rate.gemm_flops[pair])
        * np.exp(c.log_gemm_work[block] * (-3.0 * values["gemmMfuExponent"])),
        cubed(c.any_token[block] * rate.gemm_bytes[pair]),
    )
    padded = values["padTokens"] * c.touched[block]
    experts = roofline(
        cubed((c.rows[block] + padded) * rate.expert_row[pair]),
        cubed(c.touched[block] * rate.expert_bytes[pair]),
    )
    head = roofline(
        cubed(c.sampled[block] * rate.head_flops[pair]),
        cubed((c.sampled[block] > 0) * rate.head_bytes[pair]),
    )
    mixed = mixed_terms(c.mixed, values, rate.attention_cubed, block)
    attention = _attention(c, rate, mixed, block)
    linear = roofline(
        c.linear_flops_cubed[block] * rate.linear_flop_cubed,
        c.linear_walked_cubed[block] * values["linearWalkMicros"] ** 3,
    )
    states = c.state_bytes[block] * rate.state
    moved = tokens * rate.moved[pair]
    quantised = tokens * rate.quantised[pair]
    expert_moved = c.rows[block] * rate.row_moved[pair] + tokens * rate.token_moved[pair]
    grown = np.exp(values["allReduceSizeExponent"] * c.log_ring[block])
    reduced = tokens * rate.reduced[c.reduce[block]] * grown
    communication = (
        reduced
        + rate.reduces[c.reduce[block]]
        + c.large_megabytes[block] * values["allReduceLargeMicrosPerMB"]
    )
    return Terms(
        gemm=gemm,
        attention=attention,
        mixed=mixed,
        linear=linear,
        states=states,
        experts=experts,
        head=head,
        padding=experts.compute_us * padded / np.maximum(c.rows[block] + padded, _TINY),
        moved=moved,
        quantised=quantised,
        expert_moved=expert_moved,
        reduced=reduced,
        communication=communication,
        gpu=gemm.us
        + attention.us
        + linear.us
        + states
        + experts.us
        + head.us
        + moved
        + quantised
        + expert_moved
        + communication
        + rate.fixed[pair],
        host=c.pairs.layers[pair] * values["hostLayerMicros"]
        + c.prefill[block] * values["hostPrefillMicros"],
        added=c.decodes[block] * values["requestMicros"]
        + c.prompts[block] * values["promptMicros"]
        + c.prefill[block] * c.pairs.layers[pair] * values["prefillLayerMicros"],
    )


def _attention(c: Columns, rate: Rates, mixed: MixedTerms, block: slice) -> Roofline:
    """The sum of the kinds' smooth maxima, of mixed launches too: what walking a context takes is in ``us`` only."""
    flop_us, byte_us = rate.attention_cubed
    kinds = roofline(
        c.attention_flops_cubed[:, block] * flop_us, c.attention_bytes_cubed[:, block] * byte_us
    )
    us, compute, memory = (
        part.sum(axis=0) for part in (kinds.us, kinds.compute_us, kinds.memory_us)
    )
    us[mixed.rows] += mixed.us
    compute[mixed.rows] += mixed.compute_us
    memory[mixed.rows] += mixed.memory_us
    return Roofline(us, compute, memory)


def derivative(
    name: str, c: Columns, values: Mapping[str, float], block: slice, t: Terms
) -> Floats:
    """∂total/∂name: nothing on the side of GPU or host that does not hold the step up."""
    pair = c.pair[block]
    held_by_host = t.host > t.gpu
    match name:
        case "requestMicros":
            return c.decodes[block]
        case "promptMicros":
            return c.prompts[block]
        case "prefillLayerMicros":
            return c.prefill[block] * c.pairs.layers[pair]
        case "hostLayerMicros":
            return c.pairs.layers[pair] * held_by_host
        case "hostPrefillMicros":
            return c.prefill[block] * held_by_host
        case _:
            return _of_gpu(name, c, values, block, t) * ~held_by_host


def _of_gpu(name: str, c: Columns, values: Mapping[str, float], block: slice, t: Terms) -> Floats:
    """∂gpu/∂name. Of ‖a, b‖ = (a³ + b³)^(1/3), ∂ ln ‖a, b‖/∂ ln a is a³/(a³ + b³), and every rate divides its part."""
    pair = c.pair[block]
    if name in _OF_PAIR:
        return np.asarray(getattr(c.pairs, _OF_PAIR[name])[pair])
    if name in t.mixed.derivatives:
        of_rows = np.zeros(len(pair))
        of_rows[t.mixed.rows] = t.mixed.derivatives[name]
        return of_rows
    if name.startswith("allReduce"):
        return _of_reduces(name, c, values, block, t)
    if name == "gemmMfuExponent":
        return -t.gemm.compute_us * c.log_gemm_work[block]
    if name == "gemmPadTokens":
        return t.gemm.compute_us / np.maximum(c.tokens[block] + values[name], _TINY)
    if name == "linearWalkMicros":
        return t.linear.memory_us / max(values[name], _TINY)
    if name == "padTokens":
        rows = c.rows[block] + values[name] * c.touched[block]
        return t.experts.compute_us * c.touched[block] / np.maximum(rows, _TINY)
    return _divided(name, c, values, block, t) * (-1.0 / values[name])


def _of_reduces(
    name: str, c: Columns, values: Mapping[str, float], block: slice, t: Terms
) -> Floats:
    """∂gpu/∂name of what all-reduces of some sizes take."""
    pair, way = c.pair[block], c.reduce[block] % len(WAYS)
    direct = np.where(way == ONE_STEP, t.reduced, 0.0)
    match name:
        case "allReduceDirectGBps":
            return direct / -values[name]
        case "allReduceBwGBps":
            return (t.reduced - direct) / -values[name]
        case "allReduceTpExponent":
            return t.reduced * np.log(c.pairs.tp / 2.0)[pair]
        case "allReduceSizeExponent":
            return t.reduced * c.log_ring[block]
        case "allReduceMicros":
            return np.asarray(c.pairs.reduces[pair] * (way != RING))
        case "allReduceHopMicros":
            return np.asarray(c.pairs.hops[pair] * (way != RING))
        case "allReduceTwoStepMicros":
            return np.asarray((c.pairs.reduces * np.log2(c.pairs.tp))[pair] * (way == TWO_STEPS))
        case "allReduceRingMicros":
            return np.asarray(c.pairs.reduces[pair] * (way == RING))
        case "allReduceLargeMicrosPerMB":
            return c.large_megabytes[block]
        case _:
            raise KeyError(name)


def _divided(name: str, c: Columns, values: Mapping[str, float], block: slice, t: Terms) -> Floats:
    """The part of the step that the parameter ``name`` divides."""
    pair = c.pair[block]
    if name in _GEMM_FACTORS:
        by_type = gemm_by_type(c.pairs, values)
        share = by_type[:, _GEMM_FACTORS[name]] / by_type.sum(axis=1)
        return np.asarray(t.gemm.compute_us * share[pair])
    if name in _EXPERT_FACTORS:
        has_type = c.pairs.expert_kernel == _EXPERT_FACTORS[name]
        return np.asarray(t.experts.compute_us * has_type[pair])
    match name:
        case "gemmMfu":
            return t.gemm.compute_us + t.head.compute_us
        case "weightBwFraction":
            return t.gemm.memory_us + t.head.memory_us + t.experts.memory_us + t.moved
        case "attentionMfu":
            return t.attention.compute_us
        case "kvBwFraction":
            return t.attention.memory_us + t.states
        case "linearMfu":
            return t.linear.compute_us
        case "quantiseBwFraction":
            return t.quantised
        case "moeMfu":
            return t.experts.compute_us
        case "moeWideColumns":
            squared = (c.pairs.expert_width / values[name]) ** 2
            return t.experts.compute_us * (squared / (1.0 + squared))[pair]
        case "moeActivationFraction":
            return t.expert_moved
        case _:
            raise KeyError(name)
