"""What InferenceMAX's launch scripts tell its engines that the package does not say: cache type and limits of a step.

Source: github.com/SemiAnalysisAI/InferenceX, ``benchmarks/`` (Apache-2.0), as the scripts stood early in 2026. Those of
B300 are taken to be those of B200. None keeps a prefix cache or decodes speculatively.
"""

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import pandas as pd

_IN_FLIGHT = 0  # as many requests as the client keeps in flight


@dataclasses.dataclass(frozen=True)
class Launch:
    """The type of cached keys and values (empty: 16 bits), tokens and requests of a step (None: the engine's own)."""

    kv_dtype: str = ""
    tokens: int | None = None
    requests: int | None = None


@dataclasses.dataclass(frozen=True)
class _Server:
    is_blackwell: bool
    precision: str
    tp: int
    isl: int
    osl: int
    concurrency: int


def launch_columns(rows: pd.DataFrame) -> pd.DataFrame:
    """``kv_dtype``, ``max_num_batched_tokens`` and ``max_num_seqs`` of rows of the package; empty where not told."""
    launches = [_launch_of(row) for row in rows.to_dict("records")]
    requests = [
        many if launch.requests == _IN_FLIGHT else launch.requests
        for launch, many in zip(launches, rows["concurrency"], strict=True)
    ]
    limits = pd.DataFrame(
        {
            "max_num_batched_tokens": [launch.tokens for launch in launches],
            "max_num_seqs": requests,
        },
        index=rows.index,
    )
    return limits.astype(float).assign(kv_dtype=[launch.kv_dtype for launch in launches])


def _launch_of(row: Mapping[Hashable, Any]) -> Launch:
    launch = _LAUNCHES.get((row["backend"], row["model"]))
    if launch is None:
        return Launch()
    sizes = {name: int(row[name]) for name in ("tp", "isl", "osl", "concurrency")}
    is_blackwell = not row["system"].startswith("h")
    return launch(_Server(is_blackwell, row["precision"], **sizes))


def _vllm_gpt_oss(server: _Server) -> Launch:
    return Launch("fp8", 8192, 512) if server.is_blackwell else Launch("", 8192, _IN_FLIGHT)


def _vllm_llama(server: _Server) -> Launch:
    return Launch("fp8", 8192, 512 if server.is_blackwell else None)


def _vllm_minimax(server: _Server) -> Launch:
    return Launch(requests=_IN_FLIGHT if server.precision == "fp4" else None)


def _vllm_kimi(_: _Server) -> Launch:
    return Launch(requests=_IN_FLIGHT)


def _trtllm_gpt_oss(server: _Server) -> Launch:
    return Launch("fp8", 20000, 512) if server.is_blackwell else Launch("", 20000, _IN_FLIGHT)


def _trtllm_llama(_: _Server) -> Launch:
    return Launch("fp8", 16384)


def _trtllm_deepseek(server: _Server) -> Launch:
    """Room for a whole prompt beside a decode of each request, rounded up to 64, and for 8192 tokens."""
    wanted = (server.concurrency + server.isl + 64 + 63) // 64 * 64
    return Launch("fp8", max(wanted, 8192))


def _sglang_deepseek(server: _Server) -> Launch:
    """The chunk of a prefill stands for the tokens of a step."""
    if not server.is_blackwell:
        return Launch("", 32768, 512 if server.isl == server.osl else 256)
    if server.precision == "fp4":
        return Launch("fp8", 16384, 256)
    return Launch("fp8", 8192, 32) if server.tp == 4 else Launch("fp8", 32768, 128)


_LAUNCHES: dict[tuple[str, str], Callable[[_Server], Launch]] = {
    ("vllm", "gpt-oss-120b"): _vllm_gpt_oss,
    ("vllm", "llama-3.1-70b"): _vllm_llama,
    ("vllm", "minimax-m2.5"): _vllm_minimax,
    ("vllm", "kimi-k2.5"): _vllm_kimi,
    ("trtllm", "gpt-oss-120b"): _trtllm_gpt_oss,
    ("trtllm", "llama-3.1-70b"): _trtllm_llama,
    ("trtllm", "deepseek-r1"): _trtllm_deepseek,
    ("sglang", "deepseek-r1"): _sglang_deepseek,
}
