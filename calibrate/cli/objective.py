"""What ``calibrate simulate`` is asked of an objective: whether it is met, and at which rate it still is."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calibrate.cli.console import number, percent
from sim.units import US_PER_S

if TYPE_CHECKING:
    from rich.console import Console

    from calibrate.capacity.replica import Replica
    from calibrate.capacity.search import RateFound
    from calibrate.capacity.slo import Attainment, Slo
    from calibrate.cli.workloads import Asked
    from sim.serving.result import ServingResult
    from sim.serving.workload import Trace, Workload

SloOption = Annotated[
    list[str] | None,
    typer.Option(
        "--slo",
        help="A limit of latency, such as ttft_p99=2s, itl_p99=50ms or e2e_mean=8s; may be repeated.",
    ),
]
GoodputOption = Annotated[
    float | None,
    typer.Option("--goodput", help="Share of requests that must be within every limit of --slo."),
]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """An objective, whether to look for its largest rate, of how many requests (None: enough), and their seed."""

    slo: "Slo | None"
    find_rate: bool
    num_requests: int | None
    seed: int

    def read(self, asked: "Asked") -> "Workload | Trace":
        """The workload asked for, at a rate that is still to be found where one is wanted."""
        return asked.read_without_rate() if self.find_rate else asked.read()

    def requests(
        self, replica: "Replica", workload: "Workload | Trace"
    ) -> "tuple[Trace, RateFound | None]":
        """The requests to serve: those of the workload, or those of the largest rate, and how that was found.

        Raises CalibrateError for a rate to be found without an objective, or where none meets it.
        """
        if not self.find_rate:
            return workload.draw(self.seed), None

        from calibrate.capacity.binding import unreachable
        from calibrate.capacity.search import find_rate
        from calibrate.records.errors import CalibrateError

        if self.slo is None:
            raise CalibrateError(
                "--find-rate needs an objective to meet: give --slo, such as --slo ttft_p99=2s"
            )
        found = find_rate(replica, workload, self.slo, self.seed, self.num_requests)
        if found.best is None:
            raise CalibrateError(unreachable(found))
        return found.requests.at(found.rate), found

    def attainment(self, result: "ServingResult", found: "RateFound | None") -> "Attainment | None":
        """How all requests stand to the objective; at a rate that was found, those after the warm-up."""
        from calibrate.capacity.slo import judge

        if found is not None and found.best is not None:
            return found.best.attainment
        return None if self.slo is None else judge(result, self.slo)


def as_json(
    result: "ServingResult", attainment: "Attainment | None", found: "RateFound | None"
) -> dict[str, Any]:
    """The summary, with ``slo`` and ``find_rate`` where they were asked for."""
    content = result.summary()
    if attainment is not None:
        content["slo"] = attainment.to_dict(_per_s(result, found))
    if found is not None:
        content["find_rate"] = _found(found)
    return content


def _found(found: "RateFound") -> dict[str, Any]:
    from calibrate.capacity.binding import what_binds
    from calibrate.capacity.search import warm_up

    binding = what_binds(found)
    return {
        "rate_per_s": found.rate,
        "beyond_per_s": found.beyond_rate,
        "binds": binding.words,
        "missed_beyond": list(binding.limits),
        "waits_for": binding.waits_for,
        "trials": found.trials,
        "requests": len(found.requests),
        "warm_up_requests": warm_up(len(found.requests)),
    }


def _per_s(result: "ServingResult", found: "RateFound | None") -> float:
    """Requests a second: those finished, or the rate that was found, whose requests' end is no part of it."""
    finished = len(result) / result.duration_us * US_PER_S
    return finished if found is None else found.rate


def show_slo(
    console: "Console",
    result: "ServingResult",
    attainment: "Attainment | None",
    found: "RateFound | None",
) -> None:
    """Whether the objective is met and the goodput; the largest rate, and what binds there."""
    if attainment is not None:
        goodput = attainment.share * _per_s(result, found)
        verdict = "met" if attainment.met else f"missed ({', '.join(attainment.missed)})"
        console.print(
            f"objective {verdict}: {attainment.slo}; {percent(attainment.share)} of requests are within all "
            f"limits, goodput {number(goodput)} requests a second",
            markup=False,
        )
    if found is not None:
        from calibrate.capacity.binding import what_binds

        console.print(
            f"largest rate {number(found.rate)} requests a second, of {found.trials} loads tried with the same "
            f"{len(found.requests):,} requests; what binds: {what_binds(found).words}",
            markup=False,
        )
