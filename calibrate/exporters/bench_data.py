"""Kernel tables as the benchmark database that the roofline-v2 models read.

An MFU is the one with which those models give the measured time back; where a table states one, that one stands.
"""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.campaign.campaign import Campaign
from calibrate.exporters.exported import Exported, Source
from calibrate.records.errors import CalibrateError
from sim.database.curves import USABLE_MFU
from sim.hardware import check_gpu_name
from sim.models.database_model import CAUSAL

_SIXTEEN_BITS = (
    "",
    "bf16",
    "fp16",
    "bfloat16",
    "float16",
)
_HEADS = [
    "num_heads",
    "num_kv_heads",
    "head_dim",
]
_DIGITS = 6
_NAME = re.compile(r"[^a-z0-9._+-]")


def write(source: Source) -> Exported:
    """The files under ``gemm/<gpu>/`` and ``mha/…/<gpu>/``. Repeated points: their median.

    Kernels of 16 bits count (others with a stated MFU where there are none), and of prefills those of one prompt.
    Raises CalibrateError if the campaigns lack a table, or a configuration its decodes.
    """
    campaigns = source.measured
    peak = source.peaks.positive("TFlopsPeak")

    gemm = _gemm(_table(campaigns, "gemm"), peak)
    prefill = _prefill(_table(campaigns, "attention_prefill"), peak)
    decode = _decode(_table(campaigns, "attention_decode"), peak)

    gpu_name = check_gpu_name(source.gpu)
    gpu = _NAME.sub("-", gpu_name.lower())
    attention = _attention_files(prefill, decode, gpu)
    if not attention:
        raise CalibrateError(
            "no attention configuration has both prefills of one prompt and decodes: a database needs both"
        )

    gemm_path = f"gemm/{gpu}/data.csv"
    texts = {gemm_path: _csv(gemm)}
    return Exported(texts | attention)


def _attention_files(prefill: pd.DataFrame, decode: pd.DataFrame, gpu: str) -> dict[str, str]:
    """Texts by path, of the configurations with usable prefills and decodes."""
    texts = {}
    configurations = prefill[_HEADS].drop_duplicates().astype(int)

    for heads in configurations.itertuples(index=False, name=None):
        prefills = _of(prefill, heads)
        surfaces = _by_tp(_of(decode, heads))
        if not surfaces:
            continue
        if not all(map(_usable, [prefills, *surfaces.values()])):
            continue

        name = "-".join(map(str, heads))
        path = f"mha/prefill/{gpu}/{name}.csv"
        texts[path] = _csv(prefills.drop(columns=_HEADS))
        for tp, surface in surfaces.items():
            path = f"mha/decode/{gpu}/{name}-tp{tp}.csv"
            texts[path] = _csv(surface.drop(columns=[*_HEADS, "tp"]))

    return texts


def _by_tp(rows: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """The decodes of one configuration by degree of tensor parallelism."""
    surfaces = {}
    for tp in rows["tp"].unique():
        surfaces[int(tp)] = rows[rows["tp"] == tp]
    return surfaces


def _table(campaigns: Sequence[Campaign], name: str) -> pd.DataFrame:
    """The 16-bit rows of a kernel table, over all campaigns; without any, those whose MFU is stated."""
    tables = [
        campaign.kernels[name] for campaign in campaigns if len(campaign.kernels.get(name, ()))
    ]
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    usable = _sixteen_bits(rows)
    if not usable.any() and "mfu" in rows:
        usable = rows["mfu"].notna().to_numpy()
    if usable.any():
        return rows[usable]

    names = [campaign.name for campaign in campaigns]
    listed = ", ".join(names) or "none"
    raise CalibrateError(
        f"no 16-bit row of a {name} table in the campaigns ({listed}); add {name}.csv to one"
    )


def _sixteen_bits(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Which rows have weights and cache of 16 bits, as far as their table states a type."""
    wide = np.ones(len(rows), dtype=bool)
    for column in ("dtype", "kv_dtype"):
        if column in rows:
            types = rows[column].str.lower()
            wide &= types.isin(_SIXTEEN_BITS).to_numpy()
    return wide


def _gemm(rows: pd.DataFrame, peak: float) -> pd.DataFrame:
    keys = ["m", "k", "n"]
    mflops = 2e-6 * rows["m"] * rows["k"] * rows["n"]
    return _points(rows, keys, mflops / peak)


def _prefill(rows: pd.DataFrame, peak: float) -> pd.DataFrame:
    rows = rows[rows["batch_size"] == 1]
    keys = [*_HEADS, "seq_len"]
    pairs = rows["seq_len"] ** 2
    mflops = 4e-6 * rows["num_heads"] * rows["head_dim"] * pairs / CAUSAL
    return _points(rows, keys, mflops / peak)


def _decode(rows: pd.DataFrame, peak: float) -> pd.DataFrame:
    rows = rows.assign(tp=_degree(rows))
    keys = [*_HEADS, "tp", "batch_size", "kv_len"]
    whole = 4e-6 * rows["num_heads"] * rows["head_dim"] * rows["batch_size"] * rows["kv_len"]
    mflops = whole / rows["tp"]
    return _points(rows, keys, mflops / peak)


def _degree(rows: pd.DataFrame) -> "pd.Series[float] | float":
    """The degree of tensor parallelism of every row, 1 where none is stated."""
    if "tp" not in rows:
        return 1.0

    stated = rows["tp"].fillna(1.0)
    return stated.clip(lower=1.0)


def _points(rows: pd.DataFrame, keys: list[str], least_us: pd.Series) -> pd.DataFrame:
    """``latency_us`` and ``mfu`` by the ``keys``, in their order; ``least_us`` is the time at the peak."""
    mfu = least_us / rows["latency_us"]
    mfu = mfu.round(_DIGITS)
    mfu = mfu.clip(upper=1.0)
    if "mfu" in rows:
        mfu = rows["mfu"].fillna(mfu)

    groups = rows.assign(mfu=mfu).groupby(keys, sort=False)
    medians = groups[["latency_us", "mfu"]].median()
    return medians.reset_index()


def _of(rows: pd.DataFrame, heads: Sequence[float]) -> pd.DataFrame:
    same = rows[_HEADS] == list(heads)
    return rows[same.all(axis=1)]


def _usable(rows: pd.DataFrame) -> bool:
    high = rows["mfu"] >= USABLE_MFU
    return bool(high.any())


def _csv(rows: pd.DataFrame) -> str:
    sizes = rows.columns.difference(["latency_us", "mfu"])
    types = dict.fromkeys(sizes, "int64")
    whole = rows.astype(types)
    return whole.to_csv(index=False, lineterminator="\n")
