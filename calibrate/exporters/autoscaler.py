"""Lines that autoscalers size servers by: llm-inferno's α, β, γ a model, and llm-d's ITL by the share of the cache.

llm-inferno (queue-analysis, ``pkg/analyzer/queueanalyzer.go``; the optimizer's ``model-data.json``): a step takes
α + β · tokens computed + γ · tokens read of the cache, in ms. Fitted to decodes of the mean context and to prompts
alone by their relative error, none below 0. The workload-variant autoscaler of llm-d fits ITL(k) = A·k + B itself, k
being the share of the cache in use; what it will find is written beside. Its rule holds for shares up to 0.85.
"""

import numpy as np
from scipy.optimize import nnls

from calibrate.exporters.exported import Exported, Source, numbers, yaml_mapping
from calibrate.exporters.step_times import Deviation, StepTimes, doubling, lengths, step_times
from calibrate.outcome.result_json import dump_json
from calibrate.records.errors import CalibrateError, ImportFormatError
from sim.serving.engine import kv_cache_tokens
from sim.steps.batch import Floats
from sim.units import US_PER_MS, US_PER_S

_FORMAT = "autoscaler"
_WHAT = "model data of llm-inferno"
_PARAMETERS = ("alpha", "beta", "gamma")
_SATURATED = 0.85  # share of the cache above which llm-d's analyser fits no line


def write(source: Source) -> Exported:
    """Raises CalibrateError without a model, HardwareError without MemoryGiB, and what the times raise."""
    models, lines, notes = [], [], []
    for times in step_times(source.hardware, source.serving, _FORMAT):
        entry, deviation = _inferno(times, source.gpu)
        line, of_line = _llm_d(
            times, kv_cache_tokens(times.arch, source.peaks, times.tp), source.gpu
        )
        models.append(entry)
        lines.append(line)
        notes.append(
            f"{times.name} on {times.tp} × {source.gpu}, times of {times.serving.latency_model.name}: "
            f"alpha, beta, gamma off by {deviation}; A·k + B off by {of_line}."
        )
    content = {"_comment": notes, "models": models, "itl_by_kv_usage": lines}
    return Exported(dump_json(content), tuple(notes))


def step_ms(parameters: dict[str, float], computed: Floats, read_tokens: Floats) -> Floats:
    """A step's time as llm-inferno counts it, in ms, by tokens computed and tokens read of the cache."""
    alpha, beta, gamma = (parameters[name] for name in _PARAMETERS)
    return alpha + beta * computed + gamma * read_tokens


def read(text: str) -> dict[tuple[str, str, int], dict[str, float]]:
    """α, β and γ by model, accelerator and number of them. Raises ImportFormatError for another text."""
    models = yaml_mapping(text, _WHAT).get("models")
    if (
        not isinstance(models, list)
        or not models
        or not all(isinstance(entry, dict) for entry in models)
    ):
        raise ImportFormatError(f"not a {_WHAT}: it must hold models")
    found = {}
    for entry in models:
        counts = numbers(entry, ("accCount", "maxBatchSize", "atTokens"), _WHAT)
        parameters = entry.get("perfParms")
        if not isinstance(parameters, dict):
            raise ImportFormatError(f"not a {_WHAT}: every model must hold perfParms")
        name = (str(entry.get("name")), str(entry.get("acc")), int(counts["accCount"]))
        found[name] = numbers(parameters, _PARAMETERS, _WHAT)
    return found


def _inferno(times: StepTimes, gpu: str) -> tuple[dict[str, object], Deviation]:
    serving = times.serving
    running = doubling(1, serving.max_num_seqs).astype(float)
    prompts = lengths(min(serving.prompt_tokens, serving.max_num_batched_tokens)).astype(float)
    computed = np.concatenate([running, prompts])
    read_tokens = np.concatenate([running * serving.mean_context, prompts])
    decodes_us = times.decode_us(running, serving.mean_context)
    ours_ms = np.concatenate([decodes_us, times.prompt_us(prompts)]) / US_PER_MS

    design = np.column_stack([np.ones_like(computed), computed, read_tokens]) / ours_ms[:, None]
    fitted, _ = nnls(design, np.ones_like(ours_ms))
    parameters = dict(zip(_PARAMETERS, fitted.tolist(), strict=True))
    entry: dict[str, object] = {
        "name": times.name,
        "acc": gpu,
        "accCount": times.tp,
        "maxBatchSize": serving.max_num_seqs,
        "atTokens": round(serving.mean_context),
        "perfParms": parameters,
    }
    return entry, Deviation.of(step_ms(parameters, computed, read_tokens), ours_ms)


def _llm_d(times: StepTimes, cache_tokens: int, gpu: str) -> tuple[dict[str, object], Deviation]:
    """A and B of decodes at the mean context, from one request to the saturated share of the cache."""
    serving = times.serving
    most = min(serving.max_num_seqs, int(_SATURATED * cache_tokens / serving.mean_context))
    if most < 2:
        raise CalibrateError(
            f"{_FORMAT}: the cache of {times.name} on {times.tp} × {gpu} holds {cache_tokens:,} tokens, not two "
            f"requests of {serving.mean_context:g}: raise --tp, or lower --prompt-tokens"
        )
    running = doubling(1, most).astype(float)
    usage = running * serving.mean_context / cache_tokens
    itl_s = times.decode_us(running, serving.mean_context) / US_PER_S
    design = np.column_stack([usage, np.ones_like(usage)]) / itl_s[:, None]
    (slope, start), _ = nnls(design, np.ones_like(itl_s))
    line: dict[str, object] = {
        "model": times.name,
        "acc": gpu,
        "accCount": times.tp,
        "A_s": float(slope),
        "B_s": float(start),
        "from": float(usage[0]),
        "to": float(usage[-1]),
    }
    return line, Deviation.of(slope * usage + start, itl_s)
