"""Rows that no GPU of these peaks could have measured: faster than physics, or slower by orders of magnitude.

The floor under a row's duration is what its arithmetic and its memory traffic take at the peaks, whichever is more.
Kernel tables state theirs in :data:`KERNELS`; that of a step is :func:`sim.steps.work.minimum_work`.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from calibrate.campaign.rows import Mask, error, warning
from calibrate.campaign.thresholds import (
    CACHE_SPEED,
    CACHED_BYTES,
    KERNEL_HOST_US,
    NEARLY_ALL,
    PLAUSIBLE,
    SLOW,
    STEP_HOST_US,
)
from calibrate.records.errors import Problem
from sim.hardware import Hardware
from sim.steps.batch import Floats, StepTable
from sim.steps.work import minimum_work, per_row
from sim.units import DTYPE_BYTES, KILO, MEGA, US_PER_MS, US_PER_S

_BLOCK_ROWS = 1 << 18  # a dozen columns of work are made of so many rows at a time

Cause = tuple[float, str]
"""How many times too fast a row seems if this is what went wrong, and what to say of it."""

_MILLISECONDS = (
    (
        US_PER_MS,
        "Probably milliseconds given as microseconds, or seconds as milliseconds: multiply by 1000",
    ),
    (US_PER_S, "Probably seconds given as microseconds: multiply by 1000000"),
)
_NANOSECONDS = "Probably nanoseconds given as microseconds (divide by 1000)"
_WHOLE_TABLE = f"{_NANOSECONDS}: nearly the whole table is so slow, so that its unit is another"
_STEP_CAUSES: tuple[Cause, ...] = (
    (
        2.2,
        "Probably fp8 or int4 weights (say so in the dtype column), an fp8 cache (say so in kv_dtype), sparse "
        "kernels, or the peaks of another GPU",
    ),
    *_MILLISECONDS,
)
_GEMM_CAUSES: tuple[Cause, ...] = (
    (2.2, "Probably fp8 (say so in the dtype column), sparse kernels, or the peaks of another GPU"),
    *_MILLISECONDS,
)
_BYTES_CAUSES: tuple[Cause, ...] = (
    (2.2, "Probably the bandwidth of another GPU, or traffic counted twice"),
    (8.8, "Probably bits given as bytes: divide bytes by 8"),
    *_MILLISECONDS,
)


@dataclasses.dataclass(frozen=True)
class Work:
    """What a kernel must do at the least: FLOPs, bytes of memory traffic, bytes over links; each (n,) or 0."""

    flops: Floats | float = 0.0
    bytes: Floats | float = 0.0
    link_bytes: Floats | float = 0.0


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel table: its minimum work from its columns, and what makes its rows seem too fast."""

    work: Callable[[pd.DataFrame], Work]
    causes: Sequence[Cause]


def check_steps_physics(
    file: str, steps: pd.DataFrame, table: StepTable, hardware: Hardware
) -> tuple[Mask, list[Problem]]:
    """Which steps took no less time than the GPU's peaks allow; problems, with the likely cause, for the others."""
    return _judge(file, steps, fastest_us(table, hardware), hardware, _STEP_CAUSES, STEP_HOST_US)


def fastest_us(table: StepTable, hardware: Hardware) -> Floats:
    """The least time in µs that the GPU's peaks allow each step, shape (n,)."""
    blocks = np.array_split(np.arange(len(table)), len(table) // _BLOCK_ROWS + 1)
    return np.concatenate([_floor_us(table.take(rows), hardware) for rows in blocks])


def _floor_us(table: StepTable, hardware: Hardware) -> Floats:
    peak = per_row(table, lambda a: _peak_tflops(a.dtype, a.bytes_per_param, hardware))
    return minimum_work(table).floor_us(table, peak, hardware.positive("BwPeakTBs"))


def check_kernels_physics(
    file: str, name: str, frame: pd.DataFrame, hardware: Hardware
) -> tuple[Mask, list[Problem]]:
    """The same for a kernel table, ``name`` being one of :data:`KERNELS`; ``frame`` has its ``line`` column."""
    kernel = KERNELS[name]
    work = kernel.work(frame)
    cached = np.where(np.asarray(work.bytes) < CACHED_BYTES, CACHE_SPEED, 1.0)
    link_gb_per_s = hardware.values.get("IntraNodeBwGBps") or np.inf
    floor_us = np.maximum.reduce(
        [
            np.broadcast_to(
                work.flops / (_kernel_tflops(frame, hardware) * MEGA),
                len(frame),
            ),
            np.broadcast_to(
                work.bytes / cached / (hardware.positive("BwPeakTBs") * MEGA), len(frame)
            ),
            np.broadcast_to(work.link_bytes / (link_gb_per_s * KILO), len(frame)),
        ]
    )
    return _judge(file, frame, floor_us, hardware, kernel.causes, KERNEL_HOST_US)


def _judge(
    file: str,
    frame: pd.DataFrame,
    floor_us: Floats,
    hardware: Hardware,
    causes: Sequence[Cause],
    host_us: float,
) -> tuple[Mask, list[Problem]]:
    latency = frame["latency_us"].to_numpy()
    with np.errstate(over="ignore"):  # of a latency next to nothing any floor is infinite times
        ratio = floor_us / latency
    impossible = ratio > 1.0
    problems = []
    if impossible.any():
        message = (
            f"faster than physics: {peaks_of(hardware)} allow no less than {floor_us[impossible][0]:.3g} µs, "
            f"{ratio[impossible][0]:.3g} times the value"
        )
        fix = likely_cause(float(np.median(ratio[impossible])), causes)
        problems += error(file, frame, impossible, message, fix, "latency_us")
    slow = (floor_us > 0) & (latency > SLOW * (floor_us + host_us))
    times = (
        float(np.median(latency[slow] / np.maximum(floor_us[slow], host_us))) if slow.any() else 0.0
    )
    message = f"{times:.3g} times slower than the roofline: no step or kernel is"
    whole = len(frame) > 0 and slow.sum() >= NEARLY_ALL * len(frame)
    fix = _WHOLE_TABLE if whole else f"{_NANOSECONDS}, a whole run's time, or a stalled run"
    say = error if whole else warning
    problems += say(file, frame, slow, message, fix, "latency_us")
    return ~(impossible | slow) if whole else ~impossible, problems


def peaks_of(hardware: Hardware) -> str:
    """The peaks that a floor was made of, in words."""
    return (
        f"{hardware.gpu}'s peaks ({hardware.positive('TFlopsPeak'):g} dense TFLOP/s, "
        f"{hardware.positive('BwPeakTBs'):g} TB/s)"
    )


def likely_cause(ratio: float, causes: Sequence[Cause]) -> str:
    """What most likely made a row seem ``ratio`` times too fast."""
    for factor, text in causes:
        if PLAUSIBLE * factor < ratio <= factor:
            return text
    return "Check the unit, the model, tp and the GPU: one of them is not what was measured"


def _peak_tflops(dtype: str, bytes_per_value: float, hardware: Hardware) -> float:
    """Dense peak of a type: twice the 16-bit one for 8 bits unless the configuration says, and twice that for 4.

    A configuration that gives 0 for ``TFlopsFP8`` has no fp8 units: fp8 runs at the 16-bit peak, integers do not.
    """
    dense = hardware.positive("TFlopsPeak")
    if bytes_per_value >= 2:
        return dense
    stated = hardware.values.get("TFlopsFP8")
    if dtype == "fp8" and stated == 0:
        return dense
    eight_bit = stated or 2 * dense
    if bytes_per_value >= 1:
        return eight_bit
    return hardware.values.get("TFlopsFP4") or 2 * eight_bit


def _kernel_tflops(frame: pd.DataFrame, hardware: Hardware) -> Floats:
    """The same a row of a kernel table."""
    if "dtype" not in frame:
        return np.full(len(frame), hardware.positive("TFlopsPeak"))
    size = dict(zip(frame["dtype"], _dtype_bytes(frame, "dtype").tolist(), strict=True))
    peaks = {dtype: _peak_tflops(dtype, bytes_, hardware) for dtype, bytes_ in size.items()}
    return frame["dtype"].map(peaks).to_numpy(dtype=np.float64)


def _dtype_bytes(frame: pd.DataFrame, column: str) -> Floats:
    """Bytes of each row's type: 16 bits where none is given, 4 where it is not known."""
    if column not in frame:
        return np.full(len(frame), 2.0)
    known = {"": 2.0, **DTYPE_BYTES}
    return frame[column].map(lambda name: known.get(name, 0.5)).to_numpy(dtype=np.float64)


def _gemm(frame: pd.DataFrame) -> Work:
    m, n, k = (frame[name].to_numpy() for name in "mnk")
    return Work(2.0 * m * n * k, _dtype_bytes(frame, "dtype") * (m * k + k * n + m * n))


def _attention_prefill(frame: pd.DataFrame) -> Work:
    heads, kv_heads, head_dim, batch, length = _attention_sizes(frame, "seq_len")
    pairs = batch * length * (length + 1.0) / 2.0
    values = 2.0 * batch * length * head_dim * (heads + kv_heads)
    return Work(4.0 * heads * head_dim * pairs, _dtype_bytes(frame, "dtype") * values)


def _attention_decode(frame: pd.DataFrame) -> Work:
    heads, kv_heads, head_dim, batch, length = _attention_sizes(frame, "kv_len")
    tp = frame["tp"].fillna(1.0).clip(lower=1.0).to_numpy() if "tp" in frame else 1.0
    cached = 2.0 * batch * length * head_dim * kv_heads
    kv_dtype = "kv_dtype" if "kv_dtype" in frame else "dtype"
    return Work(
        4.0 * heads * head_dim * batch * length / tp, _dtype_bytes(frame, kv_dtype) * cached / tp
    )


def _moe(frame: pd.DataFrame) -> Work:
    sizes = ("num_tokens", "hidden_size", "intermediate_size", "experts_per_token")
    tokens, hidden, width, chosen = (frame[name].to_numpy(dtype=np.float64) for name in sizes)
    known = frame["active_experts"] if "active_experts" in frame else frame["experts_per_token"]
    active = known.fillna(frame["experts_per_token"]).to_numpy(dtype=np.float64)
    moved = 3.0 * active * hidden * width + 2.0 * tokens * hidden
    return Work(6.0 * tokens * chosen * hidden * width, _dtype_bytes(frame, "dtype") * moved)


def _mla_prefill(frame: pd.DataFrame) -> Work:
    heads, _, nope, rope, value, batch, length = _latent_sizes(frame, "seq_len")
    pairs = batch * length * (length + 1.0) / 2.0
    moved = 2.0 * batch * length * heads * (nope + rope + value)
    flops = 2.0 * heads * (nope + rope + value) * pairs
    return Work(flops, _dtype_bytes(frame, "dtype") * moved)


def _mla_decode(frame: pd.DataFrame) -> Work:
    heads, rank, _, rope, _, batch, length = _latent_sizes(frame, "kv_len")
    cached = batch * length * (rank + rope)
    flops = 2.0 * heads * batch * length * (2.0 * rank + rope)
    return Work(flops, _dtype_bytes(frame, "dtype") * cached)


def _latent_sizes(frame: pd.DataFrame, length: str) -> tuple[Floats, ...]:
    dims = ("cache_rank", "nope_dim", "rope_dim", "value_dim")
    names = ("num_heads", *dims, "batch_size", length)
    return tuple(frame[name].to_numpy(dtype=np.float64) for name in names)


def _from_others(frame: pd.DataFrame) -> Work:
    """A GPU's buffer but for its own part."""
    tp = frame["tp"].clip(lower=1.0).to_numpy()
    return Work(link_bytes=frame["bytes"].to_numpy() * (tp - 1.0) / tp)


def _attention_sizes(frame: pd.DataFrame, length: str) -> tuple[Floats, ...]:
    names = ("num_heads", "num_kv_heads", "head_dim", "batch_size", length)
    return tuple(frame[name].to_numpy(dtype=np.float64) for name in names)


KERNELS: dict[str, Kernel] = {
    "gemm": Kernel(_gemm, _GEMM_CAUSES),
    "attention_prefill": Kernel(_attention_prefill, _GEMM_CAUSES),
    "attention_decode": Kernel(_attention_decode, _GEMM_CAUSES),
    "memory": Kernel(lambda frame: Work(bytes=frame["bytes"].to_numpy()), _BYTES_CAUSES),
    "moe": Kernel(_moe, _GEMM_CAUSES),
    "mla_prefill": Kernel(_mla_prefill, _GEMM_CAUSES),
    "mla_decode": Kernel(_mla_decode, _GEMM_CAUSES),
    "allreduce": Kernel(
        lambda frame: Work(link_bytes=np.where(frame["tp"] > 1, frame["bytes"], 0.0)),
        _BYTES_CAUSES,
    ),
    "allgather": Kernel(_from_others, _BYTES_CAUSES),
    "alltoall": Kernel(_from_others, _BYTES_CAUSES),
}
"""Minimum work of each kernel table: two FLOPs a product; operands, results, keys and values moved once; causal
prefill; a tensor-parallel decode shares heads and cache; latent attention reads the compressed cache once; experts that
a token met are read once; an all-reduce sends every byte once over a GPU's links, the others what is not its own."""
