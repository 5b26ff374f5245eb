"""A configuration of llm-d-inference-sim: one time a token, a straight line in the prompt, both growing with load.

``latency-calculator: per-token`` (github.com/llm-d/llm-d-inference-sim, docs/latency-simulation.md): a first token
takes prefill-overhead + new tokens · prefill-time-per-token, another inter-token-latency; all of them times
1 + (time-factor-under-load − 1)·(running − 1)/(max-num-seqs − 1). Durations are Go's. Each is fitted to our steps by
its relative error; a context other than the mean one the simulator does not know.
"""

import re

import numpy as np
import yaml
from scipy.optimize import nnls

from calibrate.exporters.exported import Exported, Source, numbers, yaml_mapping
from calibrate.exporters.step_times import Deviation, StepTimes, doubling, lengths, one_step_times
from calibrate.records.errors import ImportFormatError
from sim.steps.batch import Floats
from sim.units import NS_PER_US, US_PER_MS, US_PER_S

_FORMAT = "llm-d-inference-sim"
_WHAT = "configuration of llm-d-inference-sim"
_DURATIONS = ("prefill-overhead", "prefill-time-per-token", "inter-token-latency")
_GO = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s)")
_UNIT_US = {"ns": 1.0 / NS_PER_US, "us": 1.0, "µs": 1.0, "ms": US_PER_MS, "s": US_PER_S}


def write(source: Source) -> Exported:
    """Raises CalibrateError unless one model is named, and what the times raise."""
    times = one_step_times(source.hardware, source.serving, _FORMAT)
    serving = times.serving
    prompts = lengths(serving.max_num_batched_tokens).astype(float)
    running = doubling(1, serving.max_num_seqs).astype(float)
    context = serving.mean_context
    prompt_us, token_us = times.prompt_us(prompts), times.decode_us(running, context)

    overhead_us, per_token_us = fit_line(prompts, prompt_us)
    base_us, slope_us = fit_line(running - 1.0, token_us)
    factor = 1.0 + slope_us * (serving.max_num_seqs - 1) / base_us
    content = {
        "model": times.name,
        "max-num-seqs": serving.max_num_seqs,
        "latency-calculator": "per-token",
        "prefill-overhead": go_duration(overhead_us),
        "prefill-time-per-token": go_duration(per_token_us),
        "inter-token-latency": go_duration(base_us),
        "time-factor-under-load": round(factor, 6),
    }
    itl = Deviation.of(itl_us(content, running), token_us)
    ttft = Deviation.of(ttft_us(content, prompts), prompt_us)
    notes = _notes(times, itl, ttft)
    text = "".join(f"# {note}\n" for note in notes) + yaml.safe_dump(content, sort_keys=False)
    return Exported(text, tuple(notes))


def fit_line(x: Floats, y: Floats) -> tuple[float, float]:
    """Start and slope, neither below 0, of the line nearest to ``y`` in relative error; both of shape (n,)."""
    design = np.column_stack([np.ones_like(x), x]) / y[:, None]
    (start, slope), _ = nnls(design, np.ones_like(y))
    return float(start), float(slope)


def go_duration(us: float) -> str:
    """A time as Go's time.ParseDuration reads it, in whole nanoseconds, which is what it keeps."""
    return f"{round(us * NS_PER_US)}ns"


def read(text: str) -> dict[str, float]:
    """Times in µs and factors by key. Raises ImportFormatError for another text."""
    content = yaml_mapping(text, _WHAT)
    values = numbers(content, ("max-num-seqs", "time-factor-under-load"), _WHAT)
    for name in _DURATIONS:
        found = _GO.fullmatch(str(content.get(name)))
        if found is None:
            raise ImportFormatError(f"not a {_WHAT}: {name} must be a duration such as 12ms")
        values[name] = float(found[1]) * _UNIT_US[found[2]]
    if values["time-factor-under-load"] < 1.0:
        raise ImportFormatError(f"not a {_WHAT}: time-factor-under-load must be 1 or more")
    return values


def itl_us(content: dict[str, object], running: Floats) -> Floats:
    """The time of a token with so many requests running, as the simulator counts it, in µs."""
    values = read(yaml.safe_dump(content))
    seqs = max(values["max-num-seqs"] - 1.0, 1.0)
    return values["inter-token-latency"] * (
        1.0 + (values["time-factor-under-load"] - 1.0) * (running - 1.0) / seqs
    )


def ttft_us(content: dict[str, object], prompts: Floats) -> Floats:
    """The time of a first token of a request alone, as the simulator counts it, in µs."""
    values = read(yaml.safe_dump(content))
    return values["prefill-overhead"] + prompts * values["prefill-time-per-token"]


def _notes(times: StepTimes, itl: Deviation, ttft: Deviation) -> list[str]:
    serving = times.serving
    return [
        f"{times.name} on {times.tp} GPUs, times of {serving.latency_model.name}, without the server's own.",
        f"Off those by: inter-token latency at a mean context of {serving.mean_context:g} tokens, {itl}; "
        f"time to first token of prompts alone up to {serving.max_num_batched_tokens:,} tokens, {ttft}.",
        "The simulator lets time-factor-under-load grow both, though prompts share a step with decodes.",
    ]
