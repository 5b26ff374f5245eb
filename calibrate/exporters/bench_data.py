"""Kernel tables as the benchmark database that the roofline-v2 models read.

An MFU is the one with which those models give the measured time back; where a table states one, that one stands.
"""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from calibrate.campaign.campaign import Campaign
from calibrate.exporters.exported import Exported, Source
from calibrate.records.errors import CalibrateError
from sim.database.curves import USABLE_MFU
from sim.hardware import check_gpu_name
from sim.models.database_model import CAUSAL

_SIXTEEN_BITS = ("", "bf16", "fp16", "bfloat16", "float16")
_HEADS = ["num_heads", "num_kv_heads", "head_dim"]
_DIGITS = 6
_NAME = re.compile(r"[^a-z0-9._+-]")


def write(source: Source) -> Exported:
    """The files under ``gemm/<gpu>/`` and ``mha/…/<gpu>/``. Repeated points: their median.

    Kernels of 16 bits count (others with a stated MFU where there are none), and of prefills those of one prompt.
    Raises CalibrateError if the campaigns lack a table, or a configuration its decodes.
    """
    campaigns, peak = source.measured, source.peaks.positive("TFlopsPeak")
    gemm = _gemm(_table(campaigns, "gemm"), peak)
    prefill = _prefill(_table(campaigns, "attention_prefill"), peak)
    decode = _decode(_table(campaigns, "attention_decode"), peak)
    gpu = _NAME.sub("-", check_gpu_name(source.gpu).lower())
    texts = {f"gemm/{gpu}/data.csv": _csv(gemm)}
    for heads in prefill[_HEADS].drop_duplicates().astype(int).itertuples(index=False, name=None):
        name, rows, whole = "-".join(map(str, heads)), _of(prefill, heads), _of(decode, heads)
        surfaces = {int(tp): whole[whole["tp"] == tp] for tp in whole["tp"].unique()}
        if surfaces and _usable(rows) and all(map(_usable, surfaces.values())):
            texts[f"mha/prefill/{gpu}/{name}.csv"] = _csv(rows.drop(columns=_HEADS))
            for tp, part in surfaces.items():
                texts[f"mha/decode/{gpu}/{name}-tp{tp}.csv"] = _csv(part.drop(columns=[*_HEADS, "tp"]))
    if len(texts) == 1:
        raise CalibrateError(
            "no attention configuration has both prefills of one prompt and decodes: a database needs both"
        )
    return Exported(texts)


def _table(campaigns: Sequence[Campaign], name: str) -> pd.DataFrame:
    """The 16-bit rows of a kernel table, over all campaigns; without any, those whose MFU is stated."""
    found = [campaign.kernels[name] for campaign in campaigns if len(campaign.kernels.get(name, ()))]
    rows = pd.concat(found, ignore_index=True) if found else pd.DataFrame()
    types = [rows[column].str.lower().isin(_SIXTEEN_BITS) for column in ("dtype", "kv_dtype") if column in rows]
    wide = np.logical_and.reduce(types) if types else np.ones(len(rows), dtype=bool)
    if not wide.any() and "mfu" in rows:
        wide = rows["mfu"].notna().to_numpy()
    if not wide.any():
        listed = ", ".join(campaign.name for campaign in campaigns) or "none"
        raise CalibrateError(f"no 16-bit row of a {name} table in the campaigns ({listed}); add {name}.csv to one")
    return rows[wide]


def _gemm(rows: pd.DataFrame, peak: float) -> pd.DataFrame:
    return _points(rows, ["m", "k", "n"], 2e-6 * rows["m"] * rows["k"] * rows["n"] / peak)


def _prefill(rows: pd.DataFrame, peak: float) -> pd.DataFrame:
    rows = rows[rows["batch_size"] == 1]
    flops = 4e-6 * rows["num_heads"] * rows["head_dim"] * rows["seq_len"] ** 2 / CAUSAL
    return _points(rows, [*_HEADS, "seq_len"], flops / peak)


def _decode(rows: pd.DataFrame, peak: float) -> pd.DataFrame:
    rows = rows.assign(tp=rows["tp"].fillna(1.0).clip(lower=1.0) if "tp" in rows else 1.0)
    flops = 4e-6 * rows["num_heads"] * rows["head_dim"] * rows["batch_size"] * rows["kv_len"] / rows["tp"]
    return _points(rows, [*_HEADS, "tp", "batch_size", "kv_len"], flops / peak)


def _points(rows: pd.DataFrame, keys: list[str], least_us: pd.Series) -> pd.DataFrame:
    """``latency_us`` and ``mfu`` by the ``keys``, in their order; ``least_us`` is the time at the peak."""
    mfu = (least_us / rows["latency_us"]).round(_DIGITS).clip(upper=1.0)
    if "mfu" in rows:
        mfu = rows["mfu"].fillna(mfu)
    groups = rows.assign(mfu=mfu).groupby(keys, sort=False)
    return groups[["latency_us", "mfu"]].median().reset_index()


def _of(rows: pd.DataFrame, heads: Sequence[float]) -> pd.DataFrame:
    return rows[(rows[_HEADS] == list(heads)).all(axis=1)]


def _usable(rows: pd.DataFrame) -> bool:
    return bool((rows["mfu"] >= USABLE_MFU).any())


def _csv(rows: pd.DataFrame) -> str:
    sizes = dict.fromkeys(rows.columns.difference(["latency_us", "mfu"]), "int64")
    return rows.astype(sizes).to_csv(index=False, lineterminator="\n")
