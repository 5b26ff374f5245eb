"""roofline-v4 on models of every kind, as `make kinds` does: errors in sample and of what a fit has not seen.

Families that chose no part of the form (:data:`ASIDE`) are reported apart. Every figure is a mean over models of the
mean over phases; a model in another weight type counts as another model.
"""

import argparse
import dataclasses
import functools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from threadpoolctl import threadpool_limits

from benchmarks.accuracy.datasets import ROOT
from calibrate.campaign.campaign import load_campaigns
from calibrate.campaign.folders import campaign_folders
from calibrate.cli.console import table as rich_table
from calibrate.fitting.objective import MODEL_FLOOR, Dataset, build_dataset, leave_out_incomputable
from calibrate.fitting.problem import Problem
from calibrate.job.solution import Question, refit, solve
from calibrate.trust.crossval import Split, predict_parts
from sim.hardware import Hardware, gpu_specs
from sim.models.latency_model import LatencyModel
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
    "qwen3.5": "linear attention",
}
_OF_TYPE = {"fp8": "dense fp8", "fp8_block": "dense fp8 by blocks", "nvfp4": "dense nvfp4"}
_CAMPAIGNS = "aiconfigurator"
_STARTS = 4
_SEED = 0
_LOSS = "soft_l1"


@dataclasses.dataclass(frozen=True)
class Errors:
    """Mean errors on one GPU, as fractions, in sample and by what a fit had not seen.

    ``in_sample_beside`` are those of the same models, fitted together with the ones apart. ``by_family`` are in sample,
    a model out and the family out; ``apart``, by model, in sample and the model out.
    """

    gpu: str
    rows: int
    models: int
    free: int
    in_sample: float
    model_out: float
    tp_out: float
    family_out: float
    in_sample_beside: float
    apart_in_sample: float
    apart_model_out: float
    dense_in_sample: float
    dense_alone: float
    by_family: Mapping[str, tuple[float, float, float]]
    apart: Mapping[str, tuple[float, float]]
    cpu_s: float


def main() -> None:
    """Fit every GPU, print the table, write it."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.kinds", description=__doc__)
    options.add_argument("gpus", nargs="*", default=GPUS)
    options.add_argument("--out", type=Path, default=ROOT / "docs" / "kinds.json")
    given = options.parse_args()
    known = json.loads(given.out.read_text()) if given.out.exists() else {}
    for gpu in given.gpus:
        with threadpool_limits(limits=1, user_api="blas"):  # as `calibrate fit` does
            found = measure(gpu)
        known[gpu] = dataclasses.asdict(found)
        show(Console(), [found])
        given.out.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def measure(gpu: str) -> Errors:
    """All errors of one GPU's campaigns: of the families that chose the form, fitted alone, and of those apart."""
    began = time.process_time()
    hardware = Hardware(gpu, dict(gpu_specs()[gpu].values))
    model = latency_model("roofline-v4")
    everything = _steps(gpu, hardware, model)
    chose = ~everything.frame["model"].str.startswith(ASIDE).to_numpy()
    kept, whole = _Fitted.of(model, hardware, everything.take(chose)), None
    if not chose.all():
        whole = _Fitted.of(model, hardware, everything)
    by_model, by_family = kept.unseen("label"), kept.unseen("family")
    families = kept.frame.groupby("family")["label"].unique()
    special = [label for family in families.index.drop("dense") for label in families[family]]
    apart = [label for label in (whole or kept).seen.index if label not in kept.seen.index]
    apart_out = whole.unseen("label") if whole else by_model
    return Errors(
        gpu=gpu,
        rows=len(everything.frame),
        models=len(kept.seen) + len(apart),
        free=len(kept.problem.free),
        in_sample=kept.seen.mean(),
        model_out=by_model.mean(),
        tp_out=kept.unseen("tp").mean(),
        family_out=by_family[special].mean(),
        in_sample_beside=(whole or kept).seen[kept.seen.index].mean(),
        apart_in_sample=(whole or kept).seen[apart].mean(),
        apart_model_out=apart_out[apart].mean(),
        dense_in_sample=kept.seen[families["dense"]].mean(),
        dense_alone=_alone(kept.problem.data, hardware, families["dense"]),
        by_family={
            str(family): (kept.seen[of].mean(), by_model[of].mean(), by_family[of].mean())
            for family, of in families.items()
        },
        apart={label: ((whole or kept).seen[label], apart_out[label]) for label in apart},
        cpu_s=round(time.process_time() - began, 1),
    )


def _steps(gpu: str, hardware: Hardware, model: LatencyModel) -> Dataset:
    folders = campaign_folders(ROOT / "ground_truth", gpu)
    names = [folder.name for folder in folders if folder.name.startswith(_CAMPAIGNS)]
    campaigns = load_campaigns(ROOT / "ground_truth", gpu, names, hardware, [model.name])
    return leave_out_incomputable(model, build_dataset(campaigns, MODEL_FLOOR))[0]


@dataclasses.dataclass(frozen=True)
class _Fitted:
    """A problem with its labels, whether starts of its search agreed, and its solution's errors by model and type."""

    problem: Problem
    agreed: bool
    frame: pd.DataFrame
    seen: "pd.Series[float]"

    @classmethod
    def of(cls, model: LatencyModel, hardware: Hardware, data: Dataset) -> "_Fitted":
        names = zip(data.frame["model"], data.frame["dtype"], strict=True)
        frame = data.frame.assign(
            label=data.frame["model"] + " " + data.frame["dtype"],
            family=[_family(name, dtype) for name, dtype in names],
            phase=data.table.phases,
        )
        problem = Problem(model, hardware, data, (), _LOSS)
        solution = solve(problem, Question(starts=_STARTS, seed=_SEED))
        predicted_us = model.predict_us(data.table, solution.hardware)
        problem = dataclasses.replace(problem, free=solution.problem.free)
        agreed = solution.search.agreed
        return cls(problem, agreed, frame, _score(frame, data.measured_us, predicted_us))

    def unseen(self, column: str) -> "pd.Series[float]":
        """Errors of rows predicted by fits without those of the same ``column``."""
        asked = Question(starts=_STARTS, seed=_SEED)
        again = functools.partial(refit, asked=asked, quickly=self.agreed)
        split = Split(column, self.frame[column].factorize()[0])
        predicted_us = predict_parts(self.problem, split, again, _SEED)
        return _score(self.frame, self.problem.data.measured_us, predicted_us)


def _alone(data: Dataset, hardware: Hardware, dense: Sequence[str]) -> float:
    """roofline-v3's error on dense models in 16 bits, fitted to them alone."""
    labels = data.frame["model"] + " " + data.frame["dtype"]
    model = latency_model("roofline-v3")
    part, _ = leave_out_incomputable(model, data.take(labels.isin(dense).to_numpy()))
    return float(_Fitted.of(model, hardware, part).seen.mean())


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
        apart = f"{one.apart_in_sample:.1%} / {one.apart_model_out:.1%}"
        counts = (f"{one.rows:,}", str(one.models), str(one.free))
        printed.add_row(one.gpu, *counts, *percent, apart, f"{one.cpu_s:.0f}")
    console.print(printed)
    for one in found:
        console.print(f"beside those apart {one.in_sample_beside:.1%}")
        console.print(f"dense {one.dense_in_sample:.1%}, by roofline-v3 {one.dense_alone:.1%}")
        of_each: dict[str, tuple[float, ...]] = {**one.by_family, **one.apart}
        for name, several in of_each.items():
            console.print(name, " / ".join(f"{error:.1%}" for error in several))


if __name__ == "__main__":
    main()
