"""The rows of ``serving`` tables that can be simulated, with the figures that were measured."""

import contextlib
import dataclasses
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.campaign.campaign import Campaign
from calibrate.campaign.serving_rules import overloaded
from calibrate.campaign.step_rows import load_model
from calibrate.records.errors import CalibrateError
from calibrate.serving.point import SEEDS, Row, ServingPoint, number, read_point
from calibrate.serving.thresholds import SKEWED
from sim.errors import ArchitectureError, HardwareError, WorkloadError
from sim.hardware import Hardware, is_engine
from sim.models.latency_model import LatencyModel
from sim.steps.batch import Floats

METRICS = ("ttft", "itl", "e2e")
STATISTICS = ("mean", "p50", "p90", "p99")
FIGURES = tuple((metric, statistic) for metric in METRICS for statistic in STATISTICS)
"""What may be measured of a load point, in ms: the columns of :attr:`ServingPoints.measured_ms`."""

_TAILS = [statistic != "mean" for _, statistic in FIGURES]


@dataclasses.dataclass(frozen=True, eq=False)
class ServingPoints:
    """n load points. ``frame`` has their labels: campaign, line, model, tp, engine, run, stage, load.

    ``measured_ms`` (n, 12) has the columns :data:`FIGURES`, NaN where a row gives no such figure. ITL is
    (E2E − TTFT)/(output − 1) wherever both are given, for what clients call ITL may count stream chunks.
    ``assumptions`` says what rows did not say, ``left_out`` which rows are not among the points, and why.
    """

    points: tuple[ServingPoint, ...]
    frame: pd.DataFrame
    measured_ms: Floats
    assumptions: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.points)

    @property
    def skewed(self) -> NDArray[np.bool_]:
        """The mean times to first token that a few requests made, by their percentiles, shape (n, 12)."""
        median, tail = (FIGURES.index(("ttft", statistic)) for statistic in ("p50", "p99"))
        few = self.measured_ms[:, tail] > SKEWED * self.measured_ms[:, median]
        skewed = np.zeros(self.measured_ms.shape, dtype=bool)
        skewed[few, FIGURES.index(("ttft", "mean"))] = True
        return skewed

    def take(self, rows: NDArray[np.bool_]) -> "ServingPoints":
        """The points of some rows."""
        kept = tuple(point for point, keep in zip(self.points, rows, strict=True) if keep)
        frame = self.frame[rows].reset_index(drop=True)
        return dataclasses.replace(
            self, points=kept, frame=frame, measured_ms=self.measured_ms[rows]
        )


def serving_points(
    campaigns: Sequence[Campaign], hardware: Hardware, model: LatencyModel, engine: str = ""
) -> ServingPoints:
    """The load points of some campaigns to fit to: those that were not overloaded and that ``model`` can compute.

    Where an ``engine`` is named, with or without its version, only those of it. Raises CalibrateError if there is
    none, saying what was left out.
    """
    points = usable_points(campaigns, hardware, model)
    if engine:
        points = of_engine(points, engine)
    if not len(points):
        raise CalibrateError(" ".join(["no serving row to fit to.", *points.left_out]))
    return _named(points) if points.frame["engine"].nunique() > 1 else points


def _named(points: ServingPoints) -> ServingPoints:
    """Those of several engines that name theirs: what an engine adds is written under its name."""
    named = np.array([bool(name) for name in points.frame["engine"]], dtype=bool)
    note = f"{int((~named).sum())} serving rows left out: they name no engine, and others do."
    left_out = points.left_out if named.all() else (*points.left_out, note)
    return dataclasses.replace(points.take(named), left_out=left_out)


def served_models(campaigns: Sequence[Campaign], engine: str) -> list[str]:
    """The models that can be computed of the rows of an engine, named with or without its version."""
    found = {}
    for one in calm_rows(campaigns, Counter()):
        if is_engine(str(one.row.get("engine") or ""), engine):
            with contextlib.suppress(ArchitectureError):
                arch = load_model(one.campaign.folder, str(one.row["model"]))
                found[arch.name] = arch
    return sorted(found)


def of_engine(points: ServingPoints, engine: str) -> ServingPoints:
    """The load points of an engine, named with or without its version; the others are said to be left out."""
    wanted = np.array([is_engine(str(name), engine) for name in points.frame["engine"]], dtype=bool)
    others = ", ".join(sorted({str(name) or "none" for name in points.frame["engine"][~wanted]}))
    note = (
        f"{int((~wanted).sum())} serving rows left out: of other engines than {engine} ({others})."
    )
    left_out = points.left_out if wanted.all() else (*points.left_out, note)
    return dataclasses.replace(points.take(wanted), left_out=left_out)


def usable_points(
    campaigns: Sequence[Campaign], hardware: Hardware, model: LatencyModel
) -> ServingPoints:
    """The load points of some campaigns that were not overloaded and that ``model`` can compute, which may be none."""
    left_out: Counter[str] = Counter()
    return read_rows(calm_rows(campaigns, left_out), hardware, model, left_out)


@dataclasses.dataclass(frozen=True, eq=False)
class CalmRow:
    """A row of a ``serving`` table whose engine was not overloaded; ``warm`` if its prompts were asked before."""

    campaign: Campaign
    row: Row
    warm: bool


def calm_rows(campaigns: Sequence[Campaign], left_out: Counter[str]) -> list[CalmRow]:
    """The rows that were not overloaded; ``left_out`` counts the others."""
    return [row for campaign in campaigns for row in _calm(campaign, left_out)]


def read_rows(
    rows: Iterable[CalmRow],
    hardware: Hardware,
    model: LatencyModel,
    left_out: Counter[str],
    seeds: Sequence[int] = SEEDS,
    most: int = sys.maxsize,
) -> ServingPoints:
    """The load points of the rows that ``model`` can compute, the first ``most`` of them; see :func:`read_point`."""
    assumed: Counter[str] = Counter()
    points: list[ServingPoint] = []
    labels, measured = [], []
    for one in rows:
        if len(points) == most:
            break
        figures = _measured(one.row, one.campaign.info.itl)
        if np.isnan(figures).all():
            left_out["no latency in it"] += 1
            continue
        try:
            point, taken = read_point(
                one.campaign, one.row, hardware, model, warm=one.warm, seeds=seeds
            )
        except (ArchitectureError, HardwareError, WorkloadError) as error:
            left_out[str(error)] += 1
            continue
        assumed.update(taken)
        tails = not np.isnan(figures[_TAILS]).all()
        points.append(dataclasses.replace(point, tails=tails))
        measured.append(figures)
        labels.append(_labels(one.campaign, one.row))
    return ServingPoints(
        points=tuple(points),
        frame=pd.DataFrame(labels),
        measured_ms=np.reshape(measured, (len(points), len(FIGURES))),
        assumptions=tuple(
            f"{count} of {len(points)} serving rows {what}." for what, count in assumed.items()
        ),
        left_out=tuple(f"{count} serving rows left out: {why}." for why, count in left_out.items()),
    )


def _calm(campaign: Campaign, left_out: Counter[str]) -> Iterator[CalmRow]:
    """The rows that were not overloaded, each with whether an earlier stage of its run asked the same prompts."""
    if not len(campaign.serving):
        return
    seen: set[object] = set()
    for row, crowded in zip(
        campaign.serving.to_dict("records"), overloaded(campaign.serving), strict=True
    ):
        run = row.get("run_id", "")
        if crowded:
            left_out["the engine was overloaded: its queue, not its steps, made the figures"] += 1
        else:
            yield CalmRow(campaign, row, run in seen)
        if run:
            seen.add(run)


def _labels(campaign: Campaign, row: Row) -> dict[str, Any]:
    run = str(row.get("run_id") or "") or f"line {row['line']}"
    texts = {name: str(row.get(name) or "") for name in ("engine", "dtype", "stage", "load")}
    return {
        "campaign": campaign.name,
        "line": row["line"],
        "model": row["model"],
        "tp": int(row["tp"]),
        **texts,
    } | {"run": f"{campaign.name}/{run}"}


def _measured(row: Row, itl: str) -> Floats:
    """The figures (12,) in ms; a client's own ITL counts as far as ``itl`` says that it is one of tokens."""
    figures = {(m, s): number(row, f"{m}_ms_{s}", np.nan) for m, s in FIGURES}
    gaps = number(row, "output_tokens_mean", np.nan) - 1.0
    unlike = {"per-token": (), "per-chunk": STATISTICS}.get(itl, STATISTICS[1:])
    figures.update({("itl", statistic): np.nan for statistic in unlike})
    between = figures["e2e", "mean"] - figures["ttft", "mean"]
    if not np.isnan(between):
        figures["itl", "mean"] = between / gaps if gaps > 0 else np.nan
    return np.array([value if value > 0 else np.nan for value in figures.values()])
