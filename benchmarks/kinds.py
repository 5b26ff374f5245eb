"""roofline-v4 on models of every kind, as `make kinds` does: errors in sample and of what a fit has not seen.

Families that chose no part of the form (:data:`ASIDE`) are reported apart. Every figure is a mean over models of the
mean over phases; a model in another weight type counts as another model.
"""

import argparse
import dataclasses
import functools
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from benchmarks.accuracy.datasets import ROOT
from calibrate.campaign.campaign import load_campaigns
from calibrate.cli.console import table as rich_table
from calibrate.fitting.objective import MODEL_FLOOR, build_dataset, leave_out_incomputable
from calibrate.fitting.problem import Problem
from calibrate.job.solution import Question, refit, solve
from calibrate.trust.crossval import Split, predict_parts
from sim.hardware import Hardware, gpu_specs
from sim.models.registry import latency_model
from sim.steps.batch import Floats

GPUS = ("H100", "H200", "B200", "GB200", "B300", "GB300", "A100-SXM", "L40S", "RTX-PRO-6000-Server")
ASIDE = ("gpt-oss", "mixtral", "kimi-k2")
_OF_MODEL = {
    "qwen3-30b": "Qwen3-MoE",
    "qwen3-235b": "Qwen3-MoE",
    "qwen3-coder": "Qwen3-MoE",
    "minimax": "MiniMax",
    "llama-4": "Llama-4",
    "deepseek": "latent attention",
    "mixtral": "Mixtral",
    "gpt-oss": "gpt-oss",
    "kimi-k2": "Kimi-K2",
}
_OF_TYPE = {"fp8": "dense fp8", "fp8_block": "dense fp8 by blocks", "nvfp4": "dense nvfp4"}
_STARTS = 4
_SEED = 0
_LOSS = "soft_l1"


@dataclasses.dataclass(frozen=True)
class Errors:
    """Mean errors of one GPU's fit, as fractions, by what the fit had not seen; families in sample and held out."""

    gpu: str
    rows: int
    models: int
    free: int
    in_sample: float
    model_out: float
    tp_out: float
    family_out: float
    aside_in_sample: float
    aside_model_out: float
    dense_in_sample: float
    dense_alone: float
    by_family: Mapping[str, tuple[float, float]]
    cpu_s: float


def main() -> None:
    """Fit every GPU, print the table, write it."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.kinds", description=__doc__)
    options.add_argument("gpus", nargs="*", default=GPUS)
    options.add_argument("--out", type=Path, default=ROOT / "docs" / "kinds.json")
    given = options.parse_args()
    known = json.loads(given.out.read_text()) if given.out.exists() else {}
    for gpu in given.gpus:
        found = measure(gpu)
        known[gpu] = dataclasses.asdict(found)
        show(Console(), [found])
        given.out.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def measure(gpu: str) -> Errors:
    """All errors of one GPU's campaigns."""
    began = time.process_time()
    hardware = Hardware(gpu, dict(gpu_specs()[gpu].values))
    model = latency_model("roofline-v4")
    campaigns = load_campaigns(ROOT / "ground_truth", gpu, (), hardware, [model.name])
    data, _ = leave_out_incomputable(model, build_dataset(campaigns, MODEL_FLOOR))
    problem = Problem(model, hardware, data, (), _LOSS)
    asked = Question(starts=_STARTS, seed=_SEED)
    solution = solve(problem, asked)
    frame = data.frame.assign(
        label=data.frame["model"] + " " + data.frame["dtype"],
        family=[
            _family(m, t) for m, t in zip(data.frame["model"], data.frame["dtype"], strict=True)
        ],
        phase=data.table.phases,
    )
    aside = frame["model"].str.startswith(ASIDE).to_numpy()
    score = functools.partial(_score, frame, data.measured_us)
    seen = score(model.predict_us(data.table, solution.hardware))
    again = functools.partial(refit, asked=dataclasses.replace(asked, starts=1))

    def unseen(column: str) -> "pd.Series[float]":
        labels = frame[column].factorize()[0]
        return score(predict_parts(problem, Split(column, labels), again, _SEED))

    by_model, by_tp, by_family = unseen("label"), unseen("tp"), unseen("family")
    kept = frame.loc[~aside, "label"].unique()
    apart = frame.loc[aside, "label"].unique()
    dense = frame.loc[frame["family"] == "dense", "label"].unique()
    families = frame.groupby("family")["label"].unique()
    low = [f for f in families.index if f != "dense" and f not in ("Mixtral", "gpt-oss", "Kimi-K2")]
    members = [label for family in low for label in families[family]]
    return Errors(
        gpu=gpu,
        rows=len(frame),
        models=frame["label"].nunique(),
        free=len(solution.problem.free),
        in_sample=seen[kept].mean(),
        model_out=by_model[kept].mean(),
        tp_out=by_tp[kept].mean(),
        family_out=by_family[members].mean(),
        aside_in_sample=seen[apart].mean(),
        aside_model_out=by_model[apart].mean(),
        dense_in_sample=seen[dense].mean(),
        dense_alone=_alone(gpu, hardware, frame, score),
        by_family={f: (seen[m].mean(), by_model[m].mean()) for f, m in families.items()},
        cpu_s=round(time.process_time() - began, 1),
    )


def _alone(
    gpu: str, hardware: Hardware, frame: pd.DataFrame, score: Callable[[Floats], "pd.Series[float]"]
) -> float:
    """roofline-v3's error on dense models in 16 bits, fitted to them alone."""
    model = latency_model("roofline-v3")
    campaigns = load_campaigns(ROOT / "ground_truth", gpu, (), hardware, ["roofline-v4"])
    data, _ = leave_out_incomputable(model, build_dataset(campaigns, MODEL_FLOOR))
    rows = (data.frame["dtype"] == "bf16") & ~data.frame["model"].str.startswith(tuple(_OF_MODEL))
    problem = Problem(model, hardware, data.take(rows.to_numpy()), (), _LOSS)
    found = solve(problem, Question(starts=_STARTS, seed=_SEED)).hardware
    part = problem.data
    error = np.abs(model.predict_us(part.table, found) / part.measured_us - 1.0)
    labels = part.frame.assign(phase=part.table.phases, error=error)
    by_phase = labels.groupby(["model", "phase"])["error"].mean()
    return float(by_phase.groupby("model").mean().mean())


def _score(frame: pd.DataFrame, measured_us: Floats, predicted_us: Floats) -> "pd.Series[float]":
    """The mean over phases of the mean error, by model and type."""
    error = np.abs(predicted_us / measured_us - 1.0)
    by_phase = frame.assign(error=error).groupby(["label", "phase"])["error"].mean()
    return by_phase.groupby("label").mean()


def _family(model: str, dtype: str) -> str:
    named = next((family for start, family in _OF_MODEL.items() if model.startswith(start)), None)
    return named or _OF_TYPE.get(dtype, "dense")


def show(console: Console, found: list[Errors]) -> None:
    """One line a GPU."""
    columns = [
        "rows",
        "models",
        "free",
        "in sample",
        "model out",
        "TP out",
        "family out",
        "apart",
        "CPU s",
    ]
    printed = rich_table("roofline-v4, models of every kind", ["GPU", *columns], columns, [])
    for one in found:
        errors = (one.in_sample, one.model_out, one.tp_out, one.family_out)
        percent = [f"{error:.1%}" for error in errors]
        apart = f"{one.aside_in_sample:.1%} / {one.aside_model_out:.1%}"
        counts = (f"{one.rows:,}", str(one.models), str(one.free))
        printed.add_row(one.gpu, *counts, *percent, apart, f"{one.cpu_s:.0f}")
    console.print(printed)
    for one in found:
        console.print(
            f"{one.gpu}: dense in 16 bits {one.dense_in_sample:.1%}, roofline-v3 alone {one.dense_alone:.1%}"
        )
        for family, (seen, unseen) in one.by_family.items():
            console.print(f"  {family}: {seen:.1%}, a model of it out {unseen:.1%}")


if __name__ == "__main__":
    main()
