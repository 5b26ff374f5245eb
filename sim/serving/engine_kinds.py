"""What sets the serving engines apart: how they schedule, how they draw tokens, and times measured on them once."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping

from sim.architecture import ALL_TOKENS, Architecture
from sim.errors import WorkloadError, nearest
from sim.hardware import Hardware
from sim.models.registry import PARAMETERS


@dataclasses.dataclass(frozen=True)
class Shown:
    """What servers of an engine showed of a parameter: their middle, and the standard deviation between them."""

    value: float
    deviation: float


# Open loads see no time of a layer in steps with a prompt beyond its kernels. Closed ones take the wait behind their
# burst for it if left alone, 500 to 1500 µs; so pulled, data sets on H100 and H200 give no more than 85. A layer's
# experts need a pull where they are left out: then nothing else holds their time.
_PREFILL = Shown(0.0, 50.0)
_EXPERTS = Shown(50.0, 50.0)
_ANY_API = Shown(4500.0, 20000.0)


def _shown(api: Shown) -> dict[str, Shown]:
    return {"moeLayerMicros": _EXPERTS, "prefillLayerMicros": _PREFILL, "apiMicros": api}


@dataclasses.dataclass(frozen=True)
class EngineKind:
    """One engine, whatever its version.

    ``prefill_first`` computes prompts before any decode. ``reads_sampling``: where a client does not say how to draw
    tokens, the model's ``generation_config.json`` does. ``times`` are parameters that hold until they are fitted: what
    is known of servers before any is measured. ``shown`` is to where a fit to servers is pulled.
    """

    prefill_first: bool = False
    reads_sampling: bool = True
    times: Mapping[str, float] = dataclasses.field(default_factory=dict)
    shown: Mapping[str, Shown] = dataclasses.field(default_factory=lambda: _shown(_ANY_API))

    def sampled(self, arch: Architecture) -> Architecture:
        """The model with its tokens drawn as this engine does by default."""
        return arch if self.reads_sampling else dataclasses.replace(arch, sampling=ALL_TOKENS)

    def on(self, name: str | None, hardware: Hardware, models: Collection[str] = ()) -> Hardware:
        """A GPU with what a configuration holds of the engine ``name``, of this kind, and else the kind's times.

        Shares of peaks are left out where other ``models`` are served than showed them (:func:`others_shares`).
        """
        others = others_shares(name or "", hardware, models)
        known = hardware.with_engine(name, others) if name else hardware
        return known.with_values(self.added_times(known))

    def added_times(self, hardware: Hardware) -> dict[str, float]:
        """The times of the engine that a configuration does not have."""
        return {name: us for name, us in self.times.items() if name not in hardware.values}


# From a client's request to the engine: the middle of six data sets of vLLM and two of SGLang on H100 and H200, all of
# closed loads. On Blackwell's servers and open loads of vLLM they make TTFT better, too. TensorRT-LLM's 64 ms there do
# not (22 to 250 ms elsewhere), so its is the middle of what any server takes, 1 to 20 ms.
_API_VLLM = Shown(11000.0, 20000.0)
_API_SGLANG = Shown(120000.0, 50000.0)
_API_TENSORRT = Shown(4500.0, 60000.0)

# Of a layer beside its kernels, where a configuration does not say it. On 12 data sets of vLLM on H100 and H200 errors
# are alike from 36 to 45 µs; its eleven inference-perf stages, one near saturation, take no more than 36. SGLang's is
# that of its one data set of a dense model. TensorRT-LLM's 38 µs there make ITL worse on Blackwell.
_LAYER_VLLM_US = 36.0
_LAYER_SGLANG_US = 50.0

KINDS: Mapping[str, EngineKind] = {
    # What V1 engines of 2025 took to sort logits: 0.19 ms for each million logits of a step by 70 load points of
    # servers on H100, 160 µs a step by eight inference-perf runs. FlashInfer's sampler, the default from 2026 on
    # (vllm-project/vllm pull request 40376), takes less.
    "vllm": EngineKind(
        times={
            "samplerStepMicros": 160.0,
            "samplerMicrosPerKLogit": 0.19,
            "apiMicros": _API_VLLM.value,
            "layerMicros": _LAYER_VLLM_US,
        },
        shown=_shown(_API_VLLM),
    ),
    "sglang": EngineKind(
        prefill_first=True,
        times={"apiMicros": _API_SGLANG.value, "layerMicros": _LAYER_SGLANG_US},
        shown=_shown(_API_SGLANG),
    ),
    # It did not read the file until August 2026 (NVIDIA/TensorRT-LLM issue 9656, pull request 17213)
    "tensorrt-llm": EngineKind(
        reads_sampling=False,
        times={"apiMicros": _API_TENSORRT.value},
        shown=_shown(_API_TENSORRT),
    ),
}
"""The engines by name."""

UNKNOWN = EngineKind()


def others_shares(name: str, hardware: Hardware, models: Collection[str]) -> tuple[str, ...]:
    """The shares of peaks among the terms of an engine that its servers showed of other models than ``models``.

    They are those of the kernels of these models, weight types and experts; times travel, they do not.
    """
    known = hardware.engine_known(name) if name else None
    served = hardware.served.get(known, ()) if known else ()
    if known is None or not served or {*models} <= {*served}:
        return ()
    return tuple(
        key for key in hardware.engines[known] if key in PARAMETERS and PARAMETERS[key].of_engines
    )


def engine_kind(name: str) -> EngineKind:
    """The kind of an engine named with or without its version, such as ``vllm 0.12.0``."""
    words = name.lower().split()
    return KINDS.get(words[0], UNKNOWN) if words else UNKNOWN


def named_kind(name: str | None) -> EngineKind:
    """The same for a name that someone chose; without one, an engine of which nothing is known.

    Raises WorkloadError for an engine that is not known.
    """
    kind = engine_kind(name or "")
    if name is not None and kind is UNKNOWN:
        raise WorkloadError(f"no engine {name!r} (known: {', '.join(KINDS)}){nearest(name, KINDS)}")
    return kind


def only_kind(names: Iterable[str]) -> EngineKind:
    """The kind of all these engines; one of which nothing is known where they are of several."""
    kinds = {id(kind): kind for kind in map(engine_kind, names)}
    return next(iter(kinds.values())) if len(kinds) == 1 else UNKNOWN
