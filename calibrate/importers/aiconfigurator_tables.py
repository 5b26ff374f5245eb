"""The package's tables of kernels, read one kind at a time and looked up by shape.

What a table holds that no engine would see is taken out, and counted:

- A quantised GEMM of more rows never takes less time than one of fewer: stray launches at few rows are replaced by
  the shortest time of as many rows or more.
- Each point of the expert tables is one draw of a skewed router. The two skewed draws are averaged (their geometric
  mean), balanced ones left out, and of several kernels the fastest counts.
- A recurrent state of a decode is found in the L2 cache by a replayed kernel, as no model of many layers finds it:
  the time is at least that of reading and writing it at the memory's peak.
- vLLM's times of fp8 GEMMs scaled by blocks hold the host's launch; TensorRT-LLM's of the same GEMMs do not.
"""

import dataclasses
import functools
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibrate.importers.kernel_grid import Grid
from calibrate.records.errors import ImportFormatError
from calibrate.records.schema import Column
from calibrate.records.tables import read_whole_table
from sim.architecture.attention import STATE_BYTES
from sim.units import GIGA

GEMM_TYPES = {
    "bf16": "bfloat16",
    "fp16": "bfloat16",
    "fp8": "fp8",
    "fp8_block": "fp8_block",
    "nvfp4": "nvfp4",
}
"""The tables' names of our weight types, as dense GEMMs have them."""

EXPERT_TYPES = {**GEMM_TYPES, "mxfp4": "w4a16_mxfp4", "int4": "int4_wo"}
"""The same for experts."""

ENGINES = {"vllm": "vLLM", "sglang": "SGLang", "trtllm": "TensorRT-LLM"}
"""Engines with tables, and their names."""

_SKEWED = ("power_law_1.01", "power_law_1.2")


@dataclasses.dataclass(frozen=True)
class Table:
    """The rows of one measured operation, and the grids of its shapes."""

    rows: pd.DataFrame
    shape: tuple[str, ...]
    axes: tuple[str, ...]

    @functools.cached_property
    def _places(self) -> Mapping[Any, Any]:
        return self.rows.groupby(list(self.shape), sort=False).indices

    @functools.cached_property
    def _grids(self) -> dict[Hashable, Grid]:
        return {}

    def grid(self, *shape: Hashable) -> Grid | None:
        """The times of one shape; None where it was not measured."""
        key = shape if len(shape) > 1 else shape[0]
        if key not in self._grids:
            places = self._places.get(key)
            if places is None:
                return None
            self._grids[key] = Grid.from_rows(self.rows.iloc[places], self.axes)
        return self._grids[key]

    @property
    def shapes(self) -> list[Hashable]:
        """Every measured shape."""
        return list(self._places)

    def latency_ms(self, shape: Sequence[Hashable], *point: float) -> float:
        """Interpolated; NaN outside the grid or for a shape that was not measured."""
        grid = self.grid(*shape)
        return float("nan") if grid is None else grid.latency_ms(*point)


@dataclasses.dataclass(frozen=True)
class KernelTables:
    """The measured operations of one GPU and engine.

    Shapes: GEMMs by type (m, n, k); attention by heads, KV heads, head size, window and cache type (batch, length);
    latent attention by heads, GEMM type and cache type (batch, length), its projections in it; linear attention by key
    and value heads, their sizes and the convolution's (batch, of prompts length too); experts by type, model
    width, their width, experts a token, experts, and how many GPUs split their width and their number (tokens);
    all-reduces by GPUs (elements).
    """

    gemm: Table
    prefill_attention: Table
    decode_attention: Table
    latent_prefill: Table | None
    latent_decode: Table | None
    linear_prefill: Table | None
    linear_decode: Table | None
    experts: Table | None
    all_reduce: Table
    version: str
    artefacts: tuple[str, ...]


_EXPERT_SHAPE = (
    "moe_dtype",
    "hidden_size",
    "inter_size",
    "topk",
    "num_experts",
    "moe_tp_size",
    "moe_ep_size",
)


def read_tables(system: Path, engine: str, peak_tb_per_s: float) -> KernelTables:
    """All tables of the GPU's folder, each in its newest version; ``peak_tb_per_s`` is its memory's bandwidth.

    Raises ImportFormatError for a missing table.
    """
    artefacts: list[str] = []
    gemm, version = _newest(system / "gemm" / engine, _GEMM)
    linear = _recurrences(system, engine, peak_tb_per_s, artefacts)
    return KernelTables(
        gemm=_gemm_table(gemm, system, engine, artefacts),
        prefill_attention=_attention(system, engine, _PREFILL, "isl"),
        decode_attention=_attention(system, engine, _DECODE, "step"),
        latent_prefill=_latent(system, engine, _LATENT_PREFILL, "isl"),
        latent_decode=_latent(system, engine, _LATENT_DECODE, "step"),
        linear_prefill=_linear(linear, "context", ("batch_size", "seq_len")),
        linear_decode=_linear(linear, "generation", ("batch_size",)),
        experts=_experts(system, engine, artefacts),
        all_reduce=_all_reduce(system, engine),
        version=version,
        artefacts=tuple(artefacts),
    )


def _gemm_table(rows: pd.DataFrame, system: Path, engine: str, artefacts: list[str]) -> Table:
    rows = rows[["gemm_dtype", "m", "n", "k", "latency"]]
    blocks = rows["gemm_dtype"] == "fp8_block"
    if engine == "vllm" and blocks.any():
        others = _rows_if_there(system / "gemm" / "trtllm", _GEMM)
        if others is not None:
            others = others[others["gemm_dtype"] == "fp8_block"]
            rows = pd.concat([rows[~blocks], others[rows.columns]], ignore_index=True)
            artefacts.append(
                f"{int(blocks.sum())} times of fp8 GEMMs by blocks that hold the host's launch "
                "(TensorRT-LLM's taken instead)"
            )
    means = rows.groupby(["gemm_dtype", "m", "n", "k"])["latency"].mean().reset_index()
    return Table(_without_stray(means, artefacts), ("gemm_dtype",), ("m", "n", "k"))


def _without_stray(rows: pd.DataFrame, artefacts: list[str]) -> pd.DataFrame:
    """Quantised GEMMs as quick at least as those of more rows."""
    rows = rows.sort_values("m", ascending=False)
    quickest = rows.groupby(["gemm_dtype", "n", "k"])["latency"].cummin()
    stray = (rows["gemm_dtype"] != "bfloat16") & (quickest < rows["latency"])
    artefacts.append(
        f"{int(stray.sum())} times of quantised GEMMs above those of more rows (the shorter taken)"
    )
    return rows.assign(latency=rows["latency"].where(~stray, quickest))


def _attention(system: Path, engine: str, file: str, length: str) -> Table:
    rows, _ = _newest(system / "attention" / engine, file)
    window = rows.get("window_size", 0)
    rows = rows.assign(window_size=window)
    shape = ("num_heads", "num_key_value_heads", "head_dim", "window_size", "kv_cache_dtype")
    return Table(_fastest(rows, shape, ("batch_size", length)), shape, ("batch_size", length))


def _latent(system: Path, engine: str, file: str, length: str) -> Table | None:
    rows = _rows_if_there(system / "mla" / engine, file)
    if rows is None:
        return None
    shape = ("num_heads", "gemm_type", "kv_cache_dtype")
    return Table(_fastest(rows, shape, ("batch_size", length)), shape, ("batch_size", length))


def _recurrences(
    system: Path, engine: str, peak_tb_per_s: float, artefacts: list[str]
) -> pd.DataFrame | None:
    """Kernels of linear attention; a decode's no faster than the memory's peak reads its states and writes them."""
    rows = _rows_if_there(system / "linear_attention" / engine, _LINEAR)
    if rows is None:
        return None
    state = rows["num_v_heads"] * rows["head_k_dim"] * rows["head_v_dim"]
    moved = 2.0 * STATE_BYTES * state * rows["batch_size"]
    floor = moved / (peak_tb_per_s * GIGA)  # in ms
    is_cached = rows["kernel_source"].str.contains("recurrent") & (floor > rows["latency"])
    artefacts.append(
        f"{int(is_cached.sum())} times of recurrent states faster than the memory's peak, found in a cache "
        "(the peak's taken)"
    )
    return rows.assign(latency=rows["latency"].where(~is_cached, floor))


def _linear(rows: pd.DataFrame | None, phase: str, axes: tuple[str, ...]) -> Table | None:
    """Convolution and recurrence together, at points where both were measured."""
    if rows is None:
        return None
    rows = rows[rows["phase"] == phase]
    by_kernel = rows.groupby([*_LINEAR_SHAPE, *axes, "kernel_source"])["latency"].mean()
    both = by_kernel.groupby(level=[*_LINEAR_SHAPE, *axes]).agg(["sum", "size"]).reset_index()
    measured = both[both["size"] == _LINEAR_KERNELS].rename(columns={"sum": "latency"})
    return Table(measured, _LINEAR_SHAPE, axes)


def _experts(system: Path, engine: str, artefacts: list[str]) -> Table | None:
    rows = _rows_if_there(system / "moe" / engine, _MOE)
    if rows is None:
        return None
    skewed = rows["distribution"].isin(_SKEWED)
    artefacts.append(f"{int((~skewed).sum())} times of experts under balanced routing")
    keys = (*_EXPERT_SHAPE, "num_tokens")
    by_draw = _fastest(rows[skewed], (*keys, "distribution"), ())
    logs = by_draw.assign(latency=np.log(by_draw["latency"]))
    means = logs.groupby(list(keys))["latency"].mean().reset_index()
    return Table(means.assign(latency=np.exp(means["latency"])), _EXPERT_SHAPE, ("num_tokens",))


def _all_reduce(system: Path, engine: str) -> Table:
    rows, _ = _newest(system / "comm" / engine, _ALL_REDUCE)
    rows = rows[rows["allreduce_dtype"] == "bfloat16"]
    graphs = rows[rows["backend"] == "vllm_graph"]
    return Table(graphs if len(graphs) else rows, ("num_gpus",), ("message_size",))


def _fastest(rows: pd.DataFrame, shape: Sequence[str], axes: Sequence[str]) -> pd.DataFrame:
    """Of several kernels at a point, the fastest."""
    return rows.groupby([*shape, *axes])["latency"].min().reset_index()


def _columns(texts: tuple[str, ...], numbers: tuple[str, ...]) -> tuple[Column, ...]:
    return (
        *(Column(name, "text", required=True) for name in texts),
        *(Column(name, "positive", required=True) for name in numbers),
    )


_LINEAR, _LINEAR_KERNELS = "gdn_perf.parquet", 2
_LINEAR_SHAPE = ("num_k_heads", "num_v_heads", "head_k_dim", "head_v_dim", "d_conv")
_GEMM, _ALL_REDUCE, _MOE = "gemm_perf.parquet", "custom_allreduce_perf.parquet", "moe_perf.parquet"
_PREFILL, _DECODE = "context_attention_perf.parquet", "generation_attention_perf.parquet"
_LATENT_PREFILL, _LATENT_DECODE = (
    "mla_context_module_perf.parquet",
    "mla_generation_module_perf.parquet",
)
_ATTENTION = ("head_dim", "num_heads", "num_key_value_heads", "batch_size", "latency")
_MLA = ("num_heads", "batch_size", "latency")
_COLUMNS = {
    _GEMM: _columns(("gemm_dtype",), ("m", "n", "k", "latency")),
    _PREFILL: _columns(("kv_cache_dtype",), (*_ATTENTION, "isl")),
    _DECODE: _columns(("kv_cache_dtype",), (*_ATTENTION, "step")),
    _LATENT_PREFILL: _columns(("kv_cache_dtype", "gemm_type"), (*_MLA, "isl")),
    _LATENT_DECODE: _columns(("kv_cache_dtype", "gemm_type"), (*_MLA, "step")),
    _LINEAR: _columns(
        ("phase", "kernel_source"), (*_LINEAR_SHAPE, "batch_size", "seq_len", "latency")
    ),
    _MOE: _columns(("moe_dtype", "distribution"), (*_EXPERT_SHAPE[1:], "num_tokens", "latency")),
    _ALL_REDUCE: _columns(("allreduce_dtype", "backend"), ("num_gpus", "message_size", "latency")),
}
"""What must stand in each table of kernels."""


def _newest(folder: Path, file: str) -> tuple[pd.DataFrame, str]:
    found = sorted(folder.glob(f"*/{file}"), key=lambda path: _version_key(path.parent.name))
    if not found:
        raise ImportFormatError(f"{folder}: no version of it has {file}")
    return read_whole_table(found[-1], _COLUMNS[file]).frame, found[-1].parent.name


def _rows_if_there(folder: Path, file: str) -> pd.DataFrame | None:
    return _newest(folder, file)[0] if any(folder.glob(f"*/{file}")) else None


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
