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
_MIXED_DECODES = (8, 128)
_MIXED_CONTEXT = 1024

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
    architectures = []
    for names in (_SMALL, _LARGE):
        for arch in map(load_architecture, names):
            if any(_holds(arch, tp, memory, 1) for tp in tps):
                architectures.append(arch)
                break
    return architectures


def candidate_steps(
    architectures: Sequence[Architecture],
    tps: Sequence[int],
    hardware: Hardware,
    *,
    max_batch: int = 256,
    max_tokens: int = 16384,
    shares_experts: bool = False,
    counts_windows: bool = False,
) -> pd.DataFrame:
    """Rows of a steps table without latencies, for every model and tp whose weights and cache fit.

    A step computes at most ``max_tokens`` prompt tokens and decodes at most ``max_batch`` requests. What the latency
    model can compute: with ``shares_experts``, experts split and, as ``ep``, shared whole between all GPUs; with
    ``counts_windows``, requests beyond a window. Raises CalibrateError if nothing fits.
    """
    memory = memory_bytes(hardware)
    steps = list(_steps(max_batch, max_tokens))
    rows = []
    for arch, tp in itertools.product(architectures, sorted(set(tps))):
        if arch.num_heads % tp:
            continue
        degrees = shared_between(arch, tp) if shares_experts else (1,)
        for ep, step in itertools.product(degrees, steps):
            _, prompt_tokens, decodes, context_tokens = step
            cached_tokens = prompt_tokens + context_tokens + decodes
            is_seen = counts_windows or _sees_all(arch, step)
            if is_seen and _holds(arch, tp, memory, cached_tokens):
                rows.append((arch.name, tp, arch.dtype, ep, *step))
    if not rows:
        raise CalibrateError(_nothing_fits(architectures, tps, hardware, memory))
    table = pd.DataFrame(rows, columns=["model", "tp", "dtype", "ep", *COUNTS])
    return table if (table["ep"] > 1).any() else table.drop(columns="ep")


def shared_between(arch: Architecture, tp: int) -> tuple[int, ...]:
    """Between how many of ``tp`` GPUs experts can be shared whole: one, and all that have as many."""
    counts = {group.experts.num_experts for group in arch.layer_groups if group.experts}
    whole = bool(counts) and not any(count % tp for count in counts)
    return (1, tp) if whole and tp > 1 else (1,)


def point_seconds(predicted_us: Floats) -> Floats:
    """Time to measure steps of these durations, shape (n,)."""
    seconds: Floats = POINT_S + (REPEATS + WARM_UP) * predicted_us / US_PER_S
    return seconds


def loads(table: StepTable) -> tuple[NDArray[np.intp], Floats]:
    """The number of each row's (model, tp), shape (n,), and the seconds that starting each takes."""
    keys = np.stack([table.arch_index, table.tp], axis=1)
    distinct, number = np.unique(keys, axis=0, return_inverse=True)
    load_of = number.reshape(-1).astype(np.intp)

    weight_bytes = np.array([arch.weight_bytes for arch in table.architectures])
    loaded_bytes = weight_bytes[distinct[:, 0]]
    load_s = ENGINE_START_S + loaded_bytes / LOADED_BYTES_PER_S
    return load_of, load_s


def _steps(max_batch: int, max_tokens: int) -> Iterator[_Step]:
    """Requests and tokens of prefill, of decode and of mixed steps, every one once."""
    for prompts, length in itertools.product(_up_to(_PROMPTS, max_batch), _LENGTHS):
        prompt_tokens = prompts * length
        if prompt_tokens <= max_tokens:
            yield prompts, prompt_tokens, 0, 0

    for decodes, context in itertools.product(_up_to(_DECODES, max_batch), _CONTEXTS):
        yield 0, 0, decodes, decodes * context

    mixed = itertools.product(_MIXED_PROMPTS, _MIXED_LENGTHS, _MIXED_DECODES)
    for prompts, length, decodes in mixed:
        prompt_tokens = prompts * length
        requests = prompts + decodes
        if prompt_tokens <= max_tokens and requests <= max_batch:
            yield prompts, prompt_tokens, decodes, decodes * _MIXED_CONTEXT


def _up_to(grid: Sequence[int], largest: int) -> list[int]:
    smaller = [count for count in grid if count < largest]
    return [*smaller, largest]


def _holds(arch: Architecture, tp: int, memory: float, cached_tokens: float) -> bool:
    value_bytes = arch.cached_value_bytes(arch.bytes_per_param)
    token_bytes = arch.kv_bytes_per_token(tp, value_bytes)
    needed_bytes = arch.weight_bytes + token_bytes * cached_tokens
    return needed_bytes / tp <= USABLE * memory


def _sees_all(arch: Architecture, step: _Step) -> bool:
    """Whether the model's windows, if it has some, reach over every request of a step."""
    prompts, prompt_tokens, decodes, cached_tokens = step
    longest = max(prompt_tokens / max(prompts, 1), cached_tokens / max(decodes, 1))
    return not arch.window or longest <= arch.window


def _nothing_fits(
    architectures: Sequence[Architecture], tps: Sequence[int], hardware: Hardware, memory: float
) -> str:
    memory_gib = memory / BYTES_PER_GIB
    weights = []
    for arch in architectures:
        weight_gib = arch.weight_bytes / BYTES_PER_GIB
        weights.append(f"{arch.name} {weight_gib:.0f} GiB")
    needs = ", ".join(weights) or "of no default model"
    degrees = ", ".join(map(str, sorted(set(tps))))
    return (
        f"nothing to measure: no model's weights and cache fit tp {degrees} of {hardware.gpu} with "
        f"{memory_gib:.0f} GiB each (weights: {needs}; tp must also divide the "
        "attention heads). Give another --tp, or smaller --models"
    )
