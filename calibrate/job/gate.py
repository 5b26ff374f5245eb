"""Whether a fit may go into the configuration, and what would help where it may not."""

import dataclasses

from calibrate.campaign.peaks import check_peaks
from calibrate.outcome.result import FitResult, is_worse
from calibrate.records.errors import RefusedFitError, WorseFitError
from calibrate.serving.summary import mean_error
from sim.hardware import Hardware
from sim.models.roofline_v3.model import RooflineV3


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Why a fit is not written, and what to do about it; ``error`` is what to raise."""

    why: str
    advice: str
    error: type[RefusedFitError]


def refusal(result: FitResult, start: Hardware) -> Refusal | None:
    """Why a fit is not to be written: worse than its start, or poor and at physical bounds. None where it may be."""
    if result.is_worse_than_start:
        return Refusal(_worse(result), f"{_advice(result, start)} {_FLATTERED}", WorseFitError)
    stuck = [p.name for p in result.parameters if p.status == "at-bound"]
    if result.verdict.level == "poor" and stuck:
        bounds = "a physical bound" if len(stuck) == 1 else "physical bounds"
        why = f"The fit is poor, with {', '.join(stuck)} at {bounds}: it makes up for a term that the model lacks"
        return Refusal(why, _advice(result, start), RefusedFitError)
    return None


_FLATTERED = (
    "If the configuration it started from was itself fitted to this data, its error here is no held-out error and "
    "flatters it."
)


def _worse(result: FitResult) -> str:
    """What is worse than at the start, steps before serving."""
    metrics, serving = result.metrics, result.serving
    if metrics.after and is_worse(metrics, result.parameters):
        unseen = metrics.unseen
        before = metrics.before["all"].mape
        held = (unseen or metrics.after)["all"].mape
        what = f"The fit is worse than the configuration it started from on {_whose(bool(unseen))}"
    else:
        assert serving is not None  # nothing else can be worse
        before = mean_error(serving.before)
        held = mean_error(serving.unseen)
        whose = _whose(bool(serving.held_out))
        what = f"TTFT, ITL and E2E are in the mean predicted worse than with nothing tuned to serving, on {whose}"
    return f"{what} ({held:.1%} against {before:.1%})"


def _whose(unseen: bool) -> str:
    return "rows it has not seen" if unseen else "the rows it was made of"


def _advice(result: FitResult, start: Hardware) -> str:
    """What would help most: right peaks, a richer model, or more and sounder data."""
    wrong_peaks = check_peaks(start)
    if wrong_peaks:
        return f"Correct {wrong_peaks[0].column} first: {wrong_peaks[0].message}. {wrong_peaks[0].fix}."
    tried_all = "auto" in result.command
    if result.latency_model != RooflineV3.name and not tried_all:
        return f"--latency-model auto fits the richer {RooflineV3.name} too, and takes the best of all."
    return f"`calibrate plan --gpu {result.gpu}` says what to measure; look for rows of another setup among the data."
