"""LLMServingSim's folders: profiles of vLLM's layers as kernels and composed steps, and its servers' runs.

A profile is a ``meta.yaml`` with ``tp*/{dense,attention,per_sequence}.csv``; a run is a ``meta.json`` with
``requests.jsonl``. Source: github.com/casys-kaist/LLMServingSim, ``profiler/perf`` and ``bench/examples`` (MIT).
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from calibrate.importers.gpu_names import same_gpu
from calibrate.importers.imported import Imported
from calibrate.importers.llmservingsim_profile import Profile, read_profile
from calibrate.importers.llmservingsim_run import read_run, run_hardware
from calibrate.importers.run_folder import Row, read_yaml
from calibrate.records.errors import ImportFormatError
from calibrate.records.schema import TABLES

_PROFILE, _RUN = "meta.yaml", "meta.json"
_NOTES = (
    "Steps are composed: embedding, layers times (two norms, QKV, rotary embedding, attention, output, gate and up, "
    "activation, down, and QK norms where the model has them), final norm, LM head and sampler, each as profiled, "
    "interpolated linearly in tokens or sequences inside the measured grid. Attention is the measured launch of one "
    "prompt's chunk beside equally long decodes. The layers were profiled eagerly, one layer deep, on shards, and "
    "repeated: a cache that fits the L2 may have stayed there; host time, CUDA graphs and all-reduces are not in "
    "them. Attention that is mixed, or of a chunk with tokens cached, has no kernel table: it is in steps only. "
    "serving holds the engine's own times, from a request's arrival in its queue; load is told from when requests "
    "were queued and ended."
)


def read(source: str, gpu: str) -> Imported:
    """The profiles and runs of ``gpu`` in a folder and below; those of other hardware are left out and named.

    Raises ImportFormatError if a file cannot be read, a number is wrong, or nothing is of that GPU.
    """
    root = Path(source)
    if not root.is_dir():
        raise ImportFormatError(
            f"{source}: no such folder; give a profile's, a run's, or one of them"
        )
    profiles, elsewhere = _profiles(root, gpu)
    rows, left_out, others = _runs(root, gpu)
    if not profiles and not rows:
        found = (
            "; ".join([*elsewhere, *others, *left_out]) or f"neither {_PROFILE} nor {_RUN} in it"
        )
        raise ImportFormatError(f"{source}: no profile or run of {gpu} ({found})")
    tables = {name: _joined([p.tables.get(name) for p in profiles], name) for name in TABLES}
    tables["serving"] = _joined([pd.DataFrame(rows)], "serving")
    left_out += [words for profile in profiles for words in profile.left_out]
    kept = {name: frame for name, frame in tables.items() if len(frame)}
    return Imported(kept, _info(gpu, profiles, rows), (*elsewhere, *others, *left_out))


def _profiles(root: Path, gpu: str) -> tuple[list[Profile], list[str]]:
    profiles, elsewhere = [], []
    for file in sorted(root.rglob(_PROFILE)):
        said = read_yaml(file)
        hardware = str(said.get("hardware") or "")
        if same_gpu(hardware, gpu):
            profiles.append(read_profile(file.parent, said))
        else:
            elsewhere.append(f"{file.parent}: was profiled on {hardware}")
    return profiles, elsewhere


def _runs(root: Path, gpu: str) -> tuple[list[Row], list[str], list[str]]:
    """The rows of runs, what they leave out, and the runs of other hardware."""
    rows, left_out, others = list[Row](), list[str](), list[str]()
    for file in sorted(root.rglob(_RUN)):
        hardware = run_hardware(file.parent)
        if hardware and not same_gpu(hardware, gpu):
            others.append(f"{file.parent}: ran on {hardware}")
            continue
        row = read_run(file)
        if isinstance(row, str):
            left_out.append(f"{file.parent}: {row}")
        else:
            rows.append(row)
    return rows, left_out, others


def _joined(frames: Sequence[pd.DataFrame | None], name: str) -> pd.DataFrame:
    """The rows of several frames, under the columns that table ``name`` has."""
    there = [frame for frame in frames if frame is not None and len(frame)]
    if not there:
        return pd.DataFrame()
    joined = pd.concat(there, ignore_index=True)
    return joined[[column.name for column in TABLES[name] if column.name in joined]]


def _info(gpu: str, profiles: Sequence[Profile], rows: Sequence[Row]) -> dict[str, object]:
    engines = sorted({p.engine for p in profiles} | {str(row["engine"]) for row in rows})
    return {
        "title": f"LLMServingSim's profiles and runs of vLLM on {gpu}",
        "source": "LLMServingSim (CASYS, KAIST), github.com/casys-kaist/LLMServingSim",
        "licence": "MIT",
        "kind": "kernel-composed" if profiles else "measured",
        "engine": ", ".join(engines),
        "hardware": ", ".join(sorted({p.device for p in profiles})) or gpu,
        "itl": "per-token",
        "notes": _NOTES,
    }
