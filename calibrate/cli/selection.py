"""``--latency-model auto``: fits every model that applies and says why one of them was taken."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from calibrate.cli.console import percent, table

if TYPE_CHECKING:
    from rich.console import Console

    from calibrate.outcome.result import FitResult
    from calibrate.outcome.selection import Candidate


def fit_best(
    fit_one: Callable[[str], "FitResult"], names: Sequence[str]
) -> tuple["FitResult", "tuple[Candidate, ...]"]:
    """Fit the named models, passing over those that cannot compute a row, and take the best of them.

    Raises CalibrateError if none can be fitted.
    """
    from calibrate.outcome.selection import select_model
    from calibrate.records.errors import CalibrateError

    results, failed = [], {}
    for name in names:
        try:
            results.append(fit_one(name))
        except CalibrateError as error:
            failed[name] = error
    if not results:
        raise failed[names[-1]]
    return select_model(results, {name: str(error) for name, error in failed.items()})


def show_candidates(console: "Console", candidates: "Sequence[Candidate]") -> None:
    """One table of the models that were tried."""
    columns = ["rows", "free", "held-out error"]
    shown = table(
        "Latency models tried", ["model", *columns, "held out", "why"], columns, ["held out", "why"]
    )
    for one in candidates:
        cells = (f"{one.rows:,}", str(one.n_free), percent(one.error), one.held_out)
        shown.add_row(one.latency_model, *cells, f"taken: {one.why}" if one.chosen else one.why)
    console.print(shown)
    console.print()
