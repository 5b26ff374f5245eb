"""Engine steps that could be measured on a GPU, where its memory holds them, and how long that takes."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.planning.thresholds import (
    ENGINE_START_S,
    LOADED_BYTES_PER_S,
    POINT_S,
    REPEATS,
    USABLE,
    WARM_UP,
)
from calibrate.records.errors import CalibrateError
from sim.architecture import Architecture
from sim.architecture_files import load_architecture
from sim.hardware import Hardware, memory_bytes
from sim.steps.batch import Floats, StepTable
from sim.units import BYTES_PER_GIB, US_PER_S

_SMALL = ("llama-3.1-8b", "llama-3.2-3b", "llama-3.2-1b")
_LARGE = ("llama-3.1-70b", "qwen2.5-32b", "qwen2.5-14b")

# neighbours differ in their work by a factor of two at the least: nearer ones would only repeat the model's error
_PROMPTS = tuple(4**k for k in range(7))
_LENGTHS = tuple(2**k for k in range(5, 18))
_DECODES = tuple(2**k for k in range(13))
_CONTEXTS = (256, 1024, 4096)
_MIXED_PROMPTS = (1, 8, 64)
_MIXED_LENGTHS = (32, 512, 8192)
_MIXED_DECODES, _MIXED_CONTEXT = (8, 128), 1024

COUNTS = (
    "num_prefill_requests",
    "sum_prefill_tokens",
    "num_decode_requests",
    "sum_decode_kv_tokens",
)
"""Columns of a steps table that describe a candidate."""

_Step = tuple[int, int, int, int]


def default_architectures(hardware: Hardware, tps: Sequence[int]) -> list[Architecture]:
    """A small and a large dense model of the registry that fit; fewer, or none, where nothing does."""
    memory = memory_bytes(hardware)
    found = []
    for names in (_SMALL, _LARGE):
        fitting = (
            a for a in map(load_architecture, names) if any(_holds(a, tp, memory, 1) for tp in tps)
        )
        found += list(itertools.islice(fitting, 1))
    return found


def candidate_steps(
    architectures: Sequence[Architecture],
    tps: Sequence[int],
    hardware: Hardware,
    *,
    max_batch: int = 256,
    max_tokens: int = 16384,
) -> pd.DataFrame:
    """Rows of a steps table without latencies, for every model and tp whose weights and cache fit.

    A step computes at most ``max_tokens`` prompt tokens and decodes at most ``max_batch`` requests.
    Raises CalibrateError if nothing fits.
    """
    memory = memory_bytes(hardware)
    steps = list(_steps(max_batch, max_tokens))
    rows = [
        (arch.name, tp, arch.dtype, *step)
        for arch, tp in itertools.product(architectures, sorted(set(tps)))
        if arch.num_heads % tp == 0
        for step in steps
        if _holds(arch, tp, memory, step[1] + step[3] + step[2])
    ]
    if not rows:
        raise CalibrateError(_nothing_fits(architectures, tps, hardware, memory))
    return pd.DataFrame(rows, columns=["model", "tp", "dtype", *COUNTS])


def point_seconds(predicted_us: Floats) -> Floats:
    """Time to measure steps of these durations, shape (n,)."""
    seconds: Floats = POINT_S + (REPEATS + WARM_UP) * predicted_us / US_PER_S
    return seconds


def loads(table: StepTable) -> tuple[NDArray[np.intp], Floats]:
    """The number of each row's (model, tp), shape (n,), and the seconds that starting each takes."""
    keys = np.stack([table.arch_index, table.tp], axis=1)
    distinct, number = np.unique(keys, axis=0, return_inverse=True)
    weights = np.array([a.weight_bytes for a in table.architectures])[distinct[:, 0]]
    return number.reshape(-1).astype(np.intp), ENGINE_START_S + weights / LOADED_BYTES_PER_S


def _steps(max_batch: int, max_tokens: int) -> Iterator[_Step]:
    """Requests and tokens of prefill, of decode and of mixed steps, every one once."""
    for n, length in itertools.product(_up_to(_PROMPTS, max_batch), _LENGTHS):
        if n * length <= max_tokens:
            yield n, n * length, 0, 0
    for n, context in itertools.product(_up_to(_DECODES, max_batch), _CONTEXTS):
        yield 0, 0, n, n * context
    for prompts, length, n in itertools.product(_MIXED_PROMPTS, _MIXED_LENGTHS, _MIXED_DECODES):
        if prompts * length <= max_tokens and prompts + n <= max_batch:
            yield prompts, prompts * length, n, n * _MIXED_CONTEXT


def _up_to(grid: Sequence[int], largest: int) -> list[int]:
    return [*(n for n in grid if n < largest), largest]


def _holds(arch: Architecture, tp: int, memory: float, cached_tokens: float) -> bool:
    value_bytes = arch.cached_value_bytes(arch.bytes_per_param)
    cache_bytes = arch.kv_bytes_per_token(tp, value_bytes) * cached_tokens
    return (arch.weight_bytes + cache_bytes) / tp <= USABLE * memory


def _nothing_fits(
    architectures: Sequence[Architecture], tps: Sequence[int], hardware: Hardware, memory: float
) -> str:
    needs = ", ".join(f"{a.name} {a.weight_bytes / BYTES_PER_GIB:.0f} GiB" for a in architectures)
    degrees = ", ".join(map(str, sorted(set(tps))))
    return (
        f"nothing to measure: no model's weights and cache fit tp {degrees} of {hardware.gpu} with "
        f"{memory / BYTES_PER_GIB:.0f} GiB each (weights: {needs or 'of no default model'}; tp must also divide the "
        "attention heads). Give another --tp, or smaller --models"
    )
