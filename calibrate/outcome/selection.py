"""Which latency model to trust: the one that predicts best what it has not seen, on as many rows as any can compute."""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from calibrate.outcome.result import FitResult
from calibrate.serving.summary import mean_error

# What a prediction is wanted for: a model or a degree that was not measured
_HARD = ("model", "tp")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A model that was tried: its ``error`` on ``rows``, held out as ``held_out`` says; ``why`` it is taken or not."""

    latency_model: str
    rows: int
    n_free: int
    error: float | None
    held_out: str
    chosen: bool
    why: str


def select_model(
    results: Sequence[FitResult], failed: Mapping[str, str] = MappingProxyType({})
) -> tuple[FitResult, tuple[Candidate, ...]]:
    """The best of some fits (one or more) to the same data, and what speaks for and against each.

    ``failed`` says of models that could not be fitted why not.

    A fit that had to leave out rows that another could compute is not chosen. Of the others the least error wins, the
    mean of leaving one model and one TP out, where there are two of them; else that by run; else that of the fit.
    """
    rows = max(result.fit.n_rows for result in results)
    kinds = tuple(
        kind for kind in _HARD if all(kind in result.metrics.held_out for result in results)
    )
    able = [result for result in results if result.fit.n_rows == rows]
    best = min(able, key=lambda result: _error(result, kinds))
    passed_over = (
        Candidate(name, 0, 0, None, "–", chosen=False, why=why) for name, why in failed.items()
    )
    return best, (
        *(_candidate(result, best, rows, kinds) for result in results),
        *passed_over,
    )


def _candidate(result: FitResult, best: FitResult, rows: int, kinds: Sequence[str]) -> Candidate:
    return Candidate(
        latency_model=result.latency_model,
        rows=result.fit.n_rows,
        n_free=result.fit.n_free,
        error=_error(result, kinds),
        held_out=_words(result, kinds),
        chosen=result is best,
        why=_why(result, best, rows, kinds),
    )


def _error(result: FitResult, kinds: Sequence[str]) -> float:
    if result.serving is not None and not result.metrics.after:
        return mean_error(result.serving.unseen)
    # Each model sets other rows aside: they are compared on all
    metrics = result.metrics.every_row or result.metrics
    held_out = [metrics.held_out[kind] for kind in kinds]
    slices = held_out or [metrics.unseen or metrics.after]
    return sum(one["all"].mape for one in slices) / len(slices)


def _words(result: FitResult, kinds: Sequence[str]) -> str:
    if result.serving is not None and not result.metrics.after:
        return (
            "".join(f"serving, one {kind} out" for kind in list(result.serving.held_out)[:1])
            or "serving"
        )
    if kinds:
        return "one " + " or ".join("TP" if kind == "tp" else kind for kind in kinds) + " out"
    return "by run" if result.metrics.unseen else "none: the fit's own rows"


def _why(result: FitResult, best: FitResult, rows: int, kinds: Sequence[str]) -> str:
    if result is best:
        return "the least held-out error" if result.metrics.unseen else "the least error"
    if result.fit.n_rows < rows:
        return f"cannot compute {rows - result.fit.n_rows:,} rows that another can"
    return f"{_error(result, kinds) / max(_error(best, kinds), 1e-12):.1f} times the error"
