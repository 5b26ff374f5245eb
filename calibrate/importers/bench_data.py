"""A folder of GEMM and attention benchmarks, as the roofline-v2 models read it, becomes a campaign's kernel tables."""

from pathlib import Path

import numpy as np
import pandas as pd

from calibrate.importers.imported import Imported
from calibrate.records.errors import ImportFormatError
from calibrate.records.schema import TABLES
from sim.database.files import BenchFiles, bench_files, load_mfu_table
from sim.hardware import canonical_gpu, gpu_specs
from sim.steps.batch import Floats

_LARGE = 0.05  # an MFU that is printed to enough digits
_APART = 0.1


def read(source: str, gpu: str) -> Imported:
    """The benchmarks of ``gpu`` in the folder ``source``: latencies, and the MFUs that the files state.

    Raises ImportFormatError if a file lacks its latencies, MfuTableError for a folder that is no such database.
    """
    load_mfu_table(source, gpu)
    files = bench_files(source, gpu)
    prefill = [
        _read(file).assign(
            num_heads=heads[0], num_kv_heads=heads[1], head_dim=heads[2], batch_size=1
        )
        for heads, file in files.prefill.items()
    ]
    decode = [
        _read(file).assign(num_heads=heads[0], num_kv_heads=heads[1], head_dim=heads[2], tp=tp)
        for (heads, tp), file in files.decode.items()
    ]
    tables = {
        "gemm": _read(files.gemm),
        "attention_prefill": pd.concat(prefill),
        "attention_decode": pd.concat(decode),
    }
    tables = {
        name: frame[[column.name for column in TABLES[name] if column.name in frame]].reset_index(
            drop=True
        )
        for name, frame in tables.items()
    }
    ratio = _stated_over_measured(tables["gemm"], gpu)
    eight_bit = ratio is not None and "dtype" not in tables["gemm"] and abs(2 * ratio - 1) < _APART
    if eight_bit:
        tables["gemm"] = tables["gemm"].assign(dtype="fp8")
    return Imported(tables, _info(gpu, files, ratio, eight_bit=eight_bit))


def _read(file: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(file, skipinitialspace=True, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ImportFormatError(f"{file}: cannot be read as CSV: {error}") from error
    frame = frame.rename(columns=str.strip)
    latency = pd.to_numeric(frame.get("latency_us", pd.Series(dtype=float)), errors="coerce")
    bad = np.flatnonzero(~(latency > 0))
    if "latency_us" not in frame:
        raise ImportFormatError(
            f"{file}: column latency_us is missing; a campaign holds what was measured"
        )
    if len(bad):
        raise ImportFormatError(
            f"{file}:{bad[0] + 2}: latency_us must be positive, got {frame['latency_us'][bad[0]]}"
        )
    return frame


def _info(
    gpu: str, files: BenchFiles, ratio: float | None, *, eight_bit: bool
) -> dict[str, object]:
    notes = "MFUs are those that the files state; a model's time is computed with them, not with the latencies."
    if ratio is not None and abs(ratio - 1) > _APART:
        notes += (
            f" Those of the GEMMs are {ratio:.2f} times what latency and dense 16-bit peak give: the models compute "
            f"GEMMs {1 / ratio:.2f} times as long as they were measured."
        )
    if eight_bit:
        notes += " They look measured in 8 bits, as shares of that peak; dtype is set to fp8: correct it if not."
    return {
        "title": f"GEMM and attention benchmarks of {gpu}",
        "source": "say here where the benchmarks are from",
        "licence": "",
        "kind": "measured",
        "hardware": files.gemm.parent.name,
        "notes": notes,
    }


def _stated_over_measured(gemm: pd.DataFrame, gpu: str) -> float | None:
    """Median ratio of the MFUs of a file to those of its latencies; None for an unknown GPU, or too small MFUs."""
    spec = gpu_specs().get(canonical_gpu(gpu))
    large = (gemm["mfu"] > _LARGE).to_numpy()
    if spec is None:
        return None
    flops = 2e-6 * gemm["m"] * gemm["n"] * gemm["k"]
    measured: Floats = (flops / gemm["latency_us"] / spec.values["TFlopsPeak"]).to_numpy()
    return (
        float(np.median(gemm["mfu"].to_numpy()[large] / measured[large])) if large.any() else None
    )
