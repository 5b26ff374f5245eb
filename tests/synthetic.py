"""Campaigns made up from roofline-v1 at known parameters, so that a test knows what a fit must find."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from sim import (
    EngineLimits,
    Hardware,
    LatencyModel,
    StepTable,
    Workload,
    latency_model,
    load_architecture,
    simulate,
)
from sim.serving.workload import Closed, Constant, Stage

MODELS = ("llama-3.1-8b", "llama-2-13b")
TPS = (1, 2, 4, 8)

COUNTS = (
    "num_prefill_requests",
    "sum_prefill_tokens",
    "sum_prefill_kv_tokens",
    "sum_prefill_qk_pairs",
    "num_decode_requests",
    "sum_decode_kv_tokens",
)


def synthetic_steps(
    hardware: Hardware,
    rows: int = 40,
    *,
    models: Sequence[str] = MODELS,
    tps: Sequence[int] = TPS,
    phases: Sequence[str] = ("prefill", "decode", "mixed"),
    noise: float = 0.0,
    seed: int = 0,
    model: LatencyModel | None = None,
) -> pd.DataFrame:
    """A ``steps`` table of ``rows`` steps that take what a model predicts at ``hardware``, times lognormal noise.

    The model is roofline-v1 unless another is given.

    Models, degrees and phases go round in turn, so that few rows already show all of them; batch sizes and lengths
    are drawn. Requests of a step are equal in length. ``noise`` is the standard deviation of ln(latency). Mixed steps
    stay where prefill prevails: elsewhere roofline-v1's mixing weights make a step faster than the peaks allow.
    """
    rng = np.random.default_rng(seed)
    number = np.arange(rows)
    phase = np.array(phases)[number % len(phases)]
    mixed = phase == "mixed"
    prefills = np.where(phase == "decode", 0, rng.integers(1, 9, rows))
    decodes = np.where(
        phase == "prefill", 0, 2 ** np.minimum(rng.integers(0, 9, rows), np.where(mixed, 5, 8))
    )
    new = 2 ** np.maximum(rng.integers(7, 13, rows), np.where(mixed, 9, 7))
    cached = 256 * rng.integers(0, 5, rows)
    context = 2 ** np.minimum(rng.integers(8, 13, rows), np.where(mixed, 10, 12))
    frame = pd.DataFrame(
        {
            "model": np.array(models, dtype=object)[number // len(phases) % len(models)],
            "tp": np.array(tps)[number // (len(phases) * len(models)) % len(tps)],
            "dtype": "bf16",
            "num_prefill_requests": prefills,
            "sum_prefill_tokens": prefills * new,
            "sum_prefill_kv_tokens": prefills * cached,
            "sum_prefill_qk_pairs": prefills * new * (cached + (new - 1) / 2),
            "num_decode_requests": decodes,
            "sum_decode_kv_tokens": decodes * context,
        }
    )
    latency = (model or latency_model("roofline-v1")).predict_us(
        StepTable.from_columns(frame), hardware
    )
    return frame.assign(
        latency_us=latency * np.exp(noise * rng.standard_normal(rows)),
        run_id=[f"run-{i // 2}" for i in number],
    )


def serving_row(
    hardware: Hardware,
    model: LatencyModel,
    name: str,
    tp: int,
    workload: Workload,
    seed: int,
    **columns: object,
) -> dict[str, object]:
    """A row of a ``serving`` table: what a client would measure of an engine that takes what a model predicts.

    Lengths are those that were drawn; ``columns`` are added, and the engine's limits among them are its limits.
    """
    trace, load = workload.draw(seed), workload.load
    engine = {"max_num_batched_tokens": 8192, "max_num_seqs": 256, "kv_cache_tokens": 300_000}
    engine.update({key: int(str(columns[key])) for key in engine if key in columns})
    arch = load_architecture(name)
    limits = EngineLimits(
        prefill_first=columns.get("engine") == "sglang", **engine
    ).with_request_times(hardware, arch)
    result = simulate(trace, limits, model, arch, hardware, tp)
    times = {"ttft": result.ttft_us, "itl": result.itl_us, "e2e": result.e2e_us}
    kind = {Closed: "closed", Constant: "constant", Stage: "poisson"}[type(load)]
    return {
        "model": name,
        "tp": tp,
        "engine": "vllm",
        "load": kind,
        "sampling": "random" if limits.sampler_us or limits.sampler_us_per_request else "greedy",
        "concurrency": getattr(load, "concurrency", np.nan),
        "request_rate": getattr(load, "rate", np.nan),
        "num_requests": len(trace),
        "distinct_prompts": workload.distinct_prompts,
        **{
            f"input_tokens_{what}": getattr(trace.prompt_tokens, what)() for what in ("mean", "std")
        },
        **{
            f"output_tokens_{what}": getattr(trace.output_tokens, what)()
            for what in ("mean", "std")
        },
        **engine,
        **{f"{what}_ms_mean": us.mean() / 1e3 for what, us in times.items()},
        **{
            f"{what}_ms_p{p}": np.percentile(us, p) / 1e3
            for what, us in times.items()
            for p in (50, 90, 99)
        },
        **columns,
    }


def write_campaign(
    ground_truth: Path,
    gpu: str,
    steps: pd.DataFrame,
    name: str = "synthetic",
    info: Mapping[str, str] | None = None,
    table: str = "steps",
) -> Path:
    """Write a campaign folder with ``steps.csv`` (or another table) and ``campaign.toml``; return the folder."""
    folder = ground_truth / gpu / name
    folder.mkdir(parents=True)
    steps.to_csv(folder / f"{table}.csv", index=False, lineterminator="\n")
    lines: Iterable[str] = (
        f'{key} = "{value}"\n'
        for key, value in {"title": name, "kind": "synthetic", **(info or {})}.items()
    )
    (folder / "campaign.toml").write_text("".join(lines), encoding="utf-8")
    return folder
