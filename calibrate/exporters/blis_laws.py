"""The closed forms by which BLIS's latency kernel prices a primitive, fitted to the kernel tables of campaigns.

blis-registry docs/concepts/coefficients.md: a matrix product reaches eps·M/(M + M_half) of the peak; decode attention
takes floor + KV bytes/rate; a collective max(floor + size/transition, size/peak). As in the registry, efficiencies are
fitted by their differences, times by log ratios.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from sim.steps.batch import Floats
from sim.units import MEGA

_OF_95_PERCENT = (
    1.959963984540054  # standard deviations of a normal distribution on either side that hold 95%
)
_SMALL_BYTES = 4096  # messages up to there take a floor whatever their size
_LEAST_ROWS = 5  # that a law of two constants is fitted to
_SIXTEEN_BITS = ("", "bf16", "fp16", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class Constant:
    """A fitted constant, with the interval that holds it in 95%, and what it was fitted to."""

    value: float
    ci95: tuple[float, float] | None
    rows: int
    error: float
    """Mean relative error of the law that it is part of."""


def gemm(rows: pd.DataFrame, peak_tflops: float) -> tuple[Constant, Constant] | None:
    """eps_max and M_half of 16-bit products, fitted to the best efficiency of each M; None without enough rows."""
    rows = _sixteen_bits(rows)
    if len(rows) == 0:
        return None
    flops = 2.0 * rows["m"] * rows["n"] * rows["k"]
    efficiency = flops / (rows["latency_us"] * peak_tflops * MEGA)
    envelope = efficiency.groupby(rows["m"]).max()
    if len(envelope) < _LEAST_ROWS:
        return None
    m = envelope.index.to_numpy(float)
    fitted = _fit(
        lambda constants: constants[0] * m / (m + constants[1]),
        envelope.to_numpy(float),
        (min(float(envelope.max()), 0.99), 100.0),
        (1.0, np.inf),
        np.asarray,
    )
    return fitted[0], fitted[1]


def attention_decode(rows: pd.DataFrame) -> tuple[Constant, Constant] | None:
    """Floor in µs and rate in bytes/µs of one rank's decode attention over 16-bit keys and values."""
    rows = _sixteen_bits(rows)
    if len(rows) < _LEAST_ROWS:
        return None
    tp = rows["tp"].fillna(1.0) if "tp" in rows else 1.0
    heads = np.maximum(rows["num_kv_heads"] / tp, 1.0)
    kv_bytes = 4.0 * rows["batch_size"] * rows["kv_len"] * heads * rows["head_dim"]
    size, measured = kv_bytes.to_numpy(float), rows["latency_us"].to_numpy(float)
    fitted = _fit(
        lambda constants: constants[0] + size / constants[1],
        measured,
        (float(measured.min()), float((size / measured).max())),
    )
    return fitted[0], fitted[1]


def all_reduce(rows: pd.DataFrame, ranks: int) -> tuple[Constant, Constant, Constant] | None:
    """Floor in µs, transition and peak rate in bytes/µs of an all-reduce of 16-bit numbers over so many ranks."""
    rows = _sixteen_bits(rows)
    rows = rows[rows["tp"] == ranks] if len(rows) else rows
    small = rows[rows["bytes"] <= _SMALL_BYTES] if len(rows) else rows
    if len(rows) < _LEAST_ROWS or len(small) == 0:
        return None
    size, measured = rows["bytes"].to_numpy(float), rows["latency_us"].to_numpy(float)
    floor, peak = float(small["latency_us"].min()), float((size / measured).max())
    (transition,) = _fit(
        lambda constants: np.maximum(floor + size / constants[0], size / peak),
        measured,
        (0.75 * peak,),
    )
    found = [Constant(value, None, len(rows), transition.error) for value in (floor, peak)]
    return found[0], transition, found[1]


def _fit(
    law: Callable[[Floats], Floats],
    measured: Floats,
    start: Sequence[float],
    most: Sequence[float] | None = None,
    scale: Callable[[Floats], Floats] = np.log,
) -> list[Constant]:
    """Constants above 0, and at ``most`` so large, by which the law comes nearest to measurements on some scale."""
    upper = np.inf if most is None else np.log(most)
    solved = least_squares(
        lambda logs: scale(law(np.exp(logs))) - scale(measured),
        np.log(start),
        bounds=(-np.inf, upper),
        loss="soft_l1",
        f_scale=0.1,
    )
    error = float(np.abs(law(np.exp(solved.x)) / measured - 1.0).mean())
    spread = float(np.var(solved.fun)) * np.linalg.pinv(solved.jac.T @ solved.jac)
    width = _OF_95_PERCENT * np.sqrt(np.diag(spread))
    return [
        Constant(
            float(np.exp(log)),
            (float(np.exp(log - half)), float(np.exp(log + half))),
            len(measured),
            error,
        )
        for log, half in zip(solved.x, width, strict=True)
    ]


def _sixteen_bits(rows: pd.DataFrame) -> pd.DataFrame:
    for column in ("dtype", "kv_dtype"):
        if column in rows:
            rows = rows[rows[column].fillna("").str.lower().isin(_SIXTEEN_BITS)]
    return rows
