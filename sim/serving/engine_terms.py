"""Times of engines that were measured once and hold until they are fitted."""

from collections.abc import Iterable, Mapping

SHIPPED: Mapping[str, Mapping[str, float]] = {
    "vllm": {"samplerStepMicros": 160.0, "samplerMicrosPerKLogit": 0.19},
}
"""By engine, without its version. vLLM: what V1 engines of 2025 take to sort logits for top-p and top-k, from 70 load
points of servers on H100 (0.19 ms for each million logits of a step) and eight inference-perf runs (160 µs a step).
Their samplers differ: FlashInfer's, vLLM's default from 2026 on (vllm-project/vllm pull request 40376), takes less."""


def shipped_terms(engines: Iterable[str]) -> Mapping[str, float]:
    """The shipped times of some engines, named with or without a version; none where they are not all of one kind."""
    kinds = {engine.lower().split()[0] if engine.strip() else "" for engine in engines}
    return SHIPPED.get(kinds.pop(), {}) if len(kinds) == 1 else {}
