"""Step tables of AISimulate and Dynamo's collector (``fpm_forward_perf.parquet``): one measured engine step a row.

A row names its model, how it is quantised and split, and the sums over its batch: tokens computed and tokens read of
the cache; ``latency_ms`` is the slowest rank's. The metadata beside it hold the parquet's SHA-256. Tables that
``calibrate export aisimulate`` wrote are modelled, not measured, and are refused. Schema 6 and 7 of
``aic_fpm_forward_perf`` (ai-dynamo/aisimulate, docs of its collector).
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from calibrate.importers.aiconfigurator import SYSTEMS
from calibrate.importers.imported import Imported
from calibrate.importers.model_names import named_model
from calibrate.importers.run_folder import read_json
from calibrate.records.errors import ImportFormatError
from calibrate.records.reading.parquet import read_parquet_frame
from sim.hardware import canonical_gpu
from sim.units import US_PER_MS

_TABLE = "fpm_forward_perf.parquet"
_METADATA = ".metadata.json"
_SCHEMA = "aic_fpm_forward_perf"
_TEXTS = ("model_path", "workload_kind")
_NUMBERS = (*("tp", "batch_size", "total_prefill_tokens", "total_kv_read_tokens", "latency_ms"),)
_UNMODELLED = ("pp", "dp", "cp")
"""Ways to split a model that no latency model here has a term for."""

_OURS = "calibrate-modelled"
_TYPES = {
    **{"bfloat16": "bf16", "float16": "fp16", "half": "fp16"},
    **{"fp8": "fp8", "fp8_static": "fp8", "fp8_block": "fp8_block", "nvfp4": "nvfp4"},
    **{"int8_wo": "int8", "int4_wo": "int4", "w4a16_mxfp4": "mxfp4"},
}
"""Weight types by the quantisation of a row's matrix products, experts or cache."""

_NOTES = (
    "Latency is the slowest rank's wall time of one iteration. A batch's requests are taken as equal in length, as the "
    "collector makes them."
)


def read(source: str, gpu: str) -> Imported:
    """Read a table, or those in a folder and below. Raises ImportFormatError for another one, or with no step left."""
    root = Path(source)
    if not root.exists():
        raise ImportFormatError(f"{source}: no such file or folder")
    files = sorted(root.rglob(f"*{_TABLE}")) if root.is_dir() else [root]
    if not files:
        raise ImportFormatError(f"{source}: no {_TABLE} in it")
    left_out: list[str] = []
    tables = [_steps(_rows(file), gpu, file, left_out) for file in files]
    steps = pd.concat(tables, ignore_index=True)
    if steps.empty:
        raise ImportFormatError("\n".join([f"{source}: no step of it can be imported", *left_out]))
    return Imported({"steps": steps}, _info(steps, gpu), tuple(left_out))


def _rows(file: Path) -> pd.DataFrame:
    rows = read_parquet_frame(file)
    _check_metadata(file)
    missing = [name for name in (*_TEXTS, *_NUMBERS) if name not in rows]
    if missing:
        raise ImportFormatError(f"{file}: the column {missing[0]} is missing")
    for name in _NUMBERS:
        rows[name] = _amounts(rows[name], name, file)
    return rows


def _amounts(column: "pd.Series", name: str, file: Path) -> "pd.Series[float]":
    values = pd.to_numeric(column, errors="coerce").astype(float)
    least = 0.0 if name.startswith("total_") else np.nextafter(0.0, 1.0)
    bad = ~(values >= least) | np.isinf(values)
    if bad.any():
        row = int(np.argmax(bad))
        raise ImportFormatError(
            f"{file}, row {row + 1}, {name} = {str(column.iloc[row])[:60]}: must be a number"
            + (" of 0 or more" if least == 0.0 else " above 0")
        )
    return values


def _check_metadata(file: Path) -> None:
    """Raise ImportFormatError where the metadata beside a table are of another table, or of another kind."""
    path = file.with_name(file.name.removesuffix(".parquet") + _METADATA)
    if not path.exists():
        return
    said = read_json(path)
    if said.get("schema_name") != _SCHEMA:
        raise ImportFormatError(f"{path}: schema_name must be {_SCHEMA}")
    digest = said.get("parquet_sha256")
    if digest and digest != hashlib.sha256(file.read_bytes()).hexdigest():
        raise ImportFormatError(
            f"{path}: parquet_sha256 is not that of {file.name}: give the pair as it was published"
        )


def _steps(rows: pd.DataFrame, gpu: str, file: Path, left_out: list[str]) -> pd.DataFrame:
    for why, keep in _kept(rows, gpu):
        others = int((~keep).sum())
        if others:
            left_out.append(f"{file}: {others:,} rows: {why}")
        rows = rows[keep.reindex(rows.index)]
    prefill = (rows["workload_kind"] == "prefill").to_numpy()
    count = rows["batch_size"]
    steps = {
        "model": [str(named_model(str(name))["model"]) for name in rows["model_path"]],
        "tp": rows["tp"],
        "dtype": _types(rows, "gemm_quant_mode"),
        "kv_dtype": _types(rows, "kv_cache_dtype"),
        "num_prefill_requests": count * prefill,
        "sum_prefill_tokens": rows["total_prefill_tokens"],
        "sum_prefill_kv_tokens": rows["total_kv_read_tokens"] * prefill,
        "num_decode_requests": count * ~prefill,
        "sum_decode_kv_tokens": rows["total_kv_read_tokens"] * ~prefill,
        "latency_us": rows["latency_ms"] * US_PER_MS,
        "run_id": rows["cell_id"].astype(str) if "cell_id" in rows else file.parent.name,
    }
    if "moe_ep" in rows:
        steps["ep"] = rows["moe_ep"].fillna(1)
    return pd.DataFrame(steps)


def _kept(rows: pd.DataFrame, gpu: str) -> Iterator[tuple[str, "pd.Series[bool]"]]:
    """Why rows are left out, one reason after the other, and which stay by each."""
    ids = rows["cell_id"].astype(str) if "cell_id" in rows else pd.Series("", rows.index)
    yield "modelled by calibrate, not measured", ~ids.str.startswith(_OURS)
    if "system" in rows:
        system = SYSTEMS.get(canonical_gpu(gpu), gpu.lower())
        yield f"not of {gpu} ({system})", rows["system"] == system
    kinds = rows["workload_kind"].isin(["prefill", "decode"])
    yield "neither a prefill nor a decode", kinds
    for name in _UNMODELLED:
        if name in rows:
            yield f"{name} above 1, which is not modelled", rows[name].fillna(1) == 1
    known = {name: "model" in named_model(str(name)) for name in rows["model_path"].unique()}
    unknown = ", ".join(str(name) for name, is_known in known.items() if not is_known)
    yield (
        f"models that are not in the registry ({unknown})",
        rows["model_path"].map(known).astype(bool),
    )
    for name in ("gemm_quant_mode", "kv_cache_dtype"):
        if name in rows:
            yield f"a {name} that no weight type stands for", rows[name].isin(_TYPES)


def _types(rows: pd.DataFrame, name: str) -> "pd.Series[str] | str":
    return rows[name].map(_TYPES) if name in rows else ""


def _info(steps: pd.DataFrame, gpu: str) -> dict[str, object]:
    models = ", ".join(sorted(set(steps["model"])))
    return {
        "title": f"Engine steps on {gpu}: {models}",
        "source": "say here where the table is from",
        "licence": "",
        "kind": "measured",
        "hardware": gpu,
        "notes": _NOTES,
    }
