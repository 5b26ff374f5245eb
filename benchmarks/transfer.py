"""What a transfer is worth, as `make transfer` measures it: every shipped GPU held out in turn, nothing fitted on it.

Errors are those of a fit, the mean over all steps of |predicted/measured − 1|, so that they stand beside those of
docs/accuracy.md. Five points are rows of the GPU's own campaign: those that `calibrate plan --transfer` would choose
among them, and ten random draws of five.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.accuracy.datasets import ROOT
from benchmarks.accuracy.transfer import DIMENSIONLESS
from calibrate.cli.console import table as rich_table
from calibrate.fitting.objective import MODEL_FLOOR, Dataset
from calibrate.fitting.problem import Problem
from calibrate.job.solution import Question, Solution, solve
from calibrate.job.sources import measure, places
from calibrate.job.transfer import Answer
from calibrate.planning.candidates import COUNTS
from calibrate.planning.design import choose_points
from calibrate.planning.experiment import set_up
from calibrate.planning.thresholds import HALVING_S
from calibrate.transfer.held_out import hold_out
from calibrate.transfer.measured import Measured
from calibrate.transfer.transferred import transfer
from calibrate.trust.metrics import errors
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.models.registry import PARAMETERS, latency_model

CHOSE = ("H100", "H200", "A100-SXM", "B200", "GB200")
"""The GPUs whose values, each held out among these five, chose what is shared and how much the guide's range weighs."""

MODEL = "roofline-v3"
OTHERS = ("roofline-v1", "roofline-v4")
POINTS = 5
_DRAWS = 10
_FEW_GPUS = 2
_STARTS = 4
_LOSS = "soft_l1"


@dataclasses.dataclass(frozen=True)
class Found:
    """One GPU held out: mean errors, as fractions, and shares inside of 90% intervals.

    ``error_few`` and ``error_many`` are those of steps on one or two GPUs, and on more. ``narrowing`` is how many times
    narrower the intervals became with five planned points, the geometric mean over parameters.
    """

    gpu: str
    link: str
    chose: bool
    rows: int
    own_fit: float
    of_h100: float | None
    transferred: float
    error_few: float
    error_many: float
    steps_inside: float
    values_inside: float
    planned: float
    random: float
    narrowing: float
    cpu_s: float


def main() -> None:
    """Hold every GPU out, print, write."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__)
    options.add_argument("--out", type=Path, default=ROOT / "docs" / "transfer.json")
    asked = options.parse_args()
    model = latency_model(MODEL)
    measured = _measured(model)
    found = [held_out(one, measured, model) for one in measured]
    show(Console(width=150), found)
    content = {
        "latency_model": MODEL,
        "gpus": [dataclasses.asdict(one) for one in found],
        "from_peaks_alone": {name: _from_peaks(latency_model(name)) for name in OTHERS},
    }
    asked.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _measured(model: LatencyModel) -> list[Measured]:
    return [measure(place, model) for place in places(ROOT / "ground_truth", model)]


def _from_peaks(model: LatencyModel) -> list[dict[str, object]]:
    """Every GPU held out, from its peaks alone."""
    return [dataclasses.asdict(one) for one in hold_out(_measured(model), model)]


def held_out(one: Measured, measured: Sequence[Measured], model: LatencyModel) -> Found:
    """One GPU from the others: from its peaks alone, and with five points of its own."""
    began = time.process_time()
    others = [other for other in measured if other is not one]
    answer = Answer(transfer(others, one.start, one.kind, model), tuple(others), (), ())
    (alone,) = [found for found in hold_out(measured, model) if found.gpu == one.gpu]
    planned = _fitted(one.data.take(_planned(one, answer, model)), answer, model)
    random = [_fitted(one.data.take(rows), answer, model) for rows in _random(len(one.data))]
    off = _off(one.data, answer.transferred.hardware, model)
    few = one.data.table.tp <= _FEW_GPUS
    return Found(
        gpu=one.gpu,
        link=one.kind.link,
        chose=one.gpu in CHOSE,
        rows=len(one.data),
        own_fit=one.error,
        of_h100=_of_h100(one, measured, model),
        transferred=alone.error,
        error_few=float(off[few].mean()),
        error_many=float(off[~few].mean()),
        steps_inside=alone.steps_inside,
        values_inside=alone.values_inside,
        planned=_error(one.data, planned.hardware, model),
        random=float(np.mean([_error(one.data, fit.hardware, model) for fit in random])),
        narrowing=_narrowing(planned),
        cpu_s=round(time.process_time() - began, 1),
    )


def _of_h100(one: Measured, measured: Sequence[Measured], model: LatencyModel) -> float | None:
    """The error with H100's shares and exponents, everything else as in the guide; None on H100 itself."""
    if one.gpu == "H100":
        return None
    (h100,) = [other for other in measured if other.gpu == "H100"]
    shares = {
        n: h100.hardware.values[n] for n in h100.stderr if PARAMETERS[n].unit == DIMENSIONLESS
    }
    return _error(one.data, one.start.with_values(shares), model)


def _error(data: Dataset, hardware: Hardware, model: LatencyModel) -> float:
    return errors(model.predict_us(data.table, hardware), data.measured_us).mape


def _off(data: Dataset, hardware: Hardware, model: LatencyModel) -> NDArray[np.float64]:
    return np.abs(model.predict_us(data.table, hardware) / data.measured_us - 1.0)


def _planned(one: Measured, answer: Answer, model: LatencyModel) -> NDArray[np.intp]:
    """Five rows of a GPU's campaign, as a plan that knows other GPUs' values chooses among them."""
    experiment = set_up(
        model,
        answer.transferred.hardware,
        one.data.table.architectures,
        _steps(one.data),
        None,
        replicates=1,
        seed=0,
        floor=MODEL_FLOOR,
        known=answer.spread(),
    )
    price_per_s = 2 * len(experiment.names) * float(np.log(2)) / HALVING_S
    rows = choose_points(
        experiment.candidates, experiment.start, experiment.noise, POINTS, price_per_s, np.inf
    )
    return np.sort(experiment.steps.index[rows].to_numpy(dtype=np.intp))


def _steps(data: Dataset) -> pd.DataFrame:
    """The rows as a plan takes candidates."""
    moments = data.table.moments
    counts = (moments[0], moments[1] + moments[3], moments[6], moments[7])
    return data.frame[["model", "tp", "dtype", "composed"]].assign(
        **{name: count.astype(np.int64) for name, count in zip(COUNTS, counts, strict=True)}
    )


def _random(rows: int) -> list[NDArray[np.intp]]:
    rng = np.random.default_rng(0)
    return [np.sort(rng.choice(rows, POINTS, replace=False)) for _ in range(_DRAWS)]


def _fitted(data: Dataset, answer: Answer, model: LatencyModel) -> Solution:
    problem = Problem(model, answer.transferred.hardware, data, (), _LOSS)
    return solve(problem, Question(starts=_STARTS, prior=answer.priors()))


def _narrowing(fit: Solution) -> float:
    pulls = [prior.pull for prior in fit.priors.values() if prior.pull is not None]
    return float(np.exp(-np.mean(np.log(pulls)) / 2))


def show(console: Console, found: Sequence[Found]) -> None:
    """A row a GPU, and the means."""
    shares = [
        *("own_fit", "of_h100", "transferred", "error_few", "error_many"),
        *("steps_inside", "values_inside", "planned", "random"),
    ]
    shown = rich_table("Each GPU held out", ["", "link", *shares, "narrowing"], shares)
    for one in found:
        name = f"{one.gpu}{' *' if one.chose else ''}"
        percent = [_percent([getattr(one, share)]) for share in shares]
        shown.add_row(name, one.link, *percent, f"{one.narrowing:.2f}")
    groups = {
        "NVLink": [one for one in found if one.link == "NVLink"],
        "PCIe": [one for one in found if one.link == "PCIe"],
        "chose nothing": [one for one in found if not one.chose],
        "all": list(found),
    }
    for name, those in groups.items():
        means = [_percent([getattr(one, share) for one in those]) for share in shares]
        shown.add_row(f"mean, {name}", "", *means, "")
    console.print(shown)
    console.print("* chose the form")


def _percent(several: Sequence[float | None]) -> str:
    """The mean of those that are known."""
    known = [one for one in several if one is not None]
    return f"{np.mean(known):.1%}" if known else "–"


if __name__ == "__main__":
    main()
