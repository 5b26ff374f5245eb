"""The results as tables of texts: the same cells go to the terminal and into the page."""

import dataclasses
from collections.abc import Sequence

from benchmarks.accuracy.evaluation import TREATMENTS, Evaluation
from benchmarks.accuracy.noise import Noise
from benchmarks.accuracy.peers import Published
from benchmarks.accuracy.serving import ServingRow
from benchmarks.accuracy.transfer import Transfer
from calibrate.cli.console import percent

PHASES = ("prefill", "decode", "mixed")
WORSE = " †"
"""Marks a fit that is worse than its start on rows it has not seen: `calibrate fit` would not write it."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Texts by row; columns from ``first_number`` on are aligned right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    first_number: int

    @property
    def right(self) -> tuple[str, ...]:
        """The columns of numbers."""
        return self.columns[self.first_number :]

    @property
    def markdown(self) -> str:
        """The table as the page has it."""
        rule = ["---"] * self.first_number + ["--:"] * len(self.right)
        return "\n".join(_line(cells) for cells in (self.columns, rule, *self.rows))


def headline(evaluations: Sequence[Evaluation], noise: Sequence[Noise]) -> Table:
    """The two models that need a configuration only, side by side: a row a data set."""
    floor = {one.data: one.mean for one in noise if one.phase == "all"}
    by_data: dict[str, dict[str, Evaluation]] = {}
    for one in evaluations:
        by_data.setdefault(one.data.name, {})[one.contender.label] = one
    rows = []
    for name, of in by_data.items():
        first, third = of["roofline-v1"], of["roofline-v3"]
        cells = (
            first.error("guide"),
            *(one.error(how) for one in (first, third) for how in ("model", "tp")),
        )
        rows.append((name, *map(percent, cells), percent(floor.get(name))))
    columns = (
        "steps of",
        "v1 guide",
        "v1 model out",
        "v1 TP out",
        "v3 model out",
        "v3 TP out",
        "noise",
    )
    return Table("In short", columns, tuple(rows), 1)


def steps(evaluations: Sequence[Evaluation]) -> Table:
    """Errors over all steps: a row for each data set and latency model, with a database of the GPU's own kernels."""
    return _errors("Steps: mean error", [one for one in evaluations if _is_own(one)], "all")


def by_phase(evaluations: Sequence[Evaluation]) -> list[Table]:
    """The same over the steps of each phase that occurs."""
    own = [one for one in evaluations if _is_own(one)]
    found = [
        _errors(f"{phase.capitalize()} steps: mean error", own, f"phase:{phase}")
        for phase in PHASES
    ]
    return [table for table in found if table.rows]


def reference(evaluations: Sequence[Evaluation]) -> Table:
    """The same over all steps with the database that came with the models."""
    given = [one for one in evaluations if not _is_own(one)]
    return _errors("With the reference database: mean error", given, "all")


def spread(evaluations: Sequence[Evaluation]) -> Table:
    """How errors of held-out predictions lie: with one model out, else one TP, else by run."""
    rows = tuple(
        (
            *_names(one),
            TREATMENTS[how],
            *map(percent, (of.mape, of.median_ape, of.p90_ape)),
            _signed(of.bias),
        )
        for one in evaluations
        if _is_own(one) and one.hardest
        for how in [one.hardest]
        for of in [one.errors[how]["all"]]
    )
    columns = ("steps of", "latency model", "held out", "mean", "median", "9 in 10 within", "bias")
    return Table("Spread of held-out errors", columns, rows, 3)


def transfer(found: Sequence[Transfer]) -> Table:
    """A row for each target and model."""
    rows = tuple(
        (
            *_names(one.target),
            percent(one.target.error("guide")),
            percent(one.shares["all"].mape),
            percent(one.everything["all"].mape),
            percent(one.target.error("run")),
        )
        for one in found
    )
    source = found[0].source.data.name if found else ""
    columns = (
        "steps of",
        "latency model",
        "guide",
        f"{source}'s shares",
        f"{source}'s values",
        "own fit, by run",
    )
    return Table(f"Transfer from {source}: mean error", columns, rows, 2)


def noise(found: Sequence[Noise]) -> Table:
    """A row for each data set and phase."""
    rows = tuple(
        (
            one.data,
            one.phase,
            f"{one.points:,}",
            f"{one.runs:,}",
            percent(one.mean),
            percent(one.median),
        )
        for one in found
    )
    return Table(
        "Replicates: deviation of one run",
        ("steps of", "phase", "points", "runs", "mean", "median"),
        rows,
        2,
    )


def serving(found: Sequence[ServingRow]) -> Table:
    """A row for each data set and treatment."""
    rows = tuple(
        (
            one.dataset,
            one.latency_model,
            one.treatment,
            f"{one.points:,}",
            *map(percent, (one.ttft, one.itl, one.e2e)),
        )
        for one in found
    )
    columns = ("runs of", "latency model", "treatment", "points", "TTFT", "ITL", "E2E")
    return Table("Serving: mean error", columns, rows, 3)


def peers(found: Sequence[Published], *, links: bool = True) -> Table:
    """A row for each published figure; with ``links`` to where it stands, in Markdown."""
    said = [f"[{one.by}]({one.address})" if links else one.by for one in found]
    rows = tuple(
        (one.tool, one.figure, one.measure, one.data, by)
        for one, by in zip(found, said, strict=True)
    )
    return Table("Published by others", ("tool", "figure", "measure", "data", "said by"), rows, 5)


def _errors(title: str, evaluations: Sequence[Evaluation], where: str) -> Table:
    rows = tuple(
        (
            *_names(one),
            f"{one.errors['guide'][where].n:,}",
            *(percent(one.error(how, where)) for how in TREATMENTS),
        )
        for one in evaluations
        if one.error("guide", where) is not None
    )
    return Table(title, ("steps of", "latency model", "steps", *TREATMENTS.values()), rows, 2)


def _signed(value: float) -> str:
    size = percent(abs(value))
    return size if float(size[:-1]) == 0 else f"{'−' if value < 0 else '+'}{size}"


def _is_own(one: Evaluation) -> bool:
    return one.contender.label == one.contender.model


def _names(one: Evaluation) -> tuple[str, str]:
    worse = one.result is not None and one.result.is_worse_than_start
    return one.data.name, one.contender.model + (WORSE if worse else "")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
