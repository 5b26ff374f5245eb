"""Engine steps composed of the kernel latencies in the package aiconfigurator-core (NVIDIA, Apache-2.0).

Without further word three dense models in 16 bits are composed, on a close sweep; any others that are asked for, on a
wider one, so that many fit in a campaign. All-reduce sizes in those tables are elements, not bytes: the collector
makes a 16-bit tensor of ``message_size`` elements, and only so does the bandwidth of large messages agree with
NVLink's.
"""

import dataclasses
import datetime
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from calibrate.campaign.physics import fastest_us
from calibrate.importers.aiconfigurator_steps import Composer, Ranks, Step, sweep
from calibrate.importers.aiconfigurator_tables import ENGINES, KernelTables, read_tables
from calibrate.importers.aiconfigurator_thinned import kernel_tables
from calibrate.importers.imported import Imported
from calibrate.importers.silicon_package import package_version, systems_folder
from calibrate.importers.thresholds import MEMORY_SHARE
from calibrate.records.errors import ImportFormatError
from sim.architecture import Architecture
from sim.architecture_files import load_architecture
from sim.errors import ArchitectureError, nearest
from sim.hardware import Hardware, canonical_gpu, gpu_specs
from sim.steps.batch import StepTable
from sim.units import BYTES_PER_GIB, US_PER_MS

SYSTEMS = {
    "H100": "h100_sxm",
    "A100-SXM": "a100_sxm",
    "H200": "h200_sxm",
    "L40S": "l40s",
    "B200": "b200_sxm",
    "B300": "b300_sxm",
    "GB200": "gb200",
    "GB300": "gb300",
    "RTX-PRO-6000-Server": "rtx_pro_6000_server",
}
"""The folder of each GPU's tables in the package."""

_TPS = (1, 2, 4, 8)
_DENSE = ("llama-3.1-8b", "llama-3.1-70b", "qwen3-32b")
OF_2026 = (
    "qwen3-8b",
    *(f"{name}:fp8" for name in (*_DENSE, "llama-3.1-405b")),
    *(f"{name}:fp8_block" for name in ("qwen3-8b", "qwen3-32b")),
    *(f"{name}:nvfp4" for name in (*_DENSE, "llama-3.1-405b")),
    *(
        f"{name}:{dtype}"
        for name in ("qwen3-30b-a3b", "qwen3-235b-a22b", "qwen3-coder-480b-a35b")
        for dtype in ("bf16", "fp8_block", "nvfp4")
    ),
    *("minimax-m2.5", "minimax-m2.5:nvfp4"),
    *("mixtral-8x7b", "mixtral-8x22b"),
    *("llama-4-scout", "llama-4-maverick"),
    *("gpt-oss-20b", "gpt-oss-120b"),
    *("deepseek-v3", "kimi-k2", "kimi-k2.5"),
    *(
        f"{name}:{dtype}"
        for name in ("qwen3.5-27b", "qwen3.5-35b-a3b")
        for dtype in ("bf16", "fp8_block")
    ),
    *(
        f"{name}:{dtype}"
        for name in ("qwen3.5-122b-a10b", "qwen3.5-397b-a17b")
        for dtype in ("fp8_block", "nvfp4")
    ),
)
"""What ``--models 2026`` stands for: low precision, experts, windows and latent attention beside the dense models."""

_CLOSE = (
    ((1, 2, 4, 8, 16), (128, 256, 512, 1024, 2048, 4096, 8192)),
    ((1, 2, 4, 8, 16, 32, 64, 128, 256), (256, 512, 1024, 2048, 4096, 8192)),
)
_WIDE = (
    ((1, 4), (128, 256, 512, 1024, 2048, 4096, 8192, 16384)),
    ((1, 4, 16, 32, 64, 128, 256), (256, 2048, 8192, 32768)),
)
"""Batches and lengths of prefill, and those of decode."""

_ALL_OF_THEM = "roofline-v4"  # the latency model that has a term for all of these


def read(
    source: str, gpu: str, *, models: str = "", engine: str = "vllm", ep: str = ""
) -> Imported:
    """Compose prefill and decode sweeps for ``gpu``; ``source`` is ``package`` or a data folder.

    ``models`` are names, each with ``:dtype`` where not the model's own, or ``2026`` for :data:`OF_2026`; ``ep`` the
    degrees of expert parallelism (else 1 and all GPUs). Raises ImportFormatError if the package, the GPU, a table or a
    model is missing.
    """
    name = canonical_gpu(gpu)
    if name not in SYSTEMS:
        raise ImportFormatError(
            f"aiconfigurator has no tables for GPU {gpu!r} here (known: {', '.join(SYSTEMS)})"
        )
    if engine not in ENGINES:
        raise ImportFormatError(
            f"engine {engine!r} has no tables here (there are {', '.join(ENGINES)}){nearest(engine, ENGINES)}"
        )
    peak_tb_per_s = gpu_specs()[name].values["BwPeakTBs"]
    kernels = read_tables(_data_folder(source) / SYSTEMS[name], engine, peak_tb_per_s)
    composed = _compose(name, kernels, models, _degrees(ep))
    if not composed.rows:
        raise ImportFormatError(f"no step of {models or ', '.join(_DENSE)} could be composed")
    composed = _without_impossible(name, composed)
    info = _info(name, engine, kernels, package_version(source), composed)
    if models:
        info["latency_models"] = [_ALL_OF_THEM]
    tables = {} if models else kernel_tables(kernels)
    steps = pd.DataFrame(composed.rows)
    return Imported({"steps": steps, **tables}, info, composed.left_out)


@dataclasses.dataclass(frozen=True)
class _Composed:
    """The rows of ``steps``, and in words what was left out."""

    rows: list[dict[str, object]]
    left_out: tuple[str, ...]


def _without_impossible(gpu: str, composed: _Composed) -> _Composed:
    """Without steps that are faster than the GPU's peaks allow: a replayed kernel finds small caches in the L2."""
    hardware = Hardware(gpu, dict(gpu_specs()[gpu].values))
    steps = pd.DataFrame(composed.rows)
    possible = steps["latency_us"] >= fastest_us(StepTable.from_columns(steps), hardware)
    rows = [row for row, good in zip(composed.rows, possible, strict=True) if good]
    faster = len(composed.rows) - len(rows)
    said = (f"{faster} points faster than the peaks allow",) if faster else ()
    return _Composed(rows, (*composed.left_out, *said))


def _compose(
    gpu: str, kernels: KernelTables, models: str, degrees: Sequence[int] | None
) -> _Composed:
    memory_bytes = gpu_specs()[gpu].values["MemoryGiB"] * BYTES_PER_GIB
    composer = Composer(kernels)
    usable = memory_bytes * (MEMORY_SHARE if models else 1.0)
    rows: list[dict[str, object]] = []
    outside, too_big = Counter[str](), 0
    for arch, ranks in _served(models, degrees):
        if arch.weight_bytes / ranks.tp > usable:
            continue
        for step in sweep(*(_WIDE if models else _CLOSE)):
            if _bytes_per_gpu(arch, ranks.tp, step) > usable:
                too_big += 1
                continue
            latency_ms = composer.latency_ms(arch, ranks, step)
            if np.isnan(latency_ms):
                outside[_label(arch)] += 1
            else:
                rows.append(_row(arch, ranks, step, latency_ms))
    left_out = [
        f"{outside.total()} points outside the measured grid",
        f"{too_big} points whose KV cache would not fit in memory",
    ]
    composed = {f"{row['model']}:{row['dtype']}" for row in rows}
    missing = [label for label in outside if label not in composed]
    if models and missing:
        left_out.append(f"no kernels of {', '.join(missing)}")
    return _Composed(rows, (*left_out, *(kernels.artefacts if models else ())))


def _served(models: str, degrees: Sequence[int] | None) -> Iterator[tuple[Architecture, Ranks]]:
    """Every model on every number of GPUs, its experts split and shared."""
    for arch, tp in itertools.product(_architectures(models), _TPS):
        if arch.num_heads % tp:
            continue
        has_experts = any(group.experts for group in arch.layer_groups)
        asked = degrees or (1, tp)
        for ep in dict.fromkeys(asked) if has_experts else (1,):
            if tp % ep == 0:
                yield arch, Ranks(tp, ep)


def _architectures(models: str) -> Iterator[Architecture]:
    names = OF_2026 if models == "2026" else models.split(",") if models else _DENSE
    for label in names:
        name, _, dtype = label.strip().partition(":")
        try:
            yield load_architecture(name, dtype or None)
        except ArchitectureError as error:
            raise ImportFormatError(f"--models: {error}") from error


def _degrees(ep: str) -> tuple[int, ...] | None:
    if not ep:
        return None
    parts = ep.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise ImportFormatError(f"--ep {ep!r}: give whole numbers, such as 1,8")
    return tuple(int(part) for part in parts)


def _bytes_per_gpu(arch: Architecture, tp: int, step: Step) -> float:
    cache_bytes = arch.kv_bytes_per_token(tp, 2.0) * step.batch * step.length
    return (arch.weight_bytes + cache_bytes) / tp


def _label(arch: Architecture) -> str:
    return f"{arch.name}:{arch.dtype}"


def _row(arch: Architecture, ranks: Ranks, step: Step, latency_ms: float) -> dict[str, object]:
    prefill = step.phase == "prefill"
    ep = {"ep": ranks.ep} if any(group.experts for group in arch.layer_groups) else {}
    split = f"-ep{ranks.ep}" if ep else ""
    stored = f"-{arch.dtype}" if arch.dtype != "bf16" else ""
    return {
        "model": arch.name,
        "tp": ranks.tp,
        **ep,
        "dtype": arch.dtype,
        "num_prefill_requests": step.batch if prefill else 0,
        "sum_prefill_tokens": step.batch * step.length if prefill else 0,
        "num_decode_requests": 0 if prefill else step.batch,
        "sum_decode_kv_tokens": 0 if prefill else step.batch * step.length,
        "latency_us": round(latency_ms * US_PER_MS, 2),
        "run_id": f"{arch.name}{stored}-tp{ranks.tp}{split}-{step.phase}-b{step.batch}",
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


def _info(
    gpu: str, engine: str, kernels: KernelTables, package: str, composed: _Composed
) -> dict[str, object]:
    return {
        "title": f"{ENGINES[engine]} {kernels.version} kernels on {gpu}, composed into engine steps",
        "source": f"Python package aiconfigurator-core {package} (NVIDIA), systems/data/{SYSTEMS[gpu]}",
        "licence": "Apache-2.0",
        "collected": datetime.date(2026, 11, 20),
        "kind": "kernel-composed",
        "engine": f"{engine} {kernels.version}",
        "hardware": gpu,
        "itl": "unknown",
        "notes": "Each step is a sum of separately measured kernels (CUDA-graph latencies): the GEMMs, attention or "
        "experts and two all-reduces of a layer, and the GEMM of the LM head, interpolated in log space inside the "
        "measured grid; a head wider than every measured GEMM counts as equal parts, one after the other. It leaves "
        "out host time, norms, rotary embedding, activation functions and sampling. collected is the day of import; "
        "the package does not say when the kernels were measured. Kernel tables are a thinned part of them. "
        f"Left out: {'; '.join(composed.left_out)}.",
    }
