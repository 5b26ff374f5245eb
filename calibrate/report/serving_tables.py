"""What the page says of a fit to serving results: the errors of TTFT, ITL and end-to-end time by slice."""

import dataclasses
from collections.abc import Iterable, Mapping

from calibrate.report import texts
from calibrate.serving.summary import Served, ServingSummary, Tuned
from calibrate.trust.metrics import Errors

METRICS = {"ttft": "Time to first token", "itl": "Time per output token", "e2e": "End-to-end time"}
SPLITS = {
    "model": "one model out",
    "tp": "one TP out",
    "campaign": "one campaign out",
    "run": "one run out",
    "folds": "a part of the runs out",
}
_KINDS = {"model": "Model", "tp": "Tensor parallelism", "engine": "Engine"}


@dataclasses.dataclass(frozen=True)
class TunedRow:
    """A tuned parameter, and in words how far it moved."""

    parameter: Tuned
    change: str


@dataclasses.dataclass(frozen=True)
class SliceRow:
    """The errors of a slice: by metric, then by treatment; None for what was not measured."""

    kind: str
    label: str
    points: str
    errors: tuple[tuple[Errors | None, ...], ...]


@dataclasses.dataclass(frozen=True)
class ServingContent:
    """The section on serving.

    ``metrics`` are the names of those that were measured, ``treatments`` those of a fit (nothing tuned, tuned, one
    model out, …), and ``rows`` has for every slice an error of each treatment of each metric.
    """

    metrics: dict[str, str]
    treatments: tuple[str, ...]
    rows: tuple[SliceRow, ...]
    tuned: tuple[TunedRow, ...]


def serving_content(serving: ServingSummary | None) -> ServingContent | None:
    """The section on serving; None for a run that was not fitted to serving results."""
    if serving is None:
        return None
    held_out = {SPLITS.get(name, name): served for name, served in serving.held_out.items()}
    treatments = {"nothing tuned": serving.before, "tuned": serving.after, **held_out}
    metrics = {name: label for name, label in METRICS.items() if name in serving.after}
    slices = dict.fromkeys(name for metric in metrics for name in serving.after[metric])
    rows = [_row(name, metrics, treatments) for name in sorted(slices, key=_order)]
    if serving.medians:
        medians = _row("all", metrics, serving.medians)
        rows.insert(1, dataclasses.replace(medians, label="All, medians"))
    return ServingContent(
        metrics=metrics,
        treatments=tuple(treatments),
        rows=tuple(rows),
        tuned=tuple(TunedRow(one, texts.change(one.before, one.value)) for one in serving.tuned),
    )


def _order(slice_name: str) -> tuple[int, str]:
    kind, _, label = slice_name.partition(":")
    return (list(_KINDS).index(kind) + 1 if kind in _KINDS else 0, label)


def _row(name: str, metrics: Iterable[str], treatments: Mapping[str, Served]) -> SliceRow:
    kind, _, label = name.partition(":")
    errors = tuple(
        tuple(served.get(metric, {}).get(name) for served in treatments.values())
        for metric in metrics
    )
    points = [cell.n for cells in errors for cell in cells if cell]
    return SliceRow(
        kind=_KINDS.get(kind, ""),
        label=label or "All",
        points=str(max(points)) if len(set(points)) == 1 else f"{min(points)} to {max(points)}",
        errors=errors,
    )
