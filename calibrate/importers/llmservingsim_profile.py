"""One model's profile of LLMServingSim: its layers as GEMM and attention tables, and engine steps composed of them.

``dense.csv`` has a layer's time by the step's tokens, ``moe.csv`` that of its experts by tokens and by how many of them
those choose, ``per_sequence.csv`` that of LM head and sampler by its requests, ``attention.csv`` that of one attention
launch: a prompt's chunk with tokens cached, beside decodes of equal context. All are of one GPU's shard, in
microseconds.
"""

import dataclasses
import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibrate.importers.llmservingsim_kept import Kept
from calibrate.importers.model_names import named_model
from calibrate.importers.run_folder import field
from calibrate.importers.server import weight_type
from calibrate.records.errors import ImportFormatError
from calibrate.records.schema import Column
from calibrate.records.tables import read_table
from sim.architecture import Architecture, Experts
from sim.architecture_files import load_architecture
from sim.models.roofline_v4.routing import busiest
from sim.steps.batch import Floats

_TIME = Column("time_us", "positive", required=True)
_DENSE = (Column("layer", "text", required=True), Column("tokens", "count", required=True), _TIME)
_SEQUENCES = (_DENSE[0], Column("sequences", "count", required=True), _TIME)
_ATTENTION = (
    *(
        Column(name, "count", required=True)
        for name in ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")
    ),
    _TIME,
)
_EXPERTS = (
    *(Column(name, "count", required=True) for name in ("tokens", "activated_experts")),
    _TIME,
)
_GEMMS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
"""Layers that are one GEMM, in the order of ``Architecture.layer_matrices``."""
_MLP = ("gate_up_proj", "act_fn", "down_proj")
_IN_A_LAYER = {**dict.fromkeys(_GEMMS, 1), "layernorm": 2, "rotary_emb": 1, "act_fn": 1}
_OPTIONAL = {"qk_norm": 1}
_ONCE = ("embedding", "final_layernorm")
_BY_REQUESTS = ("lm_head", "sampler")


@dataclasses.dataclass(frozen=True)
class Profile:
    """A profile's tables by name, the engine and device that it is of, the day, and what was left out, in words."""

    tables: Mapping[str, pd.DataFrame]
    engine: str
    device: str
    collected: datetime.date
    left_out: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Shard:
    """What was measured at one degree: times by layer, and the attention launches; ``experts`` may be empty."""

    folder: Path
    arch: Architecture
    tp: int
    dense: Mapping[str, pd.DataFrame]
    by_requests: Mapping[str, pd.DataFrame]
    attention: pd.DataFrame
    experts: pd.DataFrame

    @property
    def in_a_layer(self) -> dict[str, int]:
        """How often each layer of ``dense`` stands in one of the model's; experts stand for the MLP."""
        has_mlp = self.arch.experts is None
        return {name: n for name, n in _IN_A_LAYER.items() if has_mlp or name not in _MLP}


def read_profile(folder: Path, said: Mapping[str, Any], kept: Kept) -> Profile:
    """The profile of a folder whose ``meta.yaml`` says ``said``.

    Raises ImportFormatError if a file cannot be read, or a cell or a field is wrong.
    """
    where = folder / "meta.yaml"
    name = named_model(str(field(said, "model", where)))
    of = (
        f"vllm {field(said, 'vllm_version', where)}",
        str(said.get("gpu") or ""),
        _day(said, where),
    )
    if "model" not in name:
        unknown = f"{folder}: its model {said['model']} is not in the registry"
        return Profile({}, *of, (unknown,))
    dtype = str(weight_type(said.get("variant"), None).get("dtype", "")) or None
    arch = load_architecture(str(name["model"]), dtype)
    found = [_tables(shard, kept) for shard in _shards(folder, arch)]
    tables = {
        name: pd.concat([tables[name] for tables, _ in found if name in tables])
        for name in ("steps", "gemm", "attention_prefill", "attention_decode")
        if any(name in tables for tables, _ in found)
    }
    return Profile(tables, *of, tuple(words for _, left in found for words in left))


def _day(said: Mapping[str, Any], where: Path) -> datetime.date:
    """When it was profiled; today where it is not said."""
    if (at := said.get("profiled_at")) is None:
        return datetime.date.today()
    try:
        return datetime.date.fromisoformat(str(at)[:10])
    except ValueError:
        raise ImportFormatError(f"{where}: profiled_at = {at}: must begin with a day") from None


def _shards(folder: Path, arch: Architecture) -> Iterator[_Shard]:
    for part in sorted(folder.glob("tp*")):
        degree = part.name.removeprefix("tp")
        if degree.isdecimal() and part.is_dir():
            dense, requests = (
                {str(layer): rows for layer, rows in _read(part / file, columns).groupby("layer")}
                for file, columns in (("dense.csv", _DENSE), ("per_sequence.csv", _SEQUENCES))
            )
            attention = _read(part / "attention.csv", _ATTENTION)
            moe = part / "moe.csv"
            experts = _read(moe, _EXPERTS) if moe.is_file() else pd.DataFrame()
            yield _Shard(part, arch, int(degree), dense, requests, attention, experts)


def _read(file: Path, columns: tuple[Column, ...]) -> pd.DataFrame:
    table = read_table(file, columns)
    for problem in table.problems:
        if problem.severity == "error":
            raise ImportFormatError(str(problem))
    return table.frame


def _tables(shard: _Shard, kept: Kept) -> tuple[dict[str, pd.DataFrame], list[str]]:
    tables = {"gemm": _gemms(shard), **_attention(shard)}
    if why := _uncomposable(shard):
        return tables, [f"{shard.folder}: {len(shard.attention):,} steps: {why}"]
    steps, left_out = _steps(shard), []
    for why, goes in (
        ("of more tokens or requests than were profiled", lambda one: one["latency_us"].isna()),
        (
            "whose KV cache would not fit in memory",
            lambda one: ~kept.fits(one, shard.arch, shard.tp),
        ),
        (f"beside prompts: one in {kept.every} is kept", kept.thins),
    ):
        out = goes(steps)
        steps = steps[~out]
        if out.any():
            left_out.append(f"{shard.folder}: {int(out.sum()):,} steps {why}")
    return {**tables, "steps": steps}, left_out


def _uncomposable(shard: _Shard) -> str:
    """Why no step can be made of what was measured; empty where one can."""
    if shard.tp > 1:
        return "the profile holds no all-reduce"
    if shard.arch.experts is not None and shard.experts.empty:
        return "the profile holds no experts (moe.csv)"
    known = {*shard.in_a_layer, *_OPTIONAL, *_ONCE}
    if other := sorted(shard.dense.keys() - known):
        return f"its layer {other[0]} has no place here"
    missing = [*({*shard.in_a_layer, *_ONCE} - shard.dense.keys())]
    missing += [name for name in _BY_REQUESTS if name not in shard.by_requests]
    return f"the layer {sorted(missing)[0]} is missing" if missing else ""


def _steps(shard: _Shard) -> pd.DataFrame:
    """One row an attention launch; ``latency_us`` is NaN outside what the layers were measured at."""
    launch = shard.attention
    prompts = (launch["prefill_chunk"] > 0).astype(float)
    tokens = (launch["prefill_chunk"] + launch["n_decode"]).to_numpy()
    requests = (prompts + launch["n_decode"]).to_numpy()
    layer_us = launch["time_us"].to_numpy() + _sum_us(
        shard.dense, {**shard.in_a_layer, **_OPTIONAL}, "tokens", tokens
    )
    if shard.arch.experts is not None:
        layer_us += _experts_us(shard.experts, shard.arch.experts, tokens)
    once_us = _sum_us(shard.dense, dict.fromkeys(_ONCE, 1), "tokens", tokens)
    head_us = _sum_us(shard.by_requests, dict.fromkeys(_BY_REQUESTS, 1), "sequences", requests)
    batch = "p" + launch["prefill_chunk"].astype(int).astype(str)
    batch += "-d" + launch["n_decode"].astype(int).astype(str)
    return pd.DataFrame(
        {
            "model": shard.arch.name,
            "tp": shard.tp,
            "dtype": shard.arch.dtype,
            "num_prefill_requests": prompts,
            "sum_prefill_tokens": launch["prefill_chunk"],
            "sum_prefill_kv_tokens": launch["kv_prefill"],
            "num_decode_requests": launch["n_decode"],
            "sum_decode_kv_tokens": launch["n_decode"] * launch["kv_decode"],
            "latency_us": (shard.arch.num_layers * layer_us + once_us + head_us).round(2),
            "run_id": f"{shard.arch.name}-tp{shard.tp}-" + batch,
        }
    )


def _sum_us(
    layers: Mapping[str, pd.DataFrame], times: Mapping[str, int], by: str, at: Floats
) -> Floats:
    """The time of some layers, each so many times, (n,) at ``at``; NaN beyond the largest or below the least."""
    total = np.zeros(len(at))
    for layer, count in times.items():
        if layer in layers:
            rows = layers[layer].sort_values(by)
            total += count * np.interp(at, rows[by], rows["time_us"], left=np.nan, right=np.nan)
    return total


def _experts_us(measured: pd.DataFrame, experts: Experts, tokens: Floats) -> Floats:
    """Of a layer's experts, (n,): at each measured count of tokens, those that so many choose of an uneven router."""
    counts = np.unique(measured["tokens"].to_numpy(np.float64))
    times = []
    for count in counts:
        rows = measured[measured["tokens"] == count].sort_values("activated_experts")
        chosen = _touched(count, experts)
        times.append(np.interp(chosen, rows["activated_experts"], rows["time_us"]))
    us: Floats = np.interp(tokens, counts, times, left=np.nan, right=np.nan)
    return us


def _touched(tokens: float, experts: Experts) -> Floats:
    figures = (tokens, experts.experts_per_token, experts.num_experts, 1.0)
    _, touched = busiest(*(np.array(figure, dtype=np.float64) for figure in figures))
    return touched


def _gemms(shard: _Shard) -> pd.DataFrame:
    """The layers that are one matrix product each, at the sizes of the shard."""
    sizes = dict(zip(_GEMMS, shard.arch.layer_matrices(shard.tp), strict=True))
    parts = [
        _gemm(rows["tokens"], rows["time_us"], size)
        for layer, size in sizes.items()
        if layer in shard.in_a_layer and (rows := shard.dense.get(layer)) is not None
    ]
    if (head := shard.by_requests.get("lm_head")) is not None:
        size = shard.arch.vocab_size // shard.tp, shard.arch.hidden_size
        parts.append(_gemm(head["sequences"], head["time_us"], size))
    return pd.concat(parts).assign(dtype=shard.arch.dtype) if parts else pd.DataFrame()


def _gemm(
    rows: "pd.Series[float]", time_us: "pd.Series[float]", size: tuple[int, int]
) -> pd.DataFrame:
    return pd.DataFrame({"m": rows, "n": size[0], "k": size[1], "latency_us": time_us})


def _attention(shard: _Shard) -> dict[str, pd.DataFrame]:
    """Launches of one kind alone: prompts without cached tokens at a rank's heads, and decodes."""
    launch, arch = shard.attention, shard.arch
    head_dim = int(arch.true_head_dim)
    prefill = launch[(launch["n_decode"] == 0) & (launch["kv_prefill"] == 0)]
    decode = launch[launch["prefill_chunk"] == 0]
    return {
        "attention_prefill": pd.DataFrame(
            {
                "num_heads": arch.num_heads // shard.tp,
                "num_kv_heads": max(arch.kv_heads // shard.tp, 1),
                "head_dim": head_dim,
                "batch_size": 1,
                "seq_len": prefill["prefill_chunk"],
                "dtype": "bf16",
                "latency_us": prefill["time_us"],
            }
        ),
        "attention_decode": pd.DataFrame(
            {
                "num_heads": arch.num_heads,
                "num_kv_heads": arch.kv_heads,
                "head_dim": head_dim,
                "batch_size": decode["n_decode"],
                "kv_len": decode["kv_decode"],
                "dtype": "bf16",
                "kv_dtype": "bf16",
                "tp": shard.tp,
                "latency_us": decode["time_us"],
            }
        ),
    }
