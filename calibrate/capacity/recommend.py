"""The decision as a whole: what could serve is laid out, searched, drawn, ranked, and told apart."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from calibrate.capacity.candidates import Choices, Excluded, lay_out
from calibrate.capacity.demand import Demand
from calibrate.capacity.next_point import next_point
from calibrate.capacity.recommendation import Recommendation, choice_of, ranked
from calibrate.capacity.requests import running_tokens
from calibrate.capacity.sweep import Question, sweep
from calibrate.capacity.uncertainty import Uncertainty
from calibrate.records.errors import CalibrateError
from sim.architecture import Architecture


@dataclasses.dataclass(frozen=True, eq=False)
class Stated:
    """What a decision is made for: what must be carried (None: what one replica can), and prices by GPU and hour."""

    demand: Demand | None
    prices: Mapping[str, float]


def recommend(
    choices: Choices,
    arch: Architecture,
    question: Question,
    stated: Stated,
    unknown: Mapping[str, Uncertainty],
    jobs: int = -1,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Recommendation:
    """Every candidate of ``choices`` for serving ``arch``, best first, with bands over draws of what is ``unknown``.

    ``progress`` is told how many candidates of how many are done. The same seed gives the same answer, however many
    ``jobs``. Raises CalibrateError if nothing is left, with each reason.
    """
    request_tokens = running_tokens(question.workload, question.seed)
    replicas, excluded = lay_out(choices, arch, request_tokens)
    assessed, missed = sweep(
        replicas, unknown, question, jobs, lambda done: progress(done, len(replicas))
    )
    excluded += missed
    if not assessed:
        raise CalibrateError(_nothing_left(arch, excluded))
    found = [
        choice_of(one, stated.prices.get(one.candidate.gpu), stated.demand) for one in assessed
    ]
    best, ranked_by = ranked(found)
    by_name = {str(one.candidate): one for one in assessed}
    return Recommendation(
        model=arch.name,
        slo=question.slo,
        demand=stated.demand,
        choices=best,
        excluded=tuple(excluded),
        ranked_by=ranked_by,
        draws=question.draws,
        notes=_notes(stated, choices, unknown),
        next=next_point(best[0], list(best[1:]), by_name),
    )


def _notes(stated: Stated, choices: Choices, unknown: Mapping[str, Uncertainty]) -> tuple[str, ...]:
    notes = [note for hardware in choices.hardware for note in unknown[hardware.gpu].notes]
    missing = [one.gpu for one in choices.hardware if one.gpu not in stated.prices]
    if stated.prices and missing:
        notes.append(
            f"no price for {', '.join(missing)}: candidates are ranked without prices; give --price {missing[0]}=…"
        )
    return tuple(notes)


def _nothing_left(arch: Architecture, excluded: Sequence[Excluded]) -> str:
    reasons = "\n".join(f"  {one}" for one in excluded)
    return (
        f"no candidate can serve {arch.name} within the objective; give other --gpu, --tp or limits, or loosen --slo:\n"
        f"{reasons}"
    )
