"""Shows what a fit to serving results found."""

from typing import TYPE_CHECKING

from calibrate.cli.console import SERVING_NAMES, interval, number, percent, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from calibrate.campaign.campaign import Campaign
    from calibrate.outcome.result import FitResult
    from calibrate.serving.summary import Served, ServingSummary

_HELD_OUT = {
    "model": "one model out",
    "tp": "one TP out",
    "campaign": "one campaign out",
    "run": "one run out",
    "folds": "a part of the runs out",
}


def show_serving(console: "Console", serving: "ServingSummary") -> None:
    """What was tuned, in the guide's words, and the errors of TTFT, ITL and end-to-end time."""
    console.print()
    tuned = table(
        f"Tuned to {serving.points} serving runs",
        ["parameter", "before", "tuned", "90% interval", "unit"],
        ["before", "tuned"],
        ["unit"],
    )
    for one in serving.tuned:
        tuned.add_row(one.name, number(one.before), number(one.value), interval(one.ci90), one.unit)
    console.print(tuned)
    for text in serving.explanation:
        console.print(text, style="dim", markup=False)
    for name, why in serving.held.items():
        console.print(f"{name}: {why}.", style="dim", markup=False)
    console.print()
    treatments = {"nothing tuned": serving.before, "tuned": serving.after} | {
        _HELD_OUT[kind]: found for kind, found in serving.held_out.items()
    }
    errors = table("Mean error of serving runs", ["", "runs", *treatments], ["runs", *treatments])
    for key in _labels(serving.after):
        metric, _, label = key.partition("/")
        known = {name: served.get(metric, {}).get(label) for name, served in treatments.items()}
        count = next(found.n for found in known.values() if found is not None)
        shown = (percent(None if found is None else found.mape) for found in known.values())
        name = SERVING_NAMES[metric] if label == "all" else f"  {label.replace(':', ' ', 1)}"
        errors.add_row(name, f"{count:,}", *shown, style="" if label == "all" else "dim")
    for metric in serving.medians.get("after", {}):
        medians = [served[metric]["all"] for served in serving.medians.values()]
        cells = (percent(one.mape) for one in medians)
        errors.add_row(f"{SERVING_NAMES[metric]}, medians", f"{medians[0].n:,}", *cells)
    console.print(errors)


def _labels(served: "Served") -> list[str]:
    """Metric and slice: all, then by model and engine."""
    return [
        f"{metric}/{label}"
        for metric, slices in served.items()
        for label in slices
        if label.startswith(("all", "engine:", "model:"))
    ]


def hint_at_serving(
    console: "Console", result: "FitResult", campaigns: "Sequence[Campaign]"
) -> None:
    """Say how many serving runs are there and were not used."""
    runs = sum(len(campaign.serving) for campaign in campaigns)
    if runs and result.serving is None and not result.engines:
        console.print(
            f"{runs:,} serving runs were not used",
            style="dim",
        )
        console.print()
