"""A replay table of SGLang's simulator: seconds by a step's requests, each as [new tokens, tokens cached before].

``ReplayTimePredictor``: the key is the JSON of the sorted pairs. A step that is not in the table takes 0 s with
``miss_strategy: zero``, and with ``knn`` the mean of the three nearest by requests, new and cached tokens, each in
standard deviations of the table (:func:`nearest_s`). The table can hold no comment, so its error stands in a file
beside it.
"""

import json

import numpy as np

from calibrate.exporters.exported import Exported, Source
from calibrate.exporters.step_times import (
    Deviation,
    StepTimes,
    Whole,
    between,
    doubling,
    finer,
    lengths,
    one_step_times,
)
from calibrate.records.errors import ImportFormatError
from sim.steps.batch import Floats
from sim.units import US_PER_S

_FORMAT = "sglang-simulator"
_NEAREST = 3
_WHAT = "replay table of SGLang's simulator"

Shapes = list[tuple[int, int, int]]
"""Steps of equal requests: how many, with so many new tokens each, behind so many cached."""


def write(source: Source) -> Exported:
    """Raises CalibrateError unless one model is named, and what the times raise."""
    times = one_step_times(source.hardware, source.serving, _FORMAT)
    serving = times.serving
    counts, contexts = finer(doubling(1, serving.max_num_seqs)), finer(lengths(serving.max_context))
    shapes = _shapes(times, counts, contexts)
    seconds = _seconds(times, shapes)
    table = {key(*shape): float(value) for shape, value in zip(shapes, seconds, strict=True)}

    others = _shapes(times, between(counts), between(contexts))
    found = nearest_s(table, others)
    deviation = Deviation.of(found, _seconds(times, others))
    note = (
        f"{times.name} on {times.tp} GPUs, times of {serving.latency_model.name}: {len(table):,} steps, each to the "
        f"last digit; between them, with miss_strategy knn, off by {deviation}. Leave miss_strategy zero alone: steps "
        "that are not in the table would take no time."
    )
    text = json.dumps(table, indent=0) + "\n"
    return Exported({"replay_table.json": text, "replay_table.error.txt": note + "\n"}, (note,))


def key(requests: int, new_tokens: int, cached_tokens: int) -> str:
    """How the table names a step of equal requests."""
    return json.dumps([[int(new_tokens), int(cached_tokens)]] * int(requests))


def read(text: str) -> dict[str, float]:
    """Seconds by key. Raises ImportFormatError for another text."""
    try:
        table = json.loads(text)
        sound = isinstance(table, dict) and all(_is_entry(*entry) for entry in table.items())
    except ValueError:
        sound = False
    if not sound:
        raise ImportFormatError(f"not a {_WHAT}: it must hold seconds by sorted pairs")
    return dict(table)


def _is_entry(name: str, seconds: object) -> bool:
    pairs = json.loads(name)
    return (
        isinstance(seconds, int | float)
        and seconds > 0
        and name == json.dumps(sorted(pairs)) != "[]"
    )


def nearest_s(table: dict[str, float], shapes: Shapes) -> Floats:
    """What the simulator takes for steps that are not in the table, with ``miss_strategy: knn``."""
    known = np.array([_features(json.loads(name)) for name in table], dtype=np.float64)
    seconds = np.array(list(table.values()))
    spread = known.std(axis=0)
    spread[spread**2 <= 1e-12] = 1.0
    wanted = np.array([(n, n * new, n * cached) for n, new, cached in shapes], dtype=np.float64)
    distance = (((wanted[:, None, :] - known[None, :, :]) / spread) ** 2).sum(axis=2)
    found: Floats = seconds[np.argsort(distance, axis=1, kind="stable")[:, :_NEAREST]].mean(axis=1)
    return found


def _features(pairs: list[list[int]]) -> tuple[int, int, int]:
    return len(pairs), sum(new for new, _ in pairs), sum(cached for _, cached in pairs)


def _shapes(times: StepTimes, counts: Whole, contexts: Whole) -> Shapes:
    """Decodes of every count and context, then prefills within a step's tokens, after nothing or a context."""
    limit = times.serving.max_num_batched_tokens
    decodes = [(int(n), 1, int(context)) for n in counts for context in contexts]
    prefills = [
        (int(n), int(new), cached)
        for n in counts
        for new in contexts
        if n * new <= limit
        for cached in (0, *(int(context) for context in contexts))
    ]
    return decodes + prefills


def _seconds(times: StepTimes, shapes: Shapes) -> Floats:
    count, new, cached = np.array(shapes, dtype=np.float64).T
    is_decode = new == 1
    us = np.where(is_decode, times.decode_us(count, cached), times.prefill_us(count, new, cached))
    seconds: Floats = us / US_PER_S
    return seconds
