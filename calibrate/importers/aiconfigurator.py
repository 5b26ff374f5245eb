"""Engine steps composed of the kernel latencies in the package aiconfigurator-core (NVIDIA, Apache-2.0).

A step is, per layer, four GEMMs on their tensor-parallel shards (qkv, attention output, gate+up, down),
attention at the heads of one rank, and two all-reduces, times the number of layers; and once the GEMM of the LM head,
for one token of each request. Latencies are interpolated linearly in log space inside the measured grid; a point
outside it is left out and counted. A head wider than every measured GEMM is computed in equal parts, one after the
other. All-reduce sizes in those tables are elements, not bytes: the collector makes a 16-bit tensor of
``message_size`` elements, and only so does the bandwidth of large messages agree with NVLink's.
"""

import dataclasses
import datetime
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.importers.aiconfigurator_kernels import HEAD_DIM, Grid, Kernels, kernel_tables
from calibrate.importers.imported import Imported
from calibrate.importers.silicon_package import package_version, systems_folder
from calibrate.records.errors import ImportFormatError
from calibrate.records.schema import Column
from calibrate.records.tables import read_whole_table
from sim.architecture import Architecture
from sim.architecture_files import load_architecture
from sim.hardware import canonical_gpu, gpu_specs
from sim.units import BYTES_PER_GIB, US_PER_MS

SYSTEMS = {
    "H100": "h100_sxm",
    "A100-SXM": "a100_sxm",
    "H200": "h200_sxm",
    "L40S": "l40s",
    "B200": "b200_sxm",
}
"""The folder of each GPU's tables in the package."""

_BACKEND = "vllm"
_MODELS = ("llama-3.1-8b", "llama-3.1-70b", "qwen3-32b")
_TPS = (1, 2, 4, 8)
_PREFILL_BATCHES = (1, 2, 4, 8, 16)
_PREFILL_LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192)
_DECODE_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_DECODE_CONTEXTS = (256, 512, 1024, 2048, 4096, 8192)


def read(source: str, gpu: str) -> Imported:
    """Compose prefill and decode sweeps of three models for ``gpu``; ``source`` is ``package`` or a data folder.

    Raises ImportFormatError if the package, the GPU or a table is missing.
    """
    name = canonical_gpu(gpu)
    if name not in SYSTEMS:
        raise ImportFormatError(
            f"aiconfigurator has no tables for GPU {gpu!r} here (known: {', '.join(SYSTEMS)})"
        )
    system = _data_folder(source) / SYSTEMS[name]
    kernels, version = _load_kernels(system)
    memory_bytes = gpu_specs()[name].values["MemoryGiB"] * BYTES_PER_GIB
    rows, outside, too_big = [], 0, 0
    for arch, tp in itertools.product(map(load_architecture, _MODELS), _TPS):
        if arch.weight_bytes / tp > memory_bytes:
            continue
        for step in _sweep():
            if _bytes_per_gpu(arch, tp, step) > memory_bytes:
                too_big += 1
                continue
            latency_us = _compose_us(kernels, arch, tp, step)
            if np.isnan(latency_us):
                outside += 1
            else:
                rows.append(_row(arch, tp, step, latency_us))
    left_out = (
        f"{outside} points outside the measured grid",
        f"{too_big} points whose KV cache would not fit in memory",
    )
    info = _info(name, version, package_version(source), left_out)
    return Imported({"steps": pd.DataFrame(rows), **kernel_tables(kernels)}, info, left_out)


@dataclasses.dataclass(frozen=True)
class _Step:
    phase: str
    batch: int
    length: int

    @property
    def tokens(self) -> int:
        return self.batch * self.length if self.phase == "prefill" else self.batch


def _sweep() -> Iterator[_Step]:
    for batch, length in itertools.product(_PREFILL_BATCHES, _PREFILL_LENGTHS):
        yield _Step("prefill", batch, length)
    for batch, length in itertools.product(_DECODE_BATCHES, _DECODE_CONTEXTS):
        yield _Step("decode", batch, length)


def _bytes_per_gpu(arch: Architecture, tp: int, step: _Step) -> float:
    cache_bytes = arch.kv_bytes_per_token(tp, arch.bytes_per_param) * step.batch * step.length
    return (arch.weight_bytes + cache_bytes) / tp


def _compose_us(kernels: Kernels, arch: Architecture, tp: int, step: _Step) -> float:
    gemms = sum(kernels.gemm.latency_ms(step.tokens, n, k) for n, k in arch.layer_matrices(tp))
    heads = arch.num_heads // tp
    kv_heads = max(arch.kv_heads // tp, 1)
    by_heads = kernels.prefill_attention if step.phase == "prefill" else kernels.decode_attention
    attention = (
        by_heads[heads, kv_heads].latency_ms(step.batch, step.length)
        if (heads, kv_heads) in by_heads
        else float("nan")
    )
    reduce = (
        2 * kernels.all_reduce[tp].latency_ms(step.tokens * arch.hidden_size) if tp > 1 else 0.0
    )
    return (
        arch.num_layers * (gemms + attention + reduce) + _head_ms(kernels, arch, tp, step.batch)
    ) * US_PER_MS


def _head_ms(kernels: Kernels, arch: Architecture, tp: int, requests: int) -> float:
    width = arch.vocab_size / tp
    widest = float(kernels.gemm.axes[1][-1])
    parts = math.ceil(width / widest)
    return parts * kernels.gemm.latency_ms(requests, width / parts, arch.hidden_size)


def _row(arch: Architecture, tp: int, step: _Step, latency_us: float) -> dict[str, object]:
    prefill = step.phase == "prefill"
    return {
        "model": arch.name,
        "tp": tp,
        "dtype": arch.dtype,
        "num_prefill_requests": step.batch if prefill else 0,
        "sum_prefill_tokens": step.batch * step.length if prefill else 0,
        "num_decode_requests": 0 if prefill else step.batch,
        "sum_decode_kv_tokens": 0 if prefill else step.batch * step.length,
        "latency_us": round(latency_us, 2),
        "run_id": f"{arch.name}-tp{tp}-{step.phase}-b{step.batch}",
    }


def _data_folder(source: str) -> Path:
    if source != "package":
        folder = Path(source)
        if not folder.is_dir():
            raise ImportFormatError(
                f"{folder}: no such folder; give `package` for the installed aiconfigurator-core"
            )
        return folder
    return systems_folder() / "data"


def _load_kernels(system: Path) -> tuple[Kernels, str]:
    gemm, version = _newest(system / "gemm" / _BACKEND, _GEMM)
    prefill, _ = _newest(system / "attention" / _BACKEND, _PREFILL)
    decode, _ = _newest(system / "attention" / _BACKEND, _DECODE)
    reduce, _ = _newest(system / "comm" / _BACKEND, _ALL_REDUCE)
    reduce = reduce[(reduce["allreduce_dtype"] == "bfloat16") & (reduce["backend"] == "vllm_graph")]
    kernels = Kernels(
        gemm=Grid.from_rows(gemm[gemm["gemm_dtype"] == "bfloat16"], ("m", "n", "k")),
        prefill_attention=_attention_grids(prefill, "isl"),
        decode_attention=_attention_grids(decode, "step"),
        all_reduce={
            tp: Grid.from_rows(reduce[reduce["num_gpus"] == tp], ("message_size",))
            for tp in _TPS[1:]
        },
    )
    return kernels, version


def _columns(texts: tuple[str, ...], numbers: tuple[str, ...]) -> tuple[Column, ...]:
    return (
        *(Column(name, "text", required=True) for name in texts),
        *(Column(name, "amount", required=True) for name in numbers),
    )


_GEMM, _ALL_REDUCE = "gemm_perf.parquet", "custom_allreduce_perf.parquet"
_PREFILL, _DECODE = "context_attention_perf.parquet", "generation_attention_perf.parquet"
_ATTENTION = ("head_dim", "num_heads", "num_key_value_heads", "batch_size", "latency")
_COLUMNS = {
    _GEMM: _columns(("gemm_dtype",), ("m", "n", "k", "latency")),
    _PREFILL: _columns(("kv_cache_dtype",), (*_ATTENTION, "isl")),
    _DECODE: _columns(("kv_cache_dtype",), (*_ATTENTION, "step")),
    _ALL_REDUCE: _columns(("allreduce_dtype", "backend"), ("num_gpus", "message_size", "latency")),
}
"""What must stand in each table of kernels."""


def _newest(folder: Path, file: str) -> tuple[pd.DataFrame, str]:
    found = sorted(folder.glob(f"*/{file}"), key=lambda path: _version_key(path.parent.name))
    if not found:
        raise ImportFormatError(f"{folder}: no version of it has {file}")
    return read_whole_table(found[-1], _COLUMNS[file]).frame, found[-1].parent.name


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _attention_grids(rows: pd.DataFrame, length: str) -> dict[tuple[int, int], Grid]:
    chosen: NDArray[np.bool_] = (
        (rows["head_dim"] == HEAD_DIM) & (rows["kv_cache_dtype"] == "bfloat16")
    ).to_numpy()
    if "window_size" in rows:
        chosen = chosen & (rows["window_size"] == 0).to_numpy()
    rows = rows[chosen]
    heads = rows["num_heads"].to_numpy()
    kv_heads = rows["num_key_value_heads"].to_numpy()
    pairs = sorted(set(zip(heads.tolist(), kv_heads.tolist(), strict=True)))
    return {
        (h, kv): Grid.from_rows(rows[(heads == h) & (kv_heads == kv)], ("batch_size", length))
        for h, kv in pairs
    }


def _info(gpu: str, version: str, package: str, left_out: tuple[str, ...]) -> dict[str, object]:
    return {
        "title": f"vLLM {version} kernels on {gpu}, composed into engine steps",
        "source": f"Python package aiconfigurator-core {package} (NVIDIA), systems/data/{SYSTEMS[gpu]}",
        "licence": "Apache-2.0",
        "collected": datetime.date(2026, 11, 20),
        "kind": "kernel-composed",
        "engine": f"vllm {version}",
        "hardware": gpu,
        "itl": "unknown",
        "notes": "Each step is a sum of separately measured kernels: four GEMMs, attention and two all-reduces a "
        "layer, and the GEMM of the LM head (CUDA-graph latencies), interpolated in log space inside the measured "
        "grid; a head wider than every measured GEMM counts as equal parts, one after the other. It leaves out host "
        "time, norms, rotary embedding, activation functions and sampling. collected is the day of import; the "
        "package does not say when the kernels were measured. The kernel tables are a thinned part of them. "
        f"Left out: {'; '.join(left_out)}.",
    }
