"""A folder of GEMM and attention benchmarks, as the roofline-v2 models read it, becomes a campaign's kernel tables."""

from pathlib import Path

import numpy as np
import pandas as pd

from calibrate.importers.imported import Imported
from calibrate.records.schema import TABLES
from calibrate.records.tables import compact, read_whole_table
from sim.database.files import BenchFiles, bench_files, load_mfu_table
from sim.database.table import Heads
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
        _read(file, "attention_prefill", **_sizes(heads), batch_size=1)
        for heads, file in files.prefill.items()
    ]
    decode = [
        _read(file, "attention_decode", **_sizes(heads), tp=tp)
        for (heads, tp), file in files.decode.items()
    ]
    tables = {
        "gemm": _read(files.gemm, "gemm"),
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


def _read(file: Path, table: str, **of_name: int) -> pd.DataFrame:
    """A file's rows, with the sizes that its name says; latencies must be there."""
    columns = [column for column in TABLES[table] if column.name not in of_name]
    return compact(read_whole_table(file, columns).frame).assign(**of_name)


def _sizes(heads: Heads) -> dict[str, int]:
    return {"num_heads": heads[0], "num_kv_heads": heads[1], "head_dim": heads[2]}


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
