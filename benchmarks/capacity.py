"""Whether recommendations hold against measured servers: ``python -m benchmarks.capacity`` prints the figures.

Of every model, GPU and engine with eight measured loads or more, what the engine adds is fitted to its serving rows of
the other models on that GPU, on top of a fit to its kernels: as ``calibrate fit`` does it. Where the engine served no
other model, what is known of its kind stands. For twenty objectives a workload the best measured load that is predicted
to meet them is chosen: it is right where it does meet them and comes within 5% of the best that does. Bands hold the
errors on models that the fit had not seen; where it saw one only, those of parameters that no server tuned.
"""

import dataclasses
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.campaign.campaign import load_campaigns
from calibrate.capacity.server_errors import ServerErrors, untuned_errors
from calibrate.capacity.thresholds import BAND
from calibrate.fitting.objective import MODEL_FLOOR
from calibrate.job.calibration import fit
from calibrate.job.options import Options
from calibrate.job.tuning import added_times
from calibrate.parameters.start import guide_hardware
from calibrate.serving.engine_problem import engine_problem
from calibrate.serving.engine_rows import EngineRows, rows_of_engines
from calibrate.serving.figures import Replay
from calibrate.serving.point import SEEDS
from calibrate.serving.points import FIGURES, ServingPoints, usable_points
from calibrate.serving.quick_fit import solve_quickly
from sim.hardware import Hardware
from sim.models.registry import latency_model
from sim.serving.engine_kinds import named_kind
from sim.serving.lengths import Fixed, Lengths
from sim.steps.batch import Floats

ROOT = Path(__file__).resolve().parent.parent
MODEL = "roofline-v3"
GPUS = ("H100", "H200")
FEWEST_LOADS = 8
WITHIN = 0.05
QUANTILES = (0.2, 0.4, 0.6, 0.8, 1.0), (0.25, 0.5, 0.75, 1.0)
"""Of measured ITL and TTFT of a workload: the limits of its twenty objectives."""

_TTFT, _ITL = (FIGURES.index((metric, "mean")) for metric in ("ttft", "itl"))
_SHAPE = ["prompt", "output"]
_DRAWS = 400


@dataclasses.dataclass(frozen=True)
class Judged:
    """Of one model, GPU and engine: decisions, and of these right ones, those whose choice misses its objective, and
    those without a choice; the share of loads inside the bands of throughput, of so many."""

    group: str
    tuned_to: str
    decisions: int
    right: int
    missed: int
    none: int
    inside: float
    loads: int


def main() -> None:
    """Print a row for each group, and the whole."""
    judged = []
    for gpu in GPUS:
        for one in judge_gpu(gpu):
            print(_line(one), flush=True)
            judged.append(one)
    decisions = sum(one.decisions for one in judged)
    right = sum(one.right for one in judged)
    loads = [one.loads for one in judged]
    inside = float(np.average([one.inside for one in judged], weights=loads))
    print(
        f"all: {right} of {decisions} decisions right ({right / decisions:.0%}); "
        f"{BAND:.0%} bands hold {inside:.0%} of {sum(loads)} loads"
    )


def _line(one: Judged) -> str:
    return (
        f"{one.group} ({one.tuned_to}): {one.right} of {one.decisions} decisions right "
        f"({one.right / max(one.decisions, 1):.0%}; {one.missed} miss the objective, {one.none} find nothing); "
        f"{BAND:.0%} bands hold {one.inside:.0%} of {one.loads} loads"
    )


def judge_gpu(gpu: str) -> Iterator[Judged]:
    """Every group of a GPU's serving rows."""
    device = _device(gpu)
    model = latency_model(MODEL)
    folders = sorted(
        path.parent.name for path in (ROOT / "ground_truth" / gpu).glob("*/serving.csv")
    )
    campaigns = load_campaigns(ROOT / "ground_truth", gpu, folders, device)
    points = usable_points(campaigns, device, model)
    frame = points.frame.assign(family=points.frame["engine"].map(_family))
    for (name, family), rows in frame.groupby(["model", "family"]):
        mine = frame.index.isin(rows.index)
        if mine.sum() < FEWEST_LOADS:
            continue
        print(f"{gpu} {family} {name}: {mine.sum()} loads", file=sys.stderr)
        others = [
            dataclasses.replace(one, serving=one.serving[one.serving["model"] != name])
            for one in campaigns
            if len(one.serving)
        ]
        drawn = rows_of_engines(others, device, model)
        tuned = _tuned(rows["engine"].mode()[0], drawn, device)
        yield _judge(f"{gpu} {family} {name}", points.take(mine), tuned)


def _family(engine: str) -> str:
    return (engine.split() or [""])[0]


def _device(gpu: str) -> Hardware:
    """Parameters fitted to the steps of a GPU, composed of its kernels."""
    start, _ = guide_hardware(gpu, {}, MODEL)
    steps = load_campaigns(ROOT / "ground_truth", gpu, ["aiconfigurator-vllm-0.24.0"], start)
    result = fit(steps, start, Options(latency_model=MODEL, starts=1))
    return start.with_values(result.values)


@dataclasses.dataclass(frozen=True, eq=False)
class _Tuned:
    """What stands for an engine, and how far such parameters are off, as it is known of ``source``."""

    hardware: Hardware
    errors: ServerErrors
    source: str


def _tuned(engine: str, drawn: Sequence[EngineRows], device: Hardware) -> _Tuned:
    """What the engine adds by its rows, else by those of another version of it, else by its kind."""
    of_family = [one for one in drawn if _family(one.engine) == _family(engine)]
    best = sorted(of_family, key=lambda one: (one.engine != engine, -one.rows))
    for rows in best:
        times = added_times(rows.points, device, {})
        problem = engine_problem(
            rows, latency_model(MODEL), device.with_values(times), "soft_l1", MODEL_FLOOR
        )
        solution = solve_quickly(problem)
        if solution is not None:
            unseen = solution.held_out_ms.get("model")
            errors = untuned_errors(0) if unseen is None else _errors(rows.points, unseen)
            return _Tuned(solution.hardware, errors, f"{rows.engine}, other models")
    known = named_kind(engine).on(engine, device)
    return _Tuned(known, untuned_errors(0), "its kind alone")


def _judge(group: str, points: ServingPoints, tuned: _Tuned) -> Judged:
    model = latency_model(MODEL)
    replay = Replay.of(points.points, [SEEDS[:2]] * len(points))
    loads = _loads(points, replay.figures_ms(model, tuned.hardware))
    decided = [_decision(shape, limits) for shape in _shapes(loads) for limits in _limits(shape)]
    known = [one for one in decided if one is not None]
    inside = _inside(loads, tuned.errors)
    return Judged(
        group=group,
        tuned_to=tuned.source,
        decisions=len(known),
        right=known.count("right"),
        missed=known.count("missed"),
        none=known.count("none"),
        inside=float(inside.mean()),
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
        loads[f"{kind}_rate"] = _rate_per_gpu(loads, figures[:, _TTFT], figures[:, _ITL])
    return loads.dropna()


def _mean(lengths: Lengths) -> float:
    return float(lengths.tokens if isinstance(lengths, Fixed) else lengths.mean)  # type: ignore[attr-defined]


def _rate_per_gpu(loads: pd.DataFrame, ttft_ms: Floats, itl_ms: Floats) -> "pd.Series[float]":
    """Requests a second and GPU of a closed load, by Little's law."""
    e2e_s = (ttft_ms + (loads["output"] - 1.0) * itl_ms) / 1e3
    rate: pd.Series[float] = loads["clients"] / e2e_s / loads["tp"]
    return rate


def _shapes(loads: pd.DataFrame) -> list[pd.DataFrame]:
    return [part for _, part in loads.groupby(_SHAPE) if len(part) >= FEWEST_LOADS]


def _limits(shape: pd.DataFrame) -> list[tuple[float, float]]:
    """The twenty objectives of a workload: most ITL and most TTFT in ms, means."""
    itl = shape["measured_itl"].quantile(list(QUANTILES[0]))
    ttft = shape["measured_ttft"].quantile(list(QUANTILES[1]))
    return list(itertools.product(itl, ttft))


def _decision(shape: pd.DataFrame, limits: tuple[float, float]) -> str | None:
    """``right``, ``slower``, ``missed`` or ``none``; None where no measured load meets the objective."""
    meets = {
        kind: (
            (shape[f"{kind}_itl"] <= limits[0]) & (shape[f"{kind}_ttft"] <= limits[1])
        ).to_numpy()
        for kind in ("measured", "predicted")
    }
    if not meets["measured"].any():
        return None
    if not meets["predicted"].any():
        return "none"
    predicted, measured = (shape[f"{kind}_rate"].to_numpy() for kind in ("predicted", "measured"))
    chosen = int(np.where(meets["predicted"], predicted, -np.inf).argmax())
    if not meets["measured"][chosen]:
        return "missed"
    best = measured[meets["measured"]].max()
    return "right" if measured[chosen] >= (1.0 - WITHIN) * best else "slower"


def _errors(points: ServingPoints, predicted_ms: Floats) -> ServerErrors:
    """Measured over predicted of the rows that a fit had not seen."""
    ratio = points.measured_ms / predicted_ms
    known = ~np.isnan(ratio[:, [_TTFT, _ITL]]).any(axis=1)
    rows = points.frame[np.asarray(known)]
    return ServerErrors(
        itl=ratio[known, _ITL],
        ttft=ratio[known, _TTFT],
        model=rows["model"].astype(str).tolist(),
        tp=rows["tp"].to_numpy(np.float64),
        source="held out",
    )


def _inside(loads: pd.DataFrame, errors: ServerErrors) -> NDArray[np.bool_]:
    """Whether each measured throughput lies within the band of its prediction."""
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(_DRAWS):
        factors = np.array([errors.draw(rng, int(tp)) for tp in loads["tp"]])
        ttft = loads["predicted_ttft"].to_numpy() * factors[:, 1]
        itl = loads["predicted_itl"].to_numpy() * factors[:, 0]
        drawn.append(_rate_per_gpu(loads, ttft, itl))
    low, high = np.quantile(drawn, [0.5 - BAND / 2, 0.5 + BAND / 2], axis=0)
    measured = loads["measured_rate"].to_numpy()
    inside: NDArray[np.bool_] = (measured >= low) & (measured <= high)
    return inside


if __name__ == "__main__":
    main()
