"""From measured GPUs to one that was not: fit the sources, predict its values, say how well that goes."""

import dataclasses
import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from calibrate.campaign.peaks import check_peaks
from calibrate.job.priors import Prior
from calibrate.job.sources import Place, SilentSourceError, chosen_places, measure
from calibrate.outcome.result_json import to_plain
from calibrate.records.errors import CalibrateError
from calibrate.records.interval import Z90
from calibrate.transfer.held_out import HeldOut, hold_out
from calibrate.transfer.kind import Kind, kind_of
from calibrate.transfer.measured import Measured
from calibrate.transfer.thresholds import FEWEST
from calibrate.transfer.transferred import Transferred, TransferredParameter, transfer
from calibrate.trust.intervals import OTHER_GPUS
from sim.hardware import Hardware, canonical_gpu
from sim.models.latency_model import LatencyModel
from sim.models.registry import PARAMETERS, latency_model, needs_mfu_table

_DIGITS = 6


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What was transferred, from which GPUs, how well those predict one another, and what to know of it."""

    transferred: Transferred
    measured: tuple[Measured, ...]
    held_out: tuple[HeldOut, ...]
    notes: tuple[str, ...]

    @property
    def values(self) -> dict[str, float]:
        """The peaks and every parameter, as they are written."""
        return {
            name: float(f"{value:.{_DIGITS}g}")
            for name, value in self.transferred.hardware.values.items()
        }

    def priors(self, strength: float = 1.0) -> dict[str, Prior]:
        """What the transfer knows of each parameter, as a fit of the GPU's own steps weighs it in."""
        return {
            name: Prior(
                OTHER_GPUS,
                one.prediction.mean,
                one.prediction.half_width / Z90 / strength**0.5,
                on_scale=True,
            )
            for name, one in self.transferred.known.items()
            if one.prediction is not None
        }

    def spread(self) -> dict[str, float]:
        """Standard deviations of ln θ, as plans count: of each parameter's value in sizes of itself."""
        found = {}
        for name, prior in self.priors().items():
            parameter, value = PARAMETERS[name], self.transferred.known[name].value
            found[name] = prior.sd / prior.slope(name, value) / parameter.size(value)
        return found

    def block(self) -> dict[str, Any]:
        """What the configuration says of the values beside them."""
        found = self.transferred
        intervals = {
            name: [float(f"{end:.{_DIGITS}g}") for end in one.ci90 or ()]
            for name, one in found.known.items()
        }
        return {
            "what": found.provenance,
            "from": list(found.sources),
            "latency_model": found.latency_model,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "intervals": intervals,
        }

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        found = self.transferred
        return {
            "gpu": found.hardware.gpu,
            "latency_model": found.latency_model,
            **dataclasses.asdict(found.kind),
            "provenance": found.provenance,
            "values": self.values,
            "parameters": [_plain_parameter(one) for one in found.parameters],
            "sources": [_plain_source(one) for one in self.measured],
            "held_out": to_plain(list(self.held_out)),
            "notes": list(self.notes),
        }


def transfer_to(
    start: Hardware,
    model: LatencyModel,
    ground_truth: Path,
    names: Sequence[str] = (),
    *,
    config: Path | None = None,
    link: str | None = None,
    generation: str | None = None,
    alone: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> Answer:
    """The values of the GPU of ``start`` from those of the GPUs named, or of all that were measured.

    ``start`` holds its peaks. Campaigns are those of ``ground_truth``, and the shipped ones of GPUs that it lacks; the
    sources' peaks are those of ``config`` or the registry. A source that tells nothing is left out, unless named.
    With ``alone`` they are all there is of the GPU: what becomes of its own campaigns is said, and how well the sources
    predict one another.
    Raises CalibrateError for a GPU without steps, or fewer than two; HardwareError for a peak that is missing.
    """
    kind, notes = kind_of(start, link, generation)
    places, left_out = _without(chosen_places(names, ground_truth, model), start.gpu)
    if len(places) < FEWEST:
        raise CalibrateError(". ".join([_too_few([one.gpu for one in places], model), *left_out]))
    with threadpool_limits(limits=1, user_api="blas"):
        measured, silent = _measured(places, model, config, bool(names), progress)
        notes += silent
        found = transfer(measured, start, kind, model)
        notes += _strange(found, measured)
        if not alone:
            return Answer(found, tuple(measured), (), tuple(notes))
        progress("predicting each from the others")
        held_out = hold_out(measured, model)
    notes += [*left_out, *_untold(found, measured), *map(str, check_peaks(start))]
    return Answer(found, tuple(measured), tuple(held_out), tuple(notes))


def transferable_model(name: str) -> LatencyModel:
    """A latency model by name. Raises CalibrateError for one whose figures lie in a database of its own GPU."""
    if needs_mfu_table(name):
        raise CalibrateError(
            f"--latency-model {name} looks up what was measured on the GPU itself: transfer roofline-v3"
        )
    return latency_model(name)


def _without(places: Sequence[Place], gpu: str) -> tuple[list[Place], list[str]]:
    """The sources without the GPU itself, and what is said of that."""
    others = [one for one in places if canonical_gpu(one.gpu) != canonical_gpu(gpu)]
    if len(others) == len(places):
        return others, []
    return others, [
        f"{gpu} has campaigns of its own, which are left out: `calibrate fit --gpu {gpu} --transfer` weighs them in."
    ]


def _measured(
    places: Sequence[Place],
    model: LatencyModel,
    config: Path | None,
    named: bool,
    progress: Callable[[str], None],
) -> tuple[list[Measured], list[str]]:
    """The sources fitted, and of those that tell nothing why; where they were named, that is an error."""
    measured, silent = [], []
    for place in places:
        progress(f"fitting {place.gpu}")
        try:
            measured.append(measure(place, model, config))
        except SilentSourceError as error:
            if named:
                raise
            silent.append(f"Left out: {error}.")
    if len(measured) < FEWEST:
        raise CalibrateError(" ".join([_too_few([one.gpu for one in measured], model), *silent]))
    return measured, silent


def _too_few(gpus: Sequence[str], model: LatencyModel) -> str:
    there = f"there is {gpus[0]} alone" if gpus else "there is none"
    return (
        f"a transfer takes {FEWEST} GPUs or more with steps for {model.name} ({there}): one cannot say how far two "
        "differ. Name more with --from, or measure one"
    )


def _strange(found: Transferred, measured: Sequence[Measured]) -> list[str]:
    """What the sources do not know of a GPU like this one."""
    kinds = [one.kind for one in measured]
    notes = []
    if found.kind.generation not in {kind.generation for kind in kinds}:
        notes.append(
            f"No source is of its generation, {found.kind.generation}: shares of its peaks are those of other chips."
        )
    return notes + _link_notes(found.kind, kinds)


def _untold(found: Transferred, measured: Sequence[Measured]) -> list[str]:
    """Which parameters the sources do not tell, and what follows of it for servers."""
    untold = [one.name for one in found.parameters if one.prediction is None]
    if not untold:
        return []
    notes = [f"{', '.join(untold)}: no step of a source tells them; they stay as they start."]
    if all(one.data.frame["composed"].all() for one in measured):
        notes.append(
            "All sources' steps are composed of kernels: an engine's own time comes on top."
        )
    return notes


def _link_notes(kind: Kind, kinds: Sequence[Kind]) -> list[str]:
    if kind.link not in {other.link for other in kinds}:
        return [f"No source is linked by {kind.link}: its all-reduces are those of other links."]
    if kind.link == "PCIe":
        return [
            "Over PCIe the host decides what an all-reduce of four GPUs or more takes: measure a prompt at tp 4 and 8."
        ]
    return []


def _plain_parameter(one: TransferredParameter) -> dict[str, Any]:
    return {
        "name": one.name,
        "value": one.value,
        "ci90": to_plain(one.ci90),
        "unit": one.unit,
        "sources": list(one.sources),
    }


def _plain_source(one: Measured) -> dict[str, Any]:
    return {
        "gpu": one.gpu,
        **dataclasses.asdict(one.kind),
        "rows": len(one.data),
        "error": one.error,
    }
