"""How far off servers are predicted, each data set by each treatment, as `make scoreboard` does: docs/scoreboard.md.

The latency model is roofline-v4 with its defaults: no treatment but the named one has seen anything. Tuned are an
engine's own terms, by the short fit that `calibrate fit` makes, on a draw of 24 runs of each engine.
"""

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

from benchmarks.accuracy.datasets import ROOT
from benchmarks.accuracy.peers import PEERS
from calibrate.campaign.campaign import Campaign, load_campaigns
from calibrate.importers import read_source, write_campaign
from calibrate.parameters.start import guide_hardware
from calibrate.serving.engine_problem import engine_problem
from calibrate.serving.engine_rows import EngineRows, rows_of_engines
from calibrate.serving.figures import Replay
from calibrate.serving.fit import ServingSolution
from calibrate.serving.point import SEEDS
from calibrate.serving.points import FIGURES, METRICS
from calibrate.serving.quick_fit import solve_quickly
from calibrate.serving.thresholds import DRAWS
from sim.hardware import Hardware
from sim.models.registry import latency_model
from sim.serving.engine_kinds import engine_kind
from sim.steps.batch import Floats

MODEL = latency_model("roofline-v4")
GPUS = ("H100", "H200", "B200", "B300", "GB200")
SHARED = ("inference-perf", "otel", "guidellm")
Row = dict[str, Any]
UNTUNED = ("no engine", "engine named")
TUNED = ("tuned elsewhere", "model out", "run out")
_MEANS = [FIGURES.index((metric, "mean")) for metric in METRICS]
_LARGEST = 0.1  # share of the rows, those furthest off, whose common traits are told
_OFTEN = 2.0  # how many times as often a trait is among them as among all
_FEWEST = 5  # of them that share a trait


@dataclasses.dataclass(frozen=True, eq=False)
class Server:
    """One engine's runs in one campaign, as they are predicted and tuned."""

    gpu: str
    campaign: str
    rows: EngineRows
    hardware: Hardware

    @property
    def kind(self) -> str:
        """The engine without its version; runs that name none are vLLM's."""
        return self.rows.engine.split()[0]

    @property
    def named(self) -> Hardware:
        """The GPU with what is known of the engine's kind."""
        return engine_kind(self.rows.engine).on(None, self.hardware)

    def errors(self, figures_ms: Floats) -> list[float | None]:
        """Mean errors of TTFT, ITL and E2E; None where one was not measured."""
        off = np.abs(figures_ms / self.rows.points.measured_ms - 1.0)[:, _MEANS]
        known = ~np.isnan(off)
        return [float(off[known[:, k], k].mean()) if known[:, k].any() else None for k in range(3)]

    def simulated(self, hardware: Hardware) -> Floats:
        """The figures of every run, shape (n, 12), in ms."""
        points = self.rows.points
        replay = Replay.of(points.points, [SEEDS[:DRAWS]] * len(points))
        return replay.figures_ms(MODEL, hardware)

    def solved(self, cv: Sequence[str] = ()) -> ServingSolution | None:
        """The engine's own terms, a model left out where there are two, else runs; None where nothing shows any."""
        return solve_quickly(engine_problem(self.rows, MODEL, self.named, "soft_l1", 0.05, cv=cv))


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """What the runs of one server say by themselves: errors by treatment, own terms, figures where left out."""

    errors: dict[str, list[float | None] | None]
    terms: dict[str, float]
    held: Floats | None


def main() -> None:
    """Score every data set, write the page and the figures."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.scoreboard", description=__doc__)
    options.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "ground_truth")
    options.add_argument("--out", type=Path, default=ROOT / "docs" / "scoreboard.md")
    options.add_argument("--jobs", type=int, default=-1)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        servers = [*_shared(given.shared, Path(folder)), *_shipped()]
    parallel = joblib.Parallel(n_jobs=given.jobs)
    measured = parallel(joblib.delayed(measure)(one) for one in servers)
    both = list(zip(servers, measured, strict=True))
    terms = [terms_elsewhere(one, both) for one in servers]
    elsewhere = parallel(map(joblib.delayed(tuned_elsewhere), servers, terms))
    rows = list(map(as_row, servers, measured, elsewhere))
    far = divergences([(one, found.held) for one, found in both])
    text = json.dumps({"rows": rows, "divergences": far}, indent=1)
    given.out.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    given.out.write_text("\n".join(page(rows, far)) + "\n", encoding="utf-8")


def _shared(shared: Path, folder: Path) -> Iterator[Server]:
    for name in SHARED:
        if (shared / name).is_dir():
            imported = read_source(name, str(shared / name), "H100")
            write_campaign(imported, folder / "H100" / name)
            yield from _servers("H100", load_campaigns(folder, "H100", [name]))


def _shipped() -> Iterator[Server]:
    for gpu in GPUS:
        paths = sorted((ROOT / "ground_truth" / gpu).glob("*/serving.csv"))
        for path in paths:
            name = path.parent.name
            yield from _servers(gpu, load_campaigns(ROOT / "ground_truth", gpu, [name]))


def _servers(gpu: str, campaigns: Sequence[Campaign]) -> Iterator[Server]:
    hardware, _ = guide_hardware(gpu, {}, MODEL.name)
    named = [_with_engine(campaign) for campaign in campaigns]
    for rows in rows_of_engines(named, hardware, MODEL):
        yield Server(gpu, campaigns[0].name, rows, hardware)


def _with_engine(campaign: Campaign) -> Campaign:
    """The campaign, its rows vLLM's where they name no engine: the shared servers all are."""
    if not len(campaign.serving):
        return campaign
    engine = campaign.serving.get("engine", pd.Series(None, campaign.serving.index, dtype=object))
    named = engine.where(engine.notna() & (engine != ""), "vllm")
    return dataclasses.replace(campaign, serving=campaign.serving.assign(engine=named))


def measure(one: Server) -> Measured:
    """Every treatment that needs no other data set."""
    own, folds = one.solved(), one.solved(("5",))
    models = own.held_out_ms.get("model") if own else None
    runs = folds.held_out_ms.get("folds") if folds else None
    errors = {
        "no engine": one.errors(one.simulated(one.hardware)),
        "engine named": one.errors(one.simulated(one.named)),
        "model out": None if models is None else one.errors(models),
        "run out": None if runs is None else one.errors(runs),
    }
    return Measured(errors, own.values if own else {}, runs if models is None else models)


def tuned_elsewhere(one: Server, terms: dict[str, float]) -> list[float | None] | None:
    """Errors with the terms of other data sets; None where there are none."""
    return one.errors(one.simulated(one.named.with_values(terms))) if terms else None


def terms_elsewhere(one: Server, others: Sequence[tuple[Server, Measured]]) -> dict[str, float]:
    """Medians of the terms that other data sets of this kind of engine give, none with a model of this one."""
    own = set(one.rows.points.frame["model"])
    found = [
        measured.terms
        for other, measured in others
        if other.kind == one.kind and not own & set(other.rows.points.frame["model"])
    ]
    return {str(name): float(value) for name, value in pd.DataFrame(found).median().items()}


def as_row(one: Server, measured: Measured, elsewhere: list[float | None] | None) -> Row:
    """A row of the page's tables."""
    labels = {"gpu": one.gpu, "campaign": one.campaign, "engine": one.rows.engine}
    errors = {**measured.errors, "tuned elsewhere": elsewhere}
    return {**labels, "runs": len(one.rows.points), "of": one.rows.rows, "errors": errors}


def divergences(held: Sequence[tuple[Server, Floats | None]]) -> list[Row]:
    """What the tenth of the runs furthest off have in common, more often than others."""
    frames = []
    for one, figures in held:
        if figures is not None:
            points = one.rows.points
            off = np.nanmean(np.abs(np.log(figures / points.measured_ms))[:, _MEANS], axis=1)
            loads = [str(point.workload.load) for point in points.points]
            frames.append(points.frame.assign(gpu=one.gpu, off=off, clients=loads))
    rows = pd.concat(frames, ignore_index=True)
    far = rows[rows["off"] >= rows["off"].quantile(1.0 - _LARGEST)]
    told = []
    for trait in ("model", "engine", "gpu", "tp", "dtype", "clients"):
        counts = far[trait].astype(str).value_counts()
        shares = rows[trait].astype(str).value_counts(normalize=True)
        for value, count in counts.items():
            often = count / len(far) / shares[value]
            if value and count >= _FEWEST and often >= _OFTEN:
                told.append(
                    {"trait": trait, "value": str(value), "rows": int(count), "times": float(often)}
                )
    return sorted(told, key=lambda one: -one["times"])


def page(rows: Sequence[Row], far: Sequence[Row]) -> Iterator[str]:
    """The lines of docs/scoreboard.md."""
    yield from (
        "# Scoreboard",
        "",
        "Made by `make scoreboard`, some minutes; scoreboard.json has the figures. Mean errors of the means of TTFT,",
        "ITL and end-to-end time in percent, on public runs of servers. roofline-v4 with its defaults: nothing is",
        "fitted to steps. A draw of at most 24 runs of each engine is scored and tuned to, as `calibrate fit` does;",
        "where a file names no engine, it is vLLM.",
        "",
        "## Untuned",
        "",
        "*No engine*: `simulate` as it is. *Engine named*: `--engine`, with what is known of its kind. Nothing has",
        "seen a server, but vLLM's sampler: 160 µs a step come from eight of the inference-perf runs.",
        "",
        *_table(rows, UNTUNED),
        "",
        "## Tuned",
        "",
        "*Tuned elsewhere*: the median terms of the other data sets of the engine, none with a model of this one.",
        "*Model out*, *run out*: of this data set, by terms that had not seen the model, or a fifth of the runs.",
        "",
        *_table(rows, TUNED),
        "",
        "## Known divergences",
        "",
        "Of the tenth of the runs that are furthest off when left out, what they share at least twice as often as all:",
        "",
        "| trait | | of them | times as often |",
        "|---|---|---|---|",
        *(
            f"| {one['trait']} | {one['value']} | {one['rows']} | {one['times']:.1f} |"
            for one in far
        ),
        "",
        "## What others publish",
        "",
        "On their own servers, or others on theirs; none is a figure of the runs above.",
        "",
        "| tool | figure | measure | data | by |",
        "|---|---|---|---|---|",
        *(
            f"| [{one.tool}]({one.address}) | {one.figure} | {one.measure} | {one.data} | {one.by} |"
            for one in PEERS
        ),
    )


def _table(rows: Sequence[Row], treatments: Sequence[str]) -> Iterator[str]:
    yield f"| GPU | runs of | engine | runs | {' | '.join(treatments)} |"
    yield "|---" * (4 + len(treatments)) + "|"
    for row in rows:
        cells = [_cell(row["errors"][name]) for name in treatments]
        yield (
            f"| {row['gpu']} | {row['campaign']} | {row['engine']} | {row['runs']} of {row['of']} | "
            f"{' | '.join(cells)} |"
        )


def _cell(errors: list[float | None] | None) -> str:
    if errors is None:
        return "–"
    return " / ".join("–" if one is None else f"{one:.0%}".rstrip("%") for one in errors)


if __name__ == "__main__":
    main()
