"""Engine steps of a real decoder: prefill, decode and mixed ones over a designed grid or a planned table."""

import dataclasses
import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calibrate.bench.attention import fastest
from calibrate.bench.decoder import (
    Decoder,
    Requests,
    build_decoder,
    check_buildable,
    make_step,
    run_step,
    step_bytes,
)
from calibrate.bench.device import Device, Run, import_torch
from calibrate.bench.point import Point, Prepared, scattered
from calibrate.records.errors import CalibrateError
from calibrate.records.files import replace_text
from sim.architecture import Architecture
from sim.architecture_files import architecture_names, load_architecture
from sim.units import BYTES_PER_GIB

_WEIGHTS_SHARE = 0.6  # of the memory, at most: the rest is for the KV cache
_GRAPH_WARM_UP = 3

Size = tuple[Requests, Requests]
"""Prefill and decode requests of a step."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """A model as it is measured: ``name`` is what a row calls it, a registry name or a folder in the campaign."""

    name: str
    arch: Architecture


@dataclasses.dataclass
class Shelf:
    """Holds one decoder at a time: the next is built when the last is gone."""

    device: Device
    dtype: str
    held: Decoder | None = None

    def decoder(self, arch: Architecture) -> Decoder:
        """The decoder of that architecture."""
        if self.held is None or self.held.arch != arch:
            self.held = None
            self.device.release()
            self.held = build_decoder(arch, self.device.kind, self.dtype)
        return self.held


def grid(prompts: Sequence[tuple[int, int, int]], decodes: Sequence[tuple[int, int]]) -> list[Size]:
    """Steps of (requests, new, context) prompts, of (requests, context) decodes, and of some of both."""
    prefill = [Requests(*prompt) for prompt in prompts]
    decode = [Requests(count, 1, context) for count, context in decodes]
    mixed = [(p, d) for p in prefill[::5] for d in decode[2::6]]
    return [*((p, Requests()) for p in prefill), *((Requests(), d) for d in decode), *mixed]


def fit_models(
    architectures: Sequence[Architecture], memory_bytes: float, dtype: str, folder: Path
) -> list[Measured]:
    """Each model whole, or with as many layers as leave room for a cache, its description put into the campaign.

    A model of fewer layers has a vocabulary smaller in proportion, so that embedding and head keep their share.
    ``memory_bytes`` is all the device has, so that another run comes to the same model, whatever is free then.
    Raises CalibrateError for a model that cannot be built, or of which not even one layer fits.
    """
    fitted = []
    for arch in architectures:
        check_buildable(arch)
        weight_bytes = arch.with_dtype(dtype).weight_bytes
        layers = math.floor(arch.num_layers * _WEIGHTS_SHARE * memory_bytes / weight_bytes)
        if layers < 1:
            raise CalibrateError(
                f"{arch.name}: not one of its layers fits into {memory_bytes / BYTES_PER_GIB:.1f} GiB"
            )
        whole = layers >= arch.num_layers and arch.name in architecture_names()
        fitted.append(
            Measured(arch.name, arch)
            if whole
            else _described(arch, min(layers, arch.num_layers), folder)
        )
    return fitted


def _described(arch: Architecture, layers: int, folder: Path) -> Measured:
    """The model with that many layers, as a folder of the campaign."""
    vocabulary = max(arch.vocab_size * layers // arch.num_layers, 64)
    name = f"models/{Path(arch.name).name}-{layers}-layers"
    config = {
        "model_type": "llama",
        "num_hidden_layers": layers,
        "hidden_size": arch.hidden_size,
        "num_attention_heads": arch.num_heads,
        "num_key_value_heads": arch.kv_heads,
        "head_dim": int(arch.true_head_dim),
        "intermediate_size": arch.mlp_size,
        "vocab_size": vocabulary,
        "tie_word_embeddings": arch.tied_embeddings,
        "torch_dtype": "bfloat16",
    }
    (folder / name).mkdir(parents=True, exist_ok=True)
    replace_text(folder / name / "config.json", json.dumps(config, indent=2) + "\n")
    return Measured(name, dataclasses.replace(load_architecture(config), name=name))


def step_points(
    shelf: Shelf, models: Sequence[tuple[Measured, Sequence[Size]]], executions: Sequence[str]
) -> list[Point]:
    """Points model by model, each with its sizes. Decode steps in each of ``executions``, others eager."""
    return [
        _point(shelf, model, prefill, decode, execution)
        for model, sizes in models
        for prefill, decode in scattered(sizes)
        for execution in (["eager"] if prefill.count else executions)
    ]


def _point(
    shelf: Shelf, model: Measured, prefill: Requests, decode: Requests, execution: str
) -> Point:
    phase = "mixed" if prefill.count and decode.count else "prefill" if prefill.count else "decode"
    columns: dict[str, str | int | float] = {
        "model": model.name,
        "tp": 1,
        "dtype": shelf.dtype,
        "num_prefill_requests": prefill.count,
        "sum_prefill_tokens": prefill.tokens,
        "sum_prefill_kv_tokens": prefill.count * prefill.context,
        "num_decode_requests": decode.count,
        "sum_decode_kv_tokens": decode.count * decode.context,
        "execution": execution,
        "run_id": f"{model.name}-{phase}-b{prefill.count}+{decode.count}-{execution}",
    }
    weight_bytes = model.arch.with_dtype(shelf.dtype).weight_bytes
    needed = int(weight_bytes) + step_bytes(model.arch, prefill, decode, shelf.dtype)
    prepare = functools.partial(_prepare, shelf, model.arch, prefill, decode, execution)
    return Point(columns, needed, prepare, "host")


def _prepare(
    shelf: Shelf, arch: Architecture, prefill: Requests, decode: Requests, execution: str
) -> Prepared:
    torch = import_torch()
    decoder = shelf.decoder(arch)
    step = make_step(decoder, prefill, decode)
    prepared = fastest(shelf.device, lambda: run_step(torch, decoder, step), "host")
    return (
        dataclasses.replace(prepared, run=captured(torch, prepared.run))
        if execution == "graph"
        else prepared
    )


def captured(torch: Any, run: Run) -> Run:
    """The same work as one CUDA graph. What ``run`` reads and writes must stay where it is."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    # Libraries allocate their workspaces for a stream: not while it is captured
    with torch.cuda.stream(side):
        for _ in range(_GRAPH_WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        run()
    replay: Run = graph.replay
    return replay
