"""A profile of LLMServingSim 2: its layers' times by tokens, requests, and launches of attention, of one GPU.

``meta.yaml`` and ``tp1/{dense,per_sequence,attention}.csv`` (casys-kaist/LLMServingSim, profiler 1.0.0), which
``calibrate import llmservingsim`` reads too. A profile holds no communication, and our step times do not say which part
of them is: so it is of one GPU. Times are of parts as :mod:`calibrate.exporters.layer_times` takes them; the LM head
and the sampler are in the layers.
"""

import itertools
from typing import Any

import numpy as np
import pandas as pd
import yaml

from calibrate.exporters.exported import Exported, Source
from calibrate.exporters.layer_times import LEAST_US, LayerTimes, layer_times
from calibrate.exporters.step_times import Deviation, doubling, one_step_times
from calibrate.records.distribution import DISTRIBUTION, VERSION
from calibrate.records.errors import CalibrateError
from sim.architecture_files import architecture_names

_FORMAT = "llmservingsim"
_GEMMS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
_TWICE = "layernorm"
_OTHERS = ("rotary_emb", "act_fn")
_ONCE = ("embedding", "final_layernorm")
_BY_REQUESTS = ("lm_head", "sampler")
_BLOCK = 16  # tokens, the least context of a launch
_STRIDE = 2  # of lengths in attention.csv, every second doubling


def write(source: Source) -> Exported:
    """The files of a folder. Raises CalibrateError unless one dense model on one GPU is named; what the times raise."""
    steps = one_step_times(source.hardware, source.serving, _FORMAT)
    if steps.tp > 1:
        raise CalibrateError(
            f"{_FORMAT}: a profile holds no all-reduce, and step times of tp {steps.tp} hold one: give --tp 1"
        )
    layer = layer_times(steps, _FORMAT)
    launches = _launches(layer)
    shapes = [launches[name].to_numpy(float) for name in launches.columns[:4]]
    deviation = Deviation.of(layer.step_us(*shapes), steps.mixed_us(*shapes))
    note = (
        f"{steps.name} on one {source.gpu}, times of {steps.serving.latency_model.name}, none measured; the parts add "
        f"up to its steps, off by {deviation}."
    )
    files = {
        "meta.yaml": yaml.safe_dump(_meta(layer, source.gpu, note), sort_keys=False),
        "tp1/dense.csv": _csv(_dense(layer)),
        "tp1/per_sequence.csv": _csv(_by_requests(layer)),
        "tp1/attention.csv": _csv(launches),
    }
    return Exported(files, (note,))


def _dense(layer: LayerTimes) -> pd.DataFrame:
    others = [_TWICE, *_OTHERS]
    times = dict(zip(_GEMMS, layer.gemms_us(len(others) + 1), strict=True))
    times |= dict.fromkeys([*others, *_ONCE], np.full(len(layer.tokens), LEAST_US))
    parts = [
        pd.DataFrame({"layer": name, "tokens": layer.tokens, "time_us": time_us})
        for name, time_us in times.items()
    ]
    return pd.concat(parts)


def _by_requests(layer: LayerTimes) -> pd.DataFrame:
    requests = doubling(1, layer.steps.serving.max_num_seqs)
    parts = [
        pd.DataFrame({"layer": name, "sequences": requests, "time_us": LEAST_US})
        for name in _BY_REQUESTS
    ]
    return pd.concat(parts)


def _launches(layer: LayerTimes) -> pd.DataFrame:
    """Prompts, decodes, and both together, within a step's tokens and requests."""
    serving = layer.steps.serving
    limit = serving.max_num_batched_tokens
    contexts = doubling(_BLOCK, serving.max_context)[::_STRIDE].tolist()
    prompts = [(0, 0)]
    prompts += itertools.product(doubling(_BLOCK, limit)[::_STRIDE].tolist(), [0, *contexts])
    decodes = [(0, 0)]
    decodes += itertools.product(doubling(1, serving.max_num_seqs).tolist(), contexts)
    both = [
        (*prompt, *decode)
        for prompt, decode in itertools.product(prompts, decodes)
        if 0 < prompt[0] + decode[0] <= limit
        and (prompt[0] > 0) + decode[0] <= serving.max_num_seqs
    ]
    columns = ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode"]
    rows = pd.DataFrame(both, columns=columns)
    time_us = layer.attention_us(*(rows[name].to_numpy(float) for name in columns))
    return rows.assign(time_us=time_us)


def _meta(layer: LayerTimes, gpu: str, note: str) -> dict[str, Any]:
    steps, serving = layer.steps, layer.steps.serving
    paths = [path for path in architecture_names().get(steps.arch.name, ()) if "/" in path]
    return {
        "calibrate": note,
        "profiler_version": "1.0.0",
        "vllm_version": f"none: modelled by {DISTRIBUTION} {VERSION}",
        "gpu": gpu,
        "hardware": gpu,
        "model": paths[0] if paths else steps.name,
        "variant": steps.arch.dtype,
        "tp_degrees": [steps.tp],
        "engine_effective": {
            "tensor_parallel_size": steps.tp,
            "block_size": _BLOCK,
            "max_num_batched_tokens": serving.max_num_batched_tokens,
            "max_num_seqs": serving.max_num_seqs,
        },
        "skew_fit": {"enabled": False},
    }


def _csv(rows: pd.DataFrame) -> str:
    return rows.to_csv(index=False, lineterminator="\n")
