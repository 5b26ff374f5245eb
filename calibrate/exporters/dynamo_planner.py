"""Points that the planner of NVIDIA Dynamo learns from, of one model: prompts alone, decodes at a share of the cache.

``selected_{prefill,decode}_interpolation/raw_data.npz`` and the same as JSON, for a ConfigMap (package ai-dynamo 1.6.1,
``dynamo/planner/monitoring/perf_metrics.py``). It fits a straight line in the tokens of a prefill, and a plane in
requests and tokens read of a decode, by least squares (``core/perf_model``), as :func:`read` does. One prefill is one
step to it, so no prompt here is longer than a step.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from calibrate.exporters.exported import Exported, Source
from calibrate.exporters.step_times import (
    Deviation,
    StepTimes,
    doubling,
    lengths,
    one_step_times,
)
from calibrate.outcome.result_json import dump_json
from calibrate.records.errors import CalibrateError
from sim.serving.engine import kv_cache_tokens
from sim.steps.batch import Floats
from sim.units import MS_PER_S, US_PER_MS

_PROMPTS = 16  # evenly spaced, as Dynamo's profiler measures
_LEAST_POINTS = 5  # with fewer the planner fits nothing
_FORMAT = "dynamo-planner"

Table = dict[str, Floats]


def write(source: Source) -> Exported:
    """Raises CalibrateError unless one model is named or where the cache holds too few decodes, HardwareError
    without MemoryGiB, and what the times raise.
    """
    times = one_step_times(source.hardware, source.serving, _FORMAT)
    cache_tokens = kv_cache_tokens(times.arch, source.peaks, times.tp)
    prefill = _prefill(times)
    decode = _decode(times, cache_tokens)
    note = _note(times, prefill, decode)
    return Exported(
        {
            "selected_prefill_interpolation/raw_data.npz": _npz(prefill, note),
            "selected_decode_interpolation/raw_data.npz": _npz(decode, note),
            "prefill_raw_data.json": _json(prefill, note),
            "decode_raw_data.json": _json(decode | {"max_kv_tokens": cache_tokens}, note),
        },
        (note,),
    )


def read(prefill: Mapping[str, Any], decode: Mapping[str, Any]) -> tuple[Floats, Floats]:
    """The planner's times of the two raw tables' own points, in ms: by its line, and by its plane."""
    prompts = np.asarray(prefill["prefill_isl"], dtype=np.float64)
    cache_tokens = float(np.ravel(decode["max_kv_tokens"])[0])
    read_tokens = np.round(np.asarray(decode["x_kv_usage"]) * cache_tokens)
    requests = np.maximum(np.round(read_tokens / np.asarray(decode["y_context_length"])), 1.0)
    line = _least_squares(np.column_stack([prompts]), np.asarray(prefill["prefill_ttft"]))
    plane = _least_squares(np.column_stack([requests, read_tokens]), np.asarray(decode["z_itl"]))
    return line, plane


def _least_squares(features: Floats, ms: Floats) -> Floats:
    """Times of a linear model with a start, fitted to them; a slope below 0 is taken as 0, the start kept."""
    start = np.ones((len(ms), 1))
    found, *_ = np.linalg.lstsq(np.hstack([start, features]), ms, rcond=None)
    slopes = np.maximum(found[1:], 0.0)
    times: Floats = found[0] + features @ slopes
    return np.maximum(times, 1e-3)


def _prefill(times: StepTimes) -> Table:
    longest = min(times.serving.max_num_batched_tokens, times.serving.max_context)
    prompts = np.linspace(longest / _PROMPTS, longest, _PROMPTS).round()
    ttft_ms = times.prefill_us(1.0, prompts) / US_PER_MS
    return {
        "prefill_isl": prompts,
        "prefill_ttft": ttft_ms,
        "prefill_thpt_per_gpu": prompts / ttft_ms * MS_PER_S / times.tp,
    }


def _decode(times: StepTimes, cache_tokens: int) -> Table:
    """Every context with as many requests as the cache and the engine hold, doubled from one."""
    points = []
    for context in lengths(times.serving.max_context).tolist():
        most = min(times.serving.max_num_seqs, cache_tokens // context)
        points += [(count, context) for count in (doubling(1, most).tolist() if most else [])]
    if len(points) < _LEAST_POINTS:
        raise CalibrateError(
            f"{_FORMAT}: a cache of {cache_tokens:,} tokens holds {len(points)} of the decodes, and the planner needs "
            f"{_LEAST_POINTS}: raise --tp"
        )
    count, context = np.array(points, dtype=np.float64).T
    itl_ms = times.decode_us(count, context) / US_PER_MS
    return {
        "x_kv_usage": count * context / cache_tokens,
        "y_context_length": context,
        "z_itl": itl_ms,
        "z_thpt_per_gpu": count / itl_ms * MS_PER_S / times.tp,
        "max_kv_tokens": np.array([float(cache_tokens)]),
    }


def _note(times: StepTimes, prefill: Table, decode: Table) -> str:
    line, plane = read(prefill, decode)
    of_prompts = Deviation.of(line, prefill["prefill_ttft"])
    of_decodes = Deviation.of(plane, decode["z_itl"])
    return (
        f"{times.name} on {times.tp} GPUs, times of {times.serving.latency_model.name}, without the server's own. The "
        f"planner's line through TTFT is off them by {of_prompts}; its plane through ITL by {of_decodes}."
    )


def _npz(table: Table, note: str) -> bytes:
    content = io.BytesIO()
    arrays: dict[str, Any] = {**table, "calibrate": np.array(note)}
    np.savez(content, **arrays)  # the planner asks for keys by name
    return content.getvalue()


def _json(table: Mapping[str, Any], note: str) -> str:
    plain = {
        key: value.tolist() if isinstance(value, np.ndarray) else value
        for key, value in table.items()
    }
    return dump_json({"calibrate": note, **plain})
