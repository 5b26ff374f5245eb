"""Kernel tables as shares of a GPU's peaks, the median of each group of like kernels; and all-reduces as lines."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.campaign.campaign import Campaign
from calibrate.campaign.physics import KERNELS
from calibrate.campaign.thresholds import CACHED_BYTES
from calibrate.outcome.thresholds import CLEARLY, FEWEST_SIZES, PROMPT_ROWS
from sim.hardware import Hardware
from sim.steps.batch import Floats
from sim.units import KILO, MEGA

_HEADS = ["num_heads", "num_kv_heads", "head_dim"]
_WIDE = ("", "bf16", "fp16", "bfloat16", "float16")


def kernel_rows(campaigns: Sequence[Campaign], name: str) -> pd.DataFrame:
    """The 16-bit rows of a kernel table, over all campaigns; no row and no column where there is none."""
    tables = [campaign.kernels.get(name, pd.DataFrame()) for campaign in campaigns]
    filled = [table for table in tables if len(table)]
    if not filled:
        return pd.DataFrame()

    rows = pd.concat(filled, ignore_index=True)
    if "dtype" not in rows:
        return rows
    types = rows["dtype"].str.lower()
    return rows[types.isin(_WIDE)]


def _times(name: str, rows: pd.DataFrame, hardware: Hardware) -> tuple[Floats, Floats]:
    """What the arithmetic and the traffic of each kernel take at the peaks, in µs, shape (n,) each."""
    work = KERNELS[name].work(rows)
    flops_per_us = hardware.positive("TFlopsPeak") * MEGA
    bytes_per_us = hardware.positive("BwPeakTBs") * MEGA

    ones = np.ones(len(rows))
    compute: Floats = work.flops / flops_per_us * ones
    memory: Floats = work.bytes / bytes_per_us * ones
    return compute, memory


def _exceeds_cache(memory_us: Floats, hardware: Hardware) -> NDArray[np.bool_]:
    """Which kernels move more than any cache holds, by the time of their traffic at the peak."""
    moved = memory_us * hardware.positive("BwPeakTBs") * MEGA
    return moved >= CACHED_BYTES


def memory_shares(rows: pd.DataFrame, hardware: Hardware) -> pd.Series:
    """Shares of the peak bandwidth by operation and size."""
    if not len(rows):
        return pd.Series(dtype=float)
    rows = rows[rows["bytes"] >= CACHED_BYTES]
    _, memory = _times("memory", rows, hardware)
    shares = memory / rows["latency_us"]
    return _by_group(shares, rows, ["op", "bytes"])


def memory_bound_gemms(rows: pd.DataFrame, hardware: Hardware) -> pd.Series:
    """Shares of the peak bandwidth by weight matrix, of those that no cache holds."""
    if not len(rows):
        return pd.Series(dtype=float)
    compute, memory = _times("gemm", rows, hardware)
    bound = _exceeds_cache(memory, hardware) & (memory > CLEARLY * compute)
    shares = memory / rows["latency_us"]
    return _by_group(shares[bound], rows[bound], ["k", "n"])


def compute_bound_gemms(rows: pd.DataFrame, hardware: Hardware) -> pd.Series:
    """Shares of the peak FLOP/s by weight matrix."""
    if not len(rows):
        return pd.Series(dtype=float)
    compute, memory = _times("gemm", rows, hardware)
    long = rows["m"].to_numpy() >= PROMPT_ROWS
    bound = long & (compute > CLEARLY * memory)
    shares = compute / rows["latency_us"]
    return _by_group(shares[bound], rows[bound], ["k", "n"])


def long_prompts(rows: pd.DataFrame, hardware: Hardware, extra_flops: float = 0.0) -> pd.Series:
    """Rates of attention by configuration and batch: 4·dh FLOPs a pair and head, and what a model adds to them."""
    if not len(rows):
        return pd.Series(dtype=float)
    rows = rows[rows["seq_len"] >= PROMPT_ROWS]
    length = rows["seq_len"]
    pairs = rows["batch_size"] * length * (length - 1) / 2
    pair_flops = 4 * rows["head_dim"] + extra_flops
    flops = rows["num_heads"] * pair_flops * pairs

    flops_per_us = hardware.positive("TFlopsPeak") * MEGA
    least_us = flops / flops_per_us
    shares = least_us / rows["latency_us"]
    return _by_group(shares, rows, [*_HEADS, "batch_size"])


def long_caches(rows: pd.DataFrame, hardware: Hardware) -> pd.Series:
    """Shares of the peak bandwidth at which decodes read a cache that no other cache holds, by configuration."""
    if not len(rows):
        return pd.Series(dtype=float)
    compute, memory = _times("attention_decode", rows, hardware)
    bound = _exceeds_cache(memory, hardware) & (memory > compute)
    shares = memory / rows["latency_us"]
    return _by_group(shares[bound], rows[bound], _HEADS)


def allreduce_lines(rows: pd.DataFrame) -> pd.DataFrame:
    """All-reduces by degree: time of no bytes and rate of bytes, by the line with the least relative errors."""
    lines = {}
    if len(rows):
        several = rows[rows["tp"] > 1]
        for tp, part in several.groupby("tp"):
            if part["bytes"].nunique() >= FEWEST_SIZES:
                lines[tp] = _line(part)
    columns = ["latency_us", "gb_per_s"]
    return pd.DataFrame.from_dict(lines, orient="index", columns=columns, dtype=float)


def _line(rows: pd.DataFrame) -> dict[str, float]:
    """Time of no bytes and rate of bytes of one degree."""
    relative = 1 / rows["latency_us"]
    slope, intercept = np.polyfit(rows["bytes"], rows["latency_us"], 1, w=relative)
    bytes_per_us = 1.0 / max(float(slope), 1e-12)
    return {
        "latency_us": max(float(intercept), 0.0),
        "gb_per_s": bytes_per_us / KILO,
    }


def _by_group(shares: pd.Series, rows: pd.DataFrame, keys: list[str]) -> pd.Series:
    return shares.groupby([rows[key] for key in keys]).median()
