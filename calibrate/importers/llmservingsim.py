"""LLMServingSim's folders: profiles of vLLM's layers as kernels and composed steps, and its servers' runs.

A profile is a ``meta.yaml`` with ``tp*/{dense,attention,per_sequence}.csv``; a run is a ``meta.json`` with
``requests.jsonl``. Source: github.com/casys-kaist/LLMServingSim, ``profiler/perf`` and ``bench/examples`` (MIT).
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from calibrate.campaign.physics import check_kernels_physics
from calibrate.importers.gpu_names import same_gpu
from calibrate.importers.imported import Imported
from calibrate.importers.llmservingsim_kept import Kept
from calibrate.importers.llmservingsim_profile import Profile, read_profile
from calibrate.importers.llmservingsim_run import read_run, run_hardware
from calibrate.importers.run_folder import Row, read_yaml
from calibrate.importers.thresholds import MEMORY_SHARE
from calibrate.records.errors import ImportFormatError
from calibrate.records.schema import TABLES
from sim.hardware import Hardware, canonical_gpu, gpu_specs
from sim.units import BYTES_PER_GIB

_PROFILE, _RUN = "meta.yaml", "meta.json"
_READ = (
    _PROFILE,
    *("dense.csv", "per_sequence.csv", "attention.csv", "moe.csv"),
    _RUN,
    *("requests.jsonl", "config.json"),
)
_LARGEST_EVERY = 10_000
_MIXES = "roofline-v4"  # has terms for prompts beside decodes, which most steps of a profile are
_NOTES = (
    "Steps are composed: embedding, layers times (two norms, QKV, rotary embedding, attention, output, gate and up, "
    "activation, down, and QK norms where the model has them; experts in place of the last three), final norm, LM "
    "head and sampler, each as profiled, interpolated linearly in tokens or sequences inside the measured grid. "
    "Experts: at each measured count of tokens, those that so many choose of an uneven router (one with a mean load "
    "of m tokens is chosen with m/(1 + m)). Attention is the measured launch of one prompt's chunk beside equally "
    "long decodes. The layers were profiled eagerly, one layer deep, on shards, and "
    "repeated: a cache that fits the L2 may have stayed there; host time, CUDA graphs and all-reduces are not in "
    "them. Attention that is mixed, or of a chunk with tokens cached, has no kernel table: it is in steps only. "
    "serving holds the engine's own times, from a request's arrival in its queue; load is told from when requests "
    "were queued and ended."
)


def read(source: str, gpu: str, every: str = "1") -> Imported:
    """The profiles and runs of ``gpu`` in a folder and below; those of other hardware are left out and named.

    Of mixed steps one in ``every`` is kept, in the order of the files. Raises ImportFormatError if a file cannot be
    read, a number is wrong, or nothing is of that GPU.
    """
    root = Path(source)
    if not root.is_dir():
        raise ImportFormatError(
            f"{source}: no such folder; give a profile's, a run's, or one of them"
        )
    devices = _devices(root)
    profiles, elsewhere = _profiles(root, gpu, _kept(gpu, every), devices)
    rows, left_out, others = _runs(root, gpu, devices)
    if not profiles and not rows:
        found = (
            "; ".join([*elsewhere, *others, *left_out]) or f"neither {_PROFILE} nor {_RUN} in it"
        )
        raise ImportFormatError(f"{source}: no profile or run of {gpu} ({found})")
    tables = {name: _joined([p.tables.get(name) for p in profiles], name) for name in TABLES}
    tables["serving"] = _joined([pd.DataFrame(rows)], "serving")
    tables["gemm"], faster = _possible(tables["gemm"], gpu)
    left_out += [words for profile in profiles for words in profile.left_out] + faster
    info = _info(gpu, profiles, rows)
    info["notes"] = " ".join([_NOTES, _counted(root, left_out)]).strip()
    info["source_sha256"] = _digest(root)
    kept = {name: frame for name, frame in tables.items() if len(frame)}
    return Imported(kept, info, (*elsewhere, *others, *left_out))


def _kept(gpu: str, every: str) -> Kept:
    """All steps that fit in a GPU whose memory is known, as thinned as ``every`` says."""
    if not every.isdecimal() or not 1 <= int(every) <= _LARGEST_EVERY:
        raise ImportFormatError(
            f"--every {every}: must be a whole number from 1 to {_LARGEST_EVERY}"
        )
    spec = gpu_specs().get(canonical_gpu(gpu))
    if spec is None:
        return Kept(every=int(every))
    return Kept(MEMORY_SHARE * spec.values["MemoryGiB"] * BYTES_PER_GIB, int(every))


def _devices(root: Path) -> dict[str, str]:
    """The GPU that each name of hardware stands for, as the profiles say it: the name alone may be of several."""
    said = [read_yaml(file) for file in sorted(root.rglob(_PROFILE))]
    return {
        str(one.get("hardware") or ""): str(one["gpu"])
        for one in said
        if canonical_gpu(str(one.get("gpu") or "")) in gpu_specs()
    }


def _profiles(
    root: Path, gpu: str, kept: Kept, devices: Mapping[str, str]
) -> tuple[list[Profile], list[str]]:
    profiles, elsewhere = [], []
    for file in sorted(root.rglob(_PROFILE)):
        said = read_yaml(file)
        hardware = str(said.get("hardware") or "")
        device = devices.get(hardware, hardware)
        if same_gpu(device, gpu):
            profiles.append(read_profile(file.parent, said, kept))
        else:
            elsewhere.append(f"{file.parent}: was profiled on {device}")
    return profiles, elsewhere


def _runs(
    root: Path, gpu: str, devices: Mapping[str, str]
) -> tuple[list[Row], list[str], list[str]]:
    """The rows of runs, what they leave out, and the runs of other hardware."""
    rows, left_out, others = list[Row](), list[str](), list[str]()
    for file in sorted(root.rglob(_RUN)):
        hardware = run_hardware(file.parent)
        device = devices.get(hardware, hardware)
        if hardware and not same_gpu(device, gpu):
            others.append(f"{file.parent}: ran on {device}")
            continue
        row = read_run(file)
        if isinstance(row, str):
            left_out.append(f"{file.parent}: {row}")
        else:
            rows.append(row)
    return rows, left_out, others


def _possible(gemm: pd.DataFrame, gpu: str) -> tuple[pd.DataFrame, list[str]]:
    """Without GEMMs that are faster than a known GPU's peaks allow, and how many those were."""
    spec = gpu_specs().get(canonical_gpu(gpu))
    if spec is None or gemm.empty:
        return gemm, []
    hardware = Hardware(spec.name, dict(spec.values))
    lines = gemm.assign(line=range(len(gemm)))
    possible, _ = check_kernels_physics("gemm", "gemm", lines, hardware)
    faster = int((~possible).sum())
    words = f"{faster} GEMMs faster than the peaks allow: a clock above the rated one"
    return gemm[possible], [words] if faster else []


def _counted(root: Path, left_out: Sequence[str]) -> str:
    words = "; ".join(words.replace(f"{root}/", "") for words in left_out)
    return f"Left out: {words}." if words else ""


def _digest(root: Path) -> str:
    """SHA-256 of the files that are read, each after its name, in the order of these."""
    digest = hashlib.sha256()
    for file in sorted(path for name in _READ for path in root.rglob(name) if path.is_file()):
        digest.update(file.relative_to(root).as_posix().encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _joined(frames: Sequence[pd.DataFrame | None], name: str) -> pd.DataFrame:
    """The rows of several frames, under the columns that table ``name`` has."""
    there = [frame for frame in frames if frame is not None and len(frame)]
    if not there:
        return pd.DataFrame()
    joined = pd.concat(there, ignore_index=True)
    return joined[[column.name for column in TABLES[name] if column.name in joined]]


def _info(gpu: str, profiles: Sequence[Profile], rows: Sequence[Row]) -> dict[str, object]:
    engines = sorted({p.engine for p in profiles} | {str(row["engine"]) for row in rows})
    info: dict[str, object] = {
        "title": f"LLMServingSim's profiles and runs of vLLM on {gpu}",
        "source": "LLMServingSim (CASYS, KAIST), github.com/casys-kaist/LLMServingSim",
        "licence": "MIT",
        "kind": "kernel-composed" if profiles else "measured",
        "engine": ", ".join(engines),
        "hardware": ", ".join(sorted({p.device for p in profiles})) or gpu,
        "itl": "per-token",
    }
    if profiles:
        info["collected"] = max(profile.collected for profile in profiles)
        info["latency_models"] = [_MIXES]
    return info
