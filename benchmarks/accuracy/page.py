"""Writes docs/accuracy.md, its pictures, and accuracy.json with every number of it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from benchmarks.accuracy import plots, tables
from benchmarks.accuracy.datasets import Absent
from benchmarks.accuracy.evaluation import MODELS, Evaluation, SliceErrors, guide_hardware
from benchmarks.accuracy.noise import Noise
from benchmarks.accuracy.peers import Published
from benchmarks.accuracy.serving import ServingRow
from benchmarks.accuracy.transfer import Transfer
from calibrate.outcome.result_json import dump_json
from calibrate.records.files import replace_text

_DIGITS = 6


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Everything that the command found."""

    evaluations: Sequence[Evaluation]
    transfers: Sequence[Transfer]
    noise: Sequence[Noise]
    serving: Sequence[ServingRow]
    peers: Sequence[Published]
    absent: Sequence[Absent]

    @property
    def floor(self) -> dict[str, float]:
        """How far replicates are from one another, by data set."""
        return {one.data: one.mean for one in self.noise if one.phase == "all"}


def write(found: Accuracy, folder: Path) -> None:
    """Write the page, the pictures and the numbers into ``folder``; the same results give the same bytes."""
    drawn = plots.draw(found.evaluations, found.floor, found.serving, folder)
    replace_text(folder / "accuracy.json", dump_json(numbers(found)))
    replace_text(folder / "accuracy.md", text(found, drawn))


def text(found: Accuracy, drawn: Sequence[str]) -> str:
    """The page as Markdown; ``drawn`` names the pictures that lie beside it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, and names that this project gave
    )
    return environment.get_template("accuracy.md.j2").render(
        found=found,
        drawn=drawn,
        sets=data_sets(found.evaluations),
        failures=[one for one in found.evaluations if one.failure],
        headline=tables.headline(found.evaluations, found.noise),
        steps=tables.steps(found.evaluations),
        phases=tables.by_phase(found.evaluations),
        reference=tables.reference(found.evaluations),
        spread=tables.spread(found.evaluations),
        transfer=tables.transfer(found.transfers),
        noise=tables.noise(found.noise),
        serving=tables.serving(found.serving),
        peers=tables.peers(found.peers),
    )


def data_sets(evaluations: Sequence[Evaluation]) -> tables.Table:
    """What each data set holds and where it is from."""
    rows = []
    for data in dict.fromkeys(one.data for one in evaluations):
        campaign = data.load(guide_hardware(data.gpu, MODELS[0]))
        steps, info = campaign.steps, campaign.info
        left_out = sum(file.dropped for file in campaign.files if file.table == "steps")
        models = sorted(set(steps["model"]))
        degrees = sorted(set(steps["tp"].astype(int)))
        held = (
            ", ".join(models),
            ", ".join(map(str, degrees)),
            info.kind,
            info.engine,
            info.licence,
        )
        rows.append((data.name, *held, f"{len(steps):,}", f"{left_out:,}"))
    columns = ("steps of", "models", "TP", "kind", "engine", "licence", "steps", "left out")
    return tables.Table("Data sets", columns, tuple(rows), 6)


def numbers(found: Accuracy) -> dict[str, Any]:
    """The content of ``accuracy.json``: mean errors as fractions, by treatment and slice."""
    return {
        "steps": [
            {
                "data": one.data.name,
                "latency_model": one.contender.label,
                "steps": one.rows,
                "failure": one.failure,
                "spread": _spread(one),
                "errors": {how: _means(slices) for how, slices in one.errors.items()},
            }
            for one in found.evaluations
        ],
        "transfer": [
            {
                "from": one.source.data.name,
                "to": one.target.data.name,
                "latency_model": one.target.contender.label,
                "values": _means(one.everything),
                "shares": _means(one.shares),
            }
            for one in found.transfers
        ],
        "noise": [_rounded(dataclasses.asdict(one)) for one in found.noise],
        "serving": [_rounded(dataclasses.asdict(one)) for one in found.serving],
        "peers": [dataclasses.asdict(one) for one in found.peers],
        "absent": [dataclasses.asdict(one) for one in found.absent],
    }


def _spread(one: Evaluation) -> dict[str, Any]:
    """How the errors lie of the predictions that were hardest to make."""
    if not one.hardest:
        return {}
    of = one.errors[one.hardest]["all"]
    return _rounded(
        {"held_out": one.hardest, "median": of.median_ape, "p90": of.p90_ape, "bias": of.bias}
    )


def _means(slices: SliceErrors) -> dict[str, float]:
    return {where: round(errors.mape, _DIGITS) for where, errors in slices.items()}


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: round(value, _DIGITS) if isinstance(value, float) else value
        for key, value in row.items()
    }
