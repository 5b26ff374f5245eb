"""Profiles of Vidur (package vidur 0.0.26): times of a layer's operations, in ms, from which it learns step times.

``compute/<device>/<model>/{mlp,attention}.csv`` and ``network/<device>/all_reduce.csv``, the columns that its
``SklearnExecutionTimePredictor`` selects rows and trains by. A step is layers · (operations by tokens + attention) to
it, plus twice an all-reduce a layer. Our step times do not say which part is communication: that stays in the
operations, and all_reduce.csv holds the least times; so run Vidur without what it adds to them (:data:`SETTINGS`).
Parts are as :mod:`calibrate.exporters.layer_times` takes them.
"""

import io
from typing import Any

import numpy as np
import pandas as pd
import yaml

from calibrate.exporters.exported import Exported, Source
from calibrate.exporters.layer_times import LEAST_US, LayerTimes, layer_times
from calibrate.exporters.step_times import Deviation, doubling, lengths, one_step_times
from calibrate.records.errors import ImportFormatError
from sim.architecture_files import architecture_names
from sim.hardware import check_gpu_name
from sim.steps.batch import Floats
from sim.units import US_PER_MS

SETTINGS = {
    "attention_decode_batching_overhead_fraction": 0.0,
    "nccl_cpu_launch_overhead_ms": 0.0,
    "nccl_cpu_skew_overhead_per_device_ms": 0.0,
}
"""Options of Vidur's predictor that would add to times which hold everything already."""

_FORMAT = "vidur"
_GEMMS = ("attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj")
_OTHERS = ("emb", "input_layernorm", "post_attention_layernorm", "mlp_act", "attn_rope", "add")
_STATISTICS = ("min", "max", "mean", "median")
_BLOCK = 16  # tokens of a block of the cache
_BYTES = 2  # of a token's number in an all-reduce
_WHAT = "profile of Vidur"


def write(source: Source) -> Exported:
    """The files of a folder. Raises CalibrateError unless one dense model is named, and what the times raise."""
    steps = one_step_times(source.hardware, source.serving, _FORMAT)
    layer = layer_times(steps, _FORMAT)
    mlp, attention = _mlp(layer), _attention(layer)
    deviation = Deviation.of(*_steps_us(layer, attention))
    note = (
        f"{steps.name} on {steps.tp} × {source.gpu}, times of {steps.serving.latency_model.name}, none measured; its "
        f"operations add up to our steps, off by {deviation}, before what Vidur's regression adds."
    )
    device = check_gpu_name(source.gpu).lower()
    compute = f"compute/{device}/{_model_name(layer)}"
    settings = yaml.safe_dump({"calibrate": note, "settings": SETTINGS}, sort_keys=False)
    files = {
        f"{compute}/mlp.csv": _csv(mlp),
        f"{compute}/attention.csv": _csv(attention),
        f"network/{device}/all_reduce.csv": _csv(_all_reduce(layer)),
        "settings.yaml": settings,
    }
    return Exported(files, (note,))


def read_layers_ms(mlp: str, attention: str) -> pd.DataFrame:
    """A layer's time of every row of attention.csv, in ms, by its shape. Raises ImportFormatError for other texts."""
    by_tokens, rows = (pd.read_csv(io.StringIO(text)) for text in (mlp, attention))
    columns = [f"time_stats.{name}.median" for name in (*_GEMMS, *_OTHERS) if name != "emb"]
    parts = ["time_stats.attn_prefill.median", "time_stats.attn_decode.median"]
    if not {*columns, "num_tokens"} <= set(by_tokens) or not set(parts) <= set(rows):
        raise ImportFormatError(f"not a {_WHAT}: a time_stats column is missing")
    tokens = rows[["prefill_chunk_size", "batch_size"]].max(axis=1)
    dense = np.interp(tokens, by_tokens["num_tokens"], by_tokens[columns].sum(axis=1))
    shape = rows[["batch_size", "prefill_chunk_size", "kv_cache_size"]]
    return shape.assign(layer_ms=dense + rows[parts].sum(axis=1))


def _model_name(layer: LayerTimes) -> str:
    steps = layer.steps
    paths = [path for path in architecture_names().get(steps.arch.name, ()) if "/" in path]
    return paths[0] if paths else steps.arch.name


def _mlp(layer: LayerTimes) -> pd.DataFrame:
    arch, tokens = layer.steps.arch, layer.tokens
    times = dict(zip(_GEMMS, layer.gemms_us(len(_OTHERS) - 1), strict=True))
    times |= dict.fromkeys(_OTHERS, np.full(len(tokens), LEAST_US))
    sizes = {
        "n_head": arch.num_heads,
        "n_kv_head": arch.kv_heads,
        "n_embd": arch.hidden_size,
        "n_expanded_embd": arch.mlp_size,
        "vocab_size": arch.vocab_size,
        "use_gated_mlp": arch.num_mlp_matrices == 3,
        "num_tensor_parallel_workers": layer.steps.tp,
    }
    return pd.DataFrame({**_statistics(times), "num_tokens": tokens}).assign(**sizes)


def _attention(layer: LayerTimes) -> pd.DataFrame:
    """Prompts of every chunk after every context, and decodes of every count at every context."""
    arch, serving = layer.steps.arch, layer.steps.serving
    contexts = lengths(serving.max_context)
    chunks = doubling(_BLOCK, serving.max_num_batched_tokens)
    counts = doubling(1, serving.max_num_seqs)
    shapes = [(1, chunk, cached) for chunk in chunks.tolist() for cached in (0, *contexts.tolist())]
    shapes += [(count, 0, context) for count in counts.tolist() for context in contexts.tolist()]
    batch, chunk, cached = np.array(shapes, dtype=np.int64).T
    prompt = chunk > 0
    part_us = layer.attention_us(chunk, cached * prompt, batch * ~prompt, cached * ~prompt)
    times = {
        "attn_prefill": np.where(prompt, part_us, 0.0),
        "attn_decode": np.where(prompt, 0.0, part_us),
        "attn_kv_cache_save": np.zeros(len(batch)),
    }
    sizes = {
        "n_embd": arch.hidden_size,
        "n_q_head": arch.num_heads,
        "n_kv_head": arch.kv_heads,
        "block_size": _BLOCK,
        "num_tensor_parallel_workers": layer.steps.tp,
        "max_model_len": serving.max_context,
    }
    shape = {"batch_size": batch, "prefill_chunk_size": chunk, "kv_cache_size": cached}
    return pd.DataFrame({**_statistics(times), **shape, "is_prefill": prompt}).assign(**sizes)


def _all_reduce(layer: LayerTimes) -> pd.DataFrame:
    size = layer.tokens * layer.steps.arch.hidden_size * _BYTES
    times = _statistics({"all_reduce": np.full(len(size), LEAST_US)})
    tp = layer.steps.tp
    return pd.DataFrame({**times, "size": size}).assign(
        rank=0, num_workers=tp, devices_per_node=tp, collective="all_reduce"
    )


def _statistics(times_us: dict[str, Floats]) -> dict[str, Any]:
    """The columns of operations, in ms: a time of ours has no spread."""
    columns: dict[str, Any] = {}
    for name, time_us in times_us.items():
        columns |= {f"time_stats.{name}.{key}": time_us / US_PER_MS for key in _STATISTICS}
        columns[f"time_stats.{name}.std"] = 0.0
    return columns


def _steps_us(layer: LayerTimes, attention: pd.DataFrame) -> tuple[Floats, Floats]:
    """What the parts add up to, and our times, of the steps in attention.csv."""
    batch, chunk, cached = (
        attention[name].to_numpy(float)
        for name in ("batch_size", "prefill_chunk_size", "kv_cache_size")
    )
    prompt = chunk > 0
    shape = (chunk, cached * prompt, batch * ~prompt, cached * ~prompt)
    return layer.step_us(*shape), layer.steps.mixed_us(*shape)


def _csv(rows: pd.DataFrame) -> str:
    return rows.to_csv(index=False, lineterminator="\n")
