"""The limits of a serving engine: how much a step may hold, and how the scheduler chooses."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sim.architecture import Architecture
from sim.errors import HardwareError, WorkloadError
from sim.hardware import Hardware, memory_bytes
from sim.steps.runs import Floats
from sim.units import BYTES_PER_GIB

_CACHE_BYTES = 2.0  # engines cache 16 bits a number unless told otherwise
_REQUEST_TIMES = {
    "apiMicros": "api_us",
    "apiPromptTokenMicros": "api_us_per_prompt_token",
    "apiOutputTokenMicros": "api_us_per_output_token",
}
_SAMPLER_TIMES = {
    "samplerStepMicros": "sampler_us",
    "samplerMicrosPerKLogit": "sampler_us_per_request",
}


@dataclasses.dataclass(frozen=True)
class EngineLimits:
    """What vLLM calls its scheduler and cache configuration.

    The defaults are those of vLLM's server on a GPU of 70 GiB or more; here alone do they stand.
    ``kv_cache_tokens`` is what all requests together may keep (whole blocks of ``block_size``; see
    :func:`kv_cache_tokens`). ``async_scheduling`` fixes a step's batch when the step before it begins.
    ``prefill_first`` computes prompts in steps of their own before any decode, as SGLang does by default.
    ``api_us`` is the time from a client's request to the engine seeing it (HTTP, tokenisation) in µs, to which
    ``api_us_per_prompt_token`` adds; each token takes ``api_us_per_output_token`` on its way back, one after another.
    A step takes ``sampler_us`` to choose its tokens beside what the latency model says, and
    ``sampler_us_per_request`` for each of its requests.

    Raises WorkloadError for a limit that no engine has.
    """

    max_num_batched_tokens: int = 8192
    max_num_seqs: int = 1024
    kv_cache_tokens: int = 1 << 20
    block_size: int = 16
    chunked_prefill: bool = True
    async_scheduling: bool = True
    prefix_caching: bool = True
    prefill_first: bool = False
    api_us: float = 0.0
    api_us_per_prompt_token: float = 0.0
    api_us_per_output_token: float = 0.0
    sampler_us: float = 0.0
    sampler_us_per_request: float = 0.0

    def __post_init__(self) -> None:
        for name in ("max_num_batched_tokens", "max_num_seqs", "kv_cache_tokens", "block_size"):
            value = getattr(self, name)
            if value != int(value) or not 1 <= value < 2**40:
                raise WorkloadError(f"{name} must be a whole number ≥ 1, got {value!r}")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise WorkloadError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) must not be below max_num_seqs "
                f"({self.max_num_seqs}): a step computes one token of each running request"
            )
        for name in (*_REQUEST_TIMES.values(), *_SAMPLER_TIMES.values()):
            value = getattr(self, name)
            if not 0 <= value < 1e12:
                raise WorkloadError(f"{name} must be a time ≥ 0 in µs, got {value!r}")

    def with_request_times(self, hardware: Hardware, arch: Architecture) -> "EngineLimits":
        """The same limits with the times beside the model's own that a configuration holds (``apiMicros`` …).

        The sampler takes time where the model's logits are sorted (:attr:`~sim.architecture.Sampling.sorts`).
        """
        times = _REQUEST_TIMES | (_SAMPLER_TIMES if arch.sampling.sorts else {})
        known = {
            name: hardware.values[key] for key, name in times.items() if key in hardware.values
        }
        if "sampler_us_per_request" in known:
            known["sampler_us_per_request"] *= arch.kilologits
        return dataclasses.replace(self, **known)  # type: ignore[arg-type]  # the names are those of times

    def delay_us(self, prompt_tokens: NDArray[np.int64]) -> Floats:
        """Time from a request's sending to the engine's seeing it, by its prompt, (n,)."""
        return self.api_us + self.api_us_per_prompt_token * prompt_tokens.astype(np.float64)

    @property
    def blocks(self) -> int:
        """Whole blocks of the KV cache."""
        return self.kv_cache_tokens // self.block_size


def usual_limits(given: Mapping[str, int]) -> dict[str, int]:
    """Tokens and requests of a step where ``given`` lacks them: the defaults, not in contradiction to what it has."""
    usual = EngineLimits()
    tokens = max(usual.max_num_batched_tokens, given.get("max_num_seqs", 0))
    limits = {
        "max_num_batched_tokens": tokens,
        "max_num_seqs": min(usual.max_num_seqs, given.get("max_num_batched_tokens", tokens)),
    }
    return {name: value for name, value in limits.items() if name not in given}


def kv_cache_tokens(
    arch: Architecture,
    hardware: Hardware,
    tp: int,
    memory_utilization: float = 0.9,
    request_tokens: float | None = None,
) -> int:
    """Tokens whose keys and values fit on ``tp`` GPUs beside the weights, in this share of their memory.

    They are of 16 bits unless the model's ``kv_dtype`` says otherwise. Activations are not counted, so an engine has a
    little less. With ``request_tokens``, what a running request has on average, they are those of so many such
    requests, whose layers keep no more than their windows, and their states; without, every layer keeps every token.
    Raises HardwareError where the memory is not known or the weights do not fit, ArchitectureError for a
    model whose attention is not modelled.
    """
    memory = memory_bytes(hardware)
    free = memory * memory_utilization * tp - arch.weight_bytes
    value_bytes = arch.cached_value_bytes(_CACHE_BYTES)
    token_bytes = arch.kv_bytes_per_token(tp, value_bytes)
    if request_tokens is not None:
        token_bytes = arch.cache_bytes(request_tokens, tp, value_bytes) / request_tokens
    tokens = int(free // token_bytes)
    if tokens < 1:
        raise HardwareError(
            f"{arch.name} ({arch.weight_bytes / BYTES_PER_GIB:.0f} GiB of weights) does not fit on "
            f"{tp} × {hardware.gpu} ({memory / BYTES_PER_GIB:g} GiB each): raise tp"
        )
    return tokens
