"""What was known before a fit: other GPUs' values where they are asked for, and what each prior did."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from calibrate.cli.choices import AUTO
from calibrate.cli.console import number, percent, table

if TYPE_CHECKING:
    from rich.console import Console

    from calibrate.campaign.campaign import Campaign
    from calibrate.job.options import Options
    from calibrate.job.priors import Prior
    from calibrate.outcome.result import FitResult
    from sim.hardware import Hardware


@dataclasses.dataclass(frozen=True)
class OtherGpus:
    """Where a fit starts, with what other GPUs say of its parameters, and what to know of it; without them, nothing."""

    start: "Hardware"
    known: "Mapping[str, Prior]" = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()


def other_gpus(
    start: "Hardware",
    options: "Options",
    campaigns: "Sequence[Campaign]",
    ground_truth: Path,
    config: Path,
    progress: Callable[[str], None],
) -> OtherGpus:
    """The start with other GPUs' values, and these as priors.

    Raises CalibrateError where the campaigns hold no step, and as :func:`calibrate.job.transfer.transfer_to` does.
    """
    if options.prior is not None:
        raise typer.BadParameter("is a prior itself: leave --prior out", param_hint="--transfer")
    if options.latency_model == AUTO:
        raise typer.BadParameter(
            "takes one latency model, such as roofline-v3", param_hint="--transfer"
        )
    from calibrate.job.transfer import transfer_to, transferable_model
    from calibrate.records.errors import CalibrateError

    if not any(len(campaign.steps) for campaign in campaigns):
        raise CalibrateError(
            f"--transfer: the campaigns of {start.gpu} hold no step to weigh other GPUs against: "
            f"`calibrate transfer --to {start.gpu}` gives their values alone"
        )
    model = transferable_model(options.latency_model)
    answer = transfer_to(start, model, ground_truth, config=config, progress=progress, alone=False)
    found = answer.transferred
    note = (
        f"Started from other GPUs: {', '.join(found.sources)}; weighed in by how far GPUs differ."
    )
    return OtherGpus(found.hardware, answer.priors(options.prior_strength), [note, *answer.notes])


def show_priors(console: "Console", result: "FitResult") -> None:
    """A row for each parameter with a prior: what was known, what the data say, and both."""
    weighed = [(p, p.prior) for p in result.parameters if p.prior is not None]
    if not weighed:
        return
    console.print()
    columns = ["prior", "data", "together", "its pull"]
    shown = table(f"Prior: {weighed[0][1].source}", ["parameter", *columns], columns)
    for p, prior in weighed:
        together = f"{number(p.value)} ± {number(p.stderr)}"
        data = f"{number(prior.data)} ± {number(prior.data_sd)}"
        shown.add_row(
            p.name,
            f"{number(prior.mean)} ± {number(prior.sd)}",
            data,
            together,
            percent(prior.pull),
        )
    console.print(shown)
