"""The parameters of roofline-v4: those of roofline-v3, and what low precision, experts and latent attention add.

Ranges are those of kernels measured on nine GPUs; defaults are H100's measured kernels, rounded. Those of launches that
mix prompts and decodes are Llama-3.1-8B's on RTX PRO 6000 (LLMServingSim's profile of vLLM 0.19).
"""

import dataclasses

from sim.models.parameter import Parameter
from sim.models.roofline_v3.parameters import PARAMETERS as DENSE

_FIRST_ENGINE = next(place for place, p in enumerate(DENSE) if p.stage == "engine")
_KERNELS = {p.name: p for p in DENSE[:_FIRST_ENGINE] if p.name != "allReduceSetupMicros"}
_KERNELS["allReduceHopMicros"] = dataclasses.replace(_KERNELS["allReduceHopMicros"], default=0.4)

_REDUCES = (
    Parameter(
        name="allReduceMicros",
        unit="µs",
        lower=0.0,
        upper=300.0,
        guide=(2.0, 10.0),
        stage="all-reduce",
        meaning="latency of an all-reduce in the engine's own kernel, whatever the tp",
        seen_in="decode at two tp above 1 or more",
        default=3.6,
        lacking="on two GPUs or more",
        extreme="largest tp",
        tied_to="allReduceHopMicros",
    ),
    Parameter(
        name="allReduceDirectGBps",
        unit="GB/s",
        lower=1.0,
        upper=2000.0,
        guide=(20.0, 600.0),
        stage="all-reduce",
        meaning="rate at which a GPU reads what all others have, in all-reduces in one step, at tp 2",
        seen_in="decode of tens of requests at tp above 1",
        default=260.0,
        lacking="on two GPUs or more with tens of tokens",
        extreme="largest tp",
    ),
    Parameter(
        name="allReduceTwoStepMicros",
        unit="µs",
        lower=0.0,
        upper=300.0,
        guide=(0.5, 20.0),
        stage="all-reduce",
        meaning="extra time of an all-reduce that is too large for one step, for each doubling of tp",
        seen_in="steps of tens to some hundred tokens at tp above 2",
        default=1.8,
        lacking="on more than two GPUs with tens of tokens or more",
        extreme="largest tp",
    ),
    Parameter(
        name="allReduceSizeExponent",
        unit="–",
        lower=-0.5,
        upper=0.5,
        guide=(-0.2, 0.1),
        stage="all-reduce",
        meaning="time for each byte of an all-reduce left to NCCL grows with its size over 8 MB to this power",
        seen_in="prefill of several lengths at tp above 1",
        default=-0.06,
        lacking="on two GPUs or more with many tokens",
        extreme="most tokens in a step",
    ),
    Parameter(
        name="allReduceRingMicros",
        unit="µs",
        lower=0.0,
        upper=300.0,
        guide=(2.0, 60.0),
        stage="all-reduce",
        meaning="latency of an all-reduce that is left to NCCL: of 8 MB or more, or of many GPUs",
        seen_in="prefill of a thousand tokens and more at tp above 1",
        default=9.0,
        lacking="on two GPUs or more with a thousand tokens or more",
        extreme="largest tp",
    ),
)


def _factor(name: str, stage: str, meaning: str, models: str, default: float) -> Parameter:
    return Parameter(
        name=name,
        unit="–",
        lower=0.1,
        upper=2.0,
        guide=(0.4, 1.2),
        stage=stage,
        meaning=meaning,
        seen_in=f"compute-bound steps of {models}",
        default=default,
        lacking=f"compute-bound and of {models}",
        extreme="most tokens in a step",
    )


def _of_gemm(name: str, what: str, models: str, default: float) -> Parameter:
    meaning = f"share of their peak that {what} reach, over that of 16-bit ones"
    return _factor(name, "gemm", meaning, models, default)


def _of_experts(name: str, what: str, default: float) -> Parameter:
    meaning = f"share of their peak that {what} experts reach, over that of 16-bit ones"
    return _factor(name, "experts", meaning, f"models with {what} experts", default)


def _of_weights_only(name: str, what: str, default: float) -> Parameter:
    meaning = f"speed of {what} experts, computed in 16 bits, over that of 16-bit ones"
    return _factor(name, "experts", meaning, f"models with {what} experts", default)


_TILES = Parameter(
    name="gemmPadTokens",
    unit="tokens",
    lower=0.0,
    upper=512.0,
    guide=(0.0, 128.0),
    stage="gemm",
    meaning="tokens that a GEMM computes beside a step's own, to fill its tiles",
    seen_in="steps of some hundred tokens whose number is no power of two",
    default=0.0,
)
_PRECISION = (
    _TILES,
    _of_gemm("gemmFp8Factor", "fp8 GEMMs", "fp8 models", 0.9),
    _of_gemm("gemmFp8BlockFactor", "fp8 GEMMs scaled by blocks", "fp8_block models", 0.87),
    _of_gemm("gemmFp4Factor", "nvfp4 GEMMs", "nvfp4 models", 0.85),
    Parameter(
        name="quantiseMicros",
        unit="µs/layer",
        lower=0.0,
        upper=100.0,
        guide=(2.0, 20.0),
        stage="gemm",
        meaning="time of a layer that quantises the inputs of four GEMMs",
        seen_in="short steps of fp8 and nvfp4 models",
        default=8.0,
        lacking="short and of an fp8 or nvfp4 model",
    ),
    Parameter(
        name="quantiseBwFraction",
        unit="–",
        lower=0.05,
        upper=1.0,
        guide=(0.2, 0.7),
        stage="gemm",
        meaning="share of the peak memory bandwidth at which inputs are quantised",
        seen_in="prefill of fp8 and nvfp4 models",
        default=0.35,
        lacking="a prefill of an fp8 or nvfp4 model",
        extreme="most tokens in a step",
    ),
)

_EXPERTS = (
    Parameter(
        name="moeMfu",
        unit="–",
        lower=0.05,
        upper=1.5,
        guide=(0.3, 1.0),
        stage="experts",
        meaning="share of the peak FLOP/s that narrow experts reach, their padding counted",
        seen_in="prefill of models with experts",
        default=0.85,
        lacking="a prefill of a model with experts",
        extreme="most tokens in a step",
    ),
    _of_experts("moeFp8Factor", "fp8", 0.8),
    _of_experts("moeFp8BlockFactor", "fp8_block", 0.8),
    _of_experts("moeFp4Factor", "nvfp4", 1.0),
    _of_weights_only("moeInt4Factor", "int4", 0.6),
    _of_weights_only("moeMxfp4Factor", "mxfp4", 1.0),
    Parameter(
        name="padTokens",
        unit="tokens",
        lower=0.0,
        upper=1000.0,
        guide=(20.0, 200.0),
        stage="experts",
        meaning="rows that each expert computes beside its tokens, to fill its tiles",
        seen_in="steps of tens to a few thousand tokens of models with experts",
        default=100.0,
        lacking="of a model with experts whose experts have few tokens each",
    ),
    Parameter(
        name="moeWideColumns",
        unit="columns",
        lower=100.0,
        upper=1000000.0,
        guide=(2000.0, 30000.0),
        stage="experts",
        meaning="width of an expert on one GPU from which the share of the peak falls",
        seen_in="prefill of models with few wide experts",
        default=15000.0,
        lacking="of models with experts of several widths",
        extreme="most tokens in a step",
    ),
    Parameter(
        name="moeActivationFraction",
        unit="–",
        lower=0.05,
        upper=2.0,
        guide=(0.2, 0.9),
        stage="experts",
        meaning="share of the peak memory bandwidth at which rows go to experts and back",
        seen_in="prefill of models with narrow experts",
        default=0.45,
        lacking="a prefill of a model with experts",
        extreme="most tokens in a step",
        of_engines=0.5,
    ),
    Parameter(
        name="moeLayerMicros",
        unit="µs/layer",
        lower=0.0,
        upper=500.0,
        guide=(10.0, 80.0),
        stage="experts",
        meaning="GPU time of a layer's experts beside their products: routing, sorting, launches",
        seen_in="short steps of models with experts",
        default=40.0,
        lacking="short and of a model with experts",
        is_tuned=True,
    ),
    Parameter(
        name="latentMicros",
        unit="µs/layer",
        lower=0.0,
        upper=500.0,
        guide=(10.0, 120.0),
        stage="attention",
        meaning="GPU time of a layer's latent attention beside its products and cache",
        seen_in="steps of models with latent attention (MLA)",
        default=65.0,
        lacking="of a model with latent attention",
    ),
)

_OF_LINEAR = "models with linear attention"
_LINEAR = (
    Parameter(
        name="linearMfu",
        unit="–",
        lower=0.01,
        upper=1.0,
        guide=(0.05, 0.5),
        stage="attention",
        meaning="share of the peak FLOP/s that linear attention reaches on prompts computed in chunks",
        seen_in=f"prefill of several prompts of {_OF_LINEAR}",
        default=0.35,
        lacking=f"a prefill of {_OF_LINEAR}",
        extreme="most tokens in a step",
    ),
    Parameter(
        name="linearWalkMicros",
        unit="µs/token/layer",
        lower=0.0,
        upper=1.0,
        guide=(0.02, 0.1),
        stage="attention",
        meaning="time for each token of a prompt in linear attention, whose chunks wait for each other",
        seen_in=f"prefill of one prompt of {_OF_LINEAR}",
        default=0.05,
        lacking=f"a prefill of one prompt of {_OF_LINEAR}",
    ),
)

_BESIDE_PROMPTS = "steps of prompts beside decodes"
_NOT_BESIDE = "of prompts beside decodes"
_MIXED = (
    Parameter(
        name="mixedDecodeRows",
        unit="rows",
        lower=1.0,
        upper=512.0,
        guide=(1.0, 128.0),
        stage="attention",
        meaning="rows that a decode beside prompts computes in attention: the tile of a launch made for prompts",
        seen_in=f"{_BESIDE_PROMPTS} with long contexts",
        default=58.0,
        lacking=_NOT_BESIDE,
    ),
    Parameter(
        name="mixedWalkMicros",
        unit="µs/token/layer",
        lower=0.0,
        upper=1.0,
        guide=(0.0, 0.05),
        stage="attention",
        meaning="time for each token of the longest context of a launch of prompts beside decodes, which is not split",
        seen_in=f"{_BESIDE_PROMPTS}, few and with long contexts",
        default=0.02,
        lacking=_NOT_BESIDE,
    ),
    Parameter(
        name="mixedDecodeTokens",
        unit="tokens",
        lower=0.0,
        upper=5000.0,
        guide=(0.0, 500.0),
        stage="attention",
        meaning="tokens that a decode beside prompts costs above those that it sees",
        seen_in=f"{_BESIDE_PROMPTS}, many and with short contexts",
        default=100.0,
        lacking=_NOT_BESIDE,
        extreme="largest batch",
    ),
    Parameter(
        name="mixedChunkShare",
        unit="–",
        lower=0.0,
        upper=10.0,
        guide=(0.0, 1.0),
        stage="attention",
        meaning="tokens that a decode beside prompts costs for each new one of a prompt: blocks that turn out empty",
        seen_in=f"{_BESIDE_PROMPTS}, many and beside long ones",
        default=0.35,
        lacking=_NOT_BESIDE,
        extreme="most tokens in a step",
    ),
)

PARAMETERS = (
    *_KERNELS.values(),
    *_REDUCES,
    *_PRECISION,
    *_EXPERTS,
    *_LINEAR,
    *_MIXED,
    *DENSE[_FIRST_ENGINE:],
)
"""In the order in which they claim what the data can show."""

FACTOR_OF_GEMM = {
    "fp8": "gemmFp8Factor",
    "fp8_block": "gemmFp8BlockFactor",
    "nvfp4": "gemmFp4Factor",
}
FACTOR_OF_EXPERTS = {
    "fp8": "moeFp8Factor",
    "fp8_block": "moeFp8BlockFactor",
    "nvfp4": "moeFp4Factor",
    "int4": "moeInt4Factor",
    "mxfp4": "moeMxfp4Factor",
}
"""The factor of each type; those left out have 1."""
