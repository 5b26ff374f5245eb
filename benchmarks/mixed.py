"""roofline-v4 on steps of prompts beside decodes, and from their kernels to a server, as `make mixed` does.

The steps are LLMServingSim's profiles of vLLM, composed. The form of a mixed launch was found on one model's
(:data:`CHOSE`), with a look at the others. Its servers' runs are then replayed, with nothing fitted to serving. Errors
of steps are means over phases.
"""

import argparse
import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from benchmarks.accuracy.datasets import ROOT
from calibrate.campaign.campaign import Campaign, load_campaigns
from calibrate.campaign.workload_files import read_workload
from calibrate.cli.console import table as rich_table
from calibrate.fitting.objective import MODEL_FLOOR, Dataset, build_dataset, leave_out_incomputable
from calibrate.fitting.problem import Problem
from calibrate.job.solution import Question, solve
from sim.architecture_files import load_architecture
from sim.hardware import Hardware, gpu_specs
from sim.models.registry import latency_model
from sim.serving.engine import EngineLimits, kv_cache_tokens
from sim.serving.simulation import simulate
from sim.steps.batch import Floats

CAMPAIGN = "llmservingsim-vllm-0.19.0"
GPUS = ("RTX-PRO-6000-Server", "RTX-4090")
CHOSE = ("RTX-PRO-6000-Server", "llama-3.1-8b")
_LIMITS = ("max_num_batched_tokens", "max_num_seqs", "kv_cache_tokens", "block_size")
_STARTS = 4
_V4 = "roofline-v4"
Errors = dict[str, dict[str, float]]
"""Mean errors by model and phase."""


def main() -> None:
    """Fit every GPU, replay its run, print both, write them."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.mixed", description=__doc__)
    options.add_argument("--out", type=Path, default=ROOT / "docs" / "mixed.json")
    out = options.parse_args().out
    found = {gpu: measure(gpu) for gpu in GPUS}
    show(Console(width=120), found)
    out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def measure(gpu: str) -> dict[str, Errors]:
    """Errors of steps by roofline-v3 and -v4 in sample, of models left out, of fits to one model; and of the run."""
    hardware = Hardware(gpu, dict(gpu_specs()[gpu].values))
    (campaign,) = load_campaigns(ROOT / "ground_truth", gpu, (CAMPAIGN,), hardware, [_V4])
    data = build_dataset([campaign], MODEL_FLOOR)
    fitted = _fitted(_V4, hardware, data)
    found = {
        "in sample, roofline-v3": _errors(
            "roofline-v3", _fitted("roofline-v3", hardware, data), data
        ),
        "in sample": _errors(_V4, fitted, data),
    }
    models = data.frame["model"].unique()
    if len(models) > 1:
        found["model out"] = {}
        for model in models:
            of_it = (data.frame["model"] == model).to_numpy()
            others = _fitted(_V4, hardware, data.take(~of_it))
            found["model out"] |= _errors(_V4, others, data.take(of_it))
    if gpu == CHOSE[0]:
        chose = _fitted(_V4, hardware, data.take((data.frame["model"] == CHOSE[1]).to_numpy()))
        found[f"fitted to {CHOSE[1]} alone"] = _errors(_V4, chose, data)
    return {**found, "run": replayed(campaign, fitted)}


def _fitted(name: str, hardware: Hardware, data: Dataset) -> Hardware:
    model = latency_model(name)
    data, _ = leave_out_incomputable(model, data)
    return solve(Problem(model, hardware, data, (), "soft_l1"), Question(starts=_STARTS)).hardware


def _errors(name: str, hardware: Hardware, data: Dataset) -> Errors:
    predicted_us = latency_model(name).predict_us(data.table, hardware)
    error = np.abs(predicted_us / data.measured_us - 1.0)
    frame = data.frame.assign(error=error, phase=data.table.phases)
    by_phase = frame.groupby(["model", "phase"])["error"].mean().unstack()
    return {
        str(model): {str(phase): float(value) for phase, value in row.items()}
        for model, row in by_phase.iterrows()
    }


def replayed(campaign: Campaign, hardware: Hardware) -> Errors:
    """Error of the mean over a run's requests, with its sign, and the median error of a request."""
    row = campaign.serving.iloc[0]
    arch = load_architecture(row["model"], row["dtype"])
    said: dict[str, Any] = {
        name: int(row[name]) for name in _LIMITS if row.get(name, np.nan) == row.get(name)
    }
    cache = EngineLimits(kv_cache_tokens=kv_cache_tokens(arch, hardware, int(row["tp"])))
    engine = dataclasses.replace(cache, **said)
    file = campaign.folder / "requests.jsonl.gz"
    model = latency_model(_V4)
    result = simulate(read_workload(file), engine, model, arch, hardware, int(row["tp"]))
    pairs = zip(_times(file), (result.ttft_us, result.itl_us, result.e2e_us), strict=True)
    return {
        name: {
            "mean": float(predicted.mean() / measured.mean() - 1.0),
            "each": float(np.median(np.abs(predicted / measured - 1.0))),
        }
        for name, (measured, predicted) in zip(("TTFT", "TPOT", "end-to-end"), pairs, strict=True)
    }


def _times(file: Path) -> tuple[Floats, Floats, Floats]:
    """TTFT, time per output token and end-to-end time of a run's requests in µs, in order of arrival."""
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    rows = pd.DataFrame(map(json.loads, lines)).sort_values("arrival_time", kind="stable")
    queued, first, last = (
        1e6 * rows[name].to_numpy() for name in ("queued_ts", "first_token_ts", "last_token_ts")
    )
    return first - queued, (last - first) / (rows["output_toks"].to_numpy() - 1), last - queued


def show(console: Console, found: dict[str, dict[str, Errors]]) -> None:
    """A line for each kind of fit and model, and for each time of a run."""
    steps = rich_table("Steps", ["GPU", "error", "model", *_PHASES], [*_PHASES], [])
    runs = rich_table(
        "Runs replayed", ["GPU", "time", "of the mean", "of each"], ["of the mean"], []
    )
    for gpu, kinds in found.items():
        for kind, errors in kinds.items():
            for name, error in errors.items():
                if kind == "run":
                    runs.add_row(gpu, name, f"{error['mean']:+.1%}", f"{error['each']:.1%}")
                else:
                    phases = [f"{error[phase]:.1%}" for phase in _PHASES]
                    steps.add_row(gpu, kind, name, *phases)
    console.print(steps)
    console.print(runs)


_PHASES = ("mixed", "prefill", "decode")

if __name__ == "__main__":
    main()
