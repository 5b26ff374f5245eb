"""Whether recommendations hold against measured servers: ``python -m benchmarks.capacity`` prints the figures.

Of every model, GPU and engine with eight measured loads or more, what the engine adds is fitted to its serving rows of
the other models on that GPU, on top of a fit to its kernels: as ``calibrate fit`` does it, and taken to the model left
out as ``calibrate recommend`` does it. Where the engine served no other model, what is known of its kind stands. For
twenty objectives a workload the best measured load that is predicted to meet them is chosen: it is right where it does
meet them and comes within 5% of the best that does. Bands hold errors as large as those on models that the fit had not
seen; where it saw one only, those of parameters that no server tuned.
"""

import dataclasses
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.decisions import AS_PREDICTED, FEWEST_LOADS, outcomes, rate_per_gpu
from calibrate.campaign.campaign import load_campaigns
from calibrate.capacity.server_errors import ServerErrors, errors_as_stated, untuned_errors
from calibrate.capacity.thresholds import BAND
from calibrate.fitting.objective import MODEL_FLOOR, build_dataset, leave_out_incomputable
from calibrate.fitting.problem import Problem
from calibrate.job.solution import Question, solve
from calibrate.job.tuning import added_times
from calibrate.parameters.start import guide_hardware
from calibrate.serving.engine_problem import engine_problem
from calibrate.serving.engine_rows import EngineRows, rows_of_engines
from calibrate.serving.figures import Replay
from calibrate.serving.point import SEEDS
from calibrate.serving.points import FIGURES, ServingPoints, usable_points
from calibrate.serving.quick_fit import solve_quickly
from calibrate.serving.summary import ServingSummary, summarise
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.models.registry import latency_model
from sim.serving.engine_kinds import named_kind
from sim.serving.lengths import Fixed, Lengths
from sim.steps.batch import Floats

ROOT = Path(__file__).resolve().parent.parent
DENSE, KINDS = "roofline-v3", "roofline-v4"
GPUS = ("H100", "H200", "B200", "B300")
_TTFT, _ITL = (FIGURES.index((metric, "mean")) for metric in ("ttft", "itl"))
_DRAWS = 400
_LOSS = "soft_l1"


@dataclasses.dataclass(frozen=True)
class Judged:
    """Of one model, GPU and engine: decisions by outcome, as predicted and with parts measured
    (:func:`benchmarks.decisions.outcomes`); the share of loads inside the bands of throughput, of so many.
    """

    gpu: str
    engine: str
    served: str
    has_experts: bool
    tuned_to: str
    decided: dict[str, Counter[str]]
    inside: float
    loads: int


def main() -> None:
    """Print a row for each group; then the whole, and each GPU, each engine, dense models and those with experts."""
    judged = []
    for gpu in sys.argv[1:] or GPUS:
        for name in (DENSE, KINDS):
            for one in judge_gpu(gpu, latency_model(name)):
                print(
                    _line(f"{one.gpu} {one.engine} {one.served} ({one.tuned_to})", [one]),
                    flush=True,
                )
                judged.append(one)
    print(_line("all", judged))
    for name in ("gpu", "engine", "has_experts"):
        for value in sorted({getattr(one, name) for one in judged}):
            print(_line(f"{name} {value}", [one for one in judged if getattr(one, name) == value]))


def _line(group: str, judged: Sequence[Judged]) -> str:
    decided = {
        part: sum((one.decided[part] for one in judged), Counter[str]())
        for part in judged[0].decided
    }
    found = decided[AS_PREDICTED]
    total = max(found.total(), 1)
    parts = "; ".join(f"{part} {count['right'] / total:.0%}" for part, count in decided.items())
    loads = [one.loads for one in judged]
    inside = np.average([one.inside for one in judged], weights=loads)
    return (
        f"{group}: {found['right']} of {found.total()} decisions right ({found['missed']} miss the objective, "
        f"{found['none']} find nothing, {found['slower']} slower; {parts}); "
        f"{BAND:.0%} bands hold {inside:.0%} of {sum(loads)} loads"
    )


def judge_gpu(gpu: str, model: LatencyModel) -> Iterator[Judged]:
    """Every group of a GPU's serving rows: roofline-v3's of campaigns for any model, roofline-v4's of those for it."""
    folders = sorted(
        path.parent.name for path in (ROOT / "ground_truth" / gpu).glob("*/serving.csv")
    )
    campaigns = load_campaigns(ROOT / "ground_truth", gpu, folders)
    mine = [one for one in campaigns if (KINDS in one.info.latency_models) == (model.name == KINDS)]
    if not mine:
        return
    device = _device(gpu, model)
    points = usable_points(mine, device, model)
    frame = points.frame.assign(family=points.frame["engine"].map(_family))
    for (name, dtype, family), rows in frame.groupby(["model", "dtype", "family"]):
        judged = frame.index.isin(rows.index)
        if judged.sum() < FEWEST_LOADS:
            continue
        print(f"{gpu} {family} {name} {dtype}: {judged.sum()} loads", file=sys.stderr)
        others = [
            dataclasses.replace(one, serving=one.serving[one.serving["model"] != name])
            for one in campaigns
            if len(one.serving)
        ]
        drawn = rows_of_engines(others, device, model)
        tuned = _tuned(rows["engine"].mode()[0], str(name), drawn, model, device)
        yield _judge((gpu, str(family), f"{name} {dtype}"), points.take(judged), model, tuned)


def _family(engine: str) -> str:
    return (engine.split() or [""])[0]


def _device(gpu: str, model: LatencyModel) -> Hardware:
    """Parameters fitted to the steps of a GPU, composed of its kernels."""
    start, _ = guide_hardware(gpu, {}, model.name)
    folders = (ROOT / "ground_truth" / gpu).glob("aiconfigurator-*")
    composed = sorted(folder.name for folder in folders)
    kept = composed if model.name == KINDS else [n for n in composed if not n.endswith("-2026")]
    steps = load_campaigns(ROOT / "ground_truth", gpu, kept, start)
    data, _ = leave_out_incomputable(model, build_dataset(steps))
    return solve(Problem(model, start, data, (), _LOSS), Question(starts=1)).hardware


@dataclasses.dataclass(frozen=True, eq=False)
class _Tuned:
    """What stands for an engine, and how far such parameters are off, as it is known of ``source``."""

    hardware: Hardware
    errors: ServerErrors
    source: str


def _tuned(
    engine: str, served: str, drawn: Sequence[EngineRows], model: LatencyModel, device: Hardware
) -> _Tuned:
    """What the engine adds for a model not seen: by its rows, else by those of another version, else by its kind."""
    of_family = [one for one in drawn if _family(one.engine) == _family(engine)]
    best = sorted(of_family, key=lambda one: (one.engine != engine, -one.rows))
    for rows in best:
        summary = _summary(rows, model, device)
        if summary is None or summary.is_worse:
            continue
        known = dataclasses.replace(
            device, engines={rows.engine: summary.terms}, served={rows.engine: summary.models}
        )
        stated = errors_as_stated(summary, 0) if "model" in summary.held_out else None
        return _Tuned(
            named_kind(engine).on(rows.engine, known, [served]),
            stated or untuned_errors(0),
            f"{rows.engine}, other models",
        )
    return _Tuned(named_kind(engine).on(engine, device), untuned_errors(0), "its kind alone")


def _summary(rows: EngineRows, model: LatencyModel, device: Hardware) -> ServingSummary | None:
    """What a fit to the rows of an engine says; None where they show nothing of it."""
    times = added_times(rows.points, device, {})
    problem = engine_problem(rows, model, device.with_values(times), _LOSS, MODEL_FLOOR)
    solution = solve_quickly(problem)
    return None if solution is None else dataclasses.replace(summarise(solution), times=times)


def _judge(
    group: tuple[str, str, str], points: ServingPoints, model: LatencyModel, tuned: _Tuned
) -> Judged:
    gpu, engine, served = group
    replay = Replay.of(points.points, [SEEDS[:2]] * len(points))
    loads = _loads(points, replay.figures_ms(model, tuned.hardware))
    return Judged(
        gpu=gpu,
        engine=engine,
        served=served,
        has_experts=any(group.experts for group in points.points[0].arch.layer_groups),
        tuned_to=tuned.source,
        decided=outcomes(loads),
        inside=float(_inside(loads, tuned.errors).mean()),
        loads=len(loads),
    )


def _loads(points: ServingPoints, predicted_ms: Floats) -> pd.DataFrame:
    """A row a load: its workload, tp, requests in flight, latencies and throughput per GPU, measured and predicted."""
    rows = [
        {
            "prompt": _mean(one.workload.prompt) + one.workload.shared_tokens,
            "output": _mean(one.workload.output),
            "tp": one.tp,
            "clients": float(np.isfinite(one.workload.draw(0).arrival_us).sum()),
        }
        for one in points.points
    ]
    loads = pd.DataFrame(rows)
    for kind, figures in (("measured", points.measured_ms), ("predicted", predicted_ms)):
        loads[f"{kind}_ttft"] = figures[:, _TTFT]
        loads[f"{kind}_itl"] = figures[:, _ITL]
    return loads.dropna()


def _mean(lengths: Lengths) -> float:
    return float(lengths.tokens if isinstance(lengths, Fixed) else lengths.mean)  # type: ignore[attr-defined]


def _inside(loads: pd.DataFrame, errors: ServerErrors) -> NDArray[np.bool_]:
    """Whether each measured throughput lies within the band of its prediction."""
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(_DRAWS):
        factors = np.array([errors.draw(rng, int(tp)) for tp in loads["tp"]])
        ttft = loads["predicted_ttft"].to_numpy() * factors[:, 1]
        itl = loads["predicted_itl"].to_numpy() * factors[:, 0]
        drawn.append(rate_per_gpu(loads, ttft, itl))
    low, high = np.quantile(drawn, [0.5 - BAND / 2, 0.5 + BAND / 2], axis=0)
    measured = rate_per_gpu(loads, loads["measured_ttft"], loads["measured_itl"]).to_numpy()
    inside: NDArray[np.bool_] = (measured >= low) & (measured <= high)
    return inside


if __name__ == "__main__":
    main()
