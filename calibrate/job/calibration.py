"""The main job: from campaigns and a starting configuration to a judged fit."""

from collections.abc import Callable, Mapping, Sequence

from threadpoolctl import threadpool_limits

from calibrate.campaign.campaign import Campaign
from calibrate.fitting.objective import MODEL_FLOOR, check_loss
from calibrate.job.step_fit import Task, fit_steps
from calibrate.job.tuning import add_serving, fit_serving
from calibrate.outcome.kernels import KernelEstimate, kernel_estimates
from calibrate.outcome.result import FitResult
from calibrate.parameters.registry import find_parameter
from calibrate.records.errors import CalibrateError, CampaignError
from calibrate.trust.crossval import LEAVE_OUT
from calibrate.trust.intervals import IntervalOptions
from sim.database.table import MfuTable
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.models.registry import latency_model, parameter_in
from sim.models.request_times import REQUEST_TIMES

_PROFILES_ONLY = IntervalOptions()


def fit(
    campaigns: Sequence[Campaign],
    hardware: Hardware,
    *,
    model: str = "roofline-v1",
    mfu_table: MfuTable | None = None,
    fix: Mapping[str, float | None] | None = None,
    free: Sequence[str] = (),
    starts: int = 32,
    loss: str = "soft_l1",
    seed: int = 0,
    jobs: int = 1,
    floor: float = MODEL_FLOOR,
    cv: Sequence[str] = LEAVE_OUT,
    prior: str | None = None,
    prior_strength: float = 1.0,
    asked: IntervalOptions = _PROFILES_ONLY,
    skip_bad_rows: bool = False,
    serving: bool = False,
    command: str = "",
    notes: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> FitResult:
    """Fit a latency model's parameters to the steps of some campaigns, and judge the fit.

    ``hardware`` is the starting configuration, ``mfu_table`` the database of a model that needs one; ``fix`` holds
    parameters (at a value, or at the start's where it is None), ``free`` fits parameters that would be held.
    ``cv`` says what is held out (see :func:`calibrate.trust.crossval.splits`), ``prior`` what was known before (see
    :func:`calibrate.job.priors.read_priors`), ``asked`` which intervals to make beside profiles. ``notes`` on the start
    lead the warnings; ``progress`` is told the name of each part of the work. With ``serving``, and where there are no
    steps, the fit goes on to the campaigns' serving results (see :mod:`calibrate.serving.fit`).
    Raises CampaignError if a campaign has errors (unless ``skip_bad_rows``), CalibrateError if nothing can be
    fitted, HardwareError if the configuration lacks what the model needs. The same seed gives the same result.
    """
    _check_options(starts, seed, floor)
    _refuse_errors(campaigns, skip_bad_rows)
    chosen = latency_model(model, mfu_table=mfu_table)
    fixed = _fixed(fix or {}, chosen)
    check_loss(loss)
    freed = [_of_model(name, chosen) for name in free]
    if set(freed) & set(fixed):
        raise CalibrateError(f"{', '.join(sorted(set(freed) & set(fixed)))}: cannot be both fixed and free")
    task = Task(
        campaigns=campaigns,
        hardware=hardware,
        model=chosen,
        fixed=fixed,
        freed=freed,
        estimates=kernel_estimates(campaigns, hardware),
        starts=starts,
        loss=loss,
        seed=seed,
        jobs=jobs,
        floor=floor,
        cv=cv,
        prior=prior,
        prior_strength=prior_strength,
        asked=asked,
        command=command,
        notes=notes,
        progress=progress,
    )
    if task.estimates and not (task.has_steps or task.has_serving):
        raise CalibrateError(_kernels_only(task.estimates, chosen))
    if serving and not task.has_serving:
        raise CalibrateError("no serving row to fit to: the campaigns hold no good row of a serving table")
    if task.has_steps and not serving:
        _refuse_request_times({*freed, *fixed})
    with threadpool_limits(limits=1, user_api="blas"):  # small matrices: threads would only wait for one another
        if not task.has_steps and task.has_serving:
            return fit_serving(task)
        result, solved = fit_steps(task)
        return add_serving(result, task, solved) if serving else result


def _check_options(starts: int, seed: int, floor: float) -> None:
    for name, value, good, range_ in (
        ("starts", starts, starts >= 1, "1 or more"),
        ("seed", seed, seed >= 0, "0 or more"),
        ("floor", floor, 0 < floor < 1, "between 0 and 1"),
    ):
        if not good:
            raise CalibrateError(f"{name} must be {range_}, got {value}")


def _refuse_errors(campaigns: Sequence[Campaign], skip_bad_rows: bool) -> None:
    bad = [problem for campaign in campaigns for problem in campaign.problems if problem.severity == "error"]
    if bad and not skip_bad_rows:
        raise CampaignError(bad, "Correct these, or leave the rows out with --skip-bad-rows; nothing was fitted.")


def _of_model(name: str, model: LatencyModel) -> str:
    found = find_parameter(name)
    if found.name not in model.parameter_names and found not in REQUEST_TIMES:
        raise CalibrateError(f"{model.name} does not read {found.name} (it reads {', '.join(model.parameter_names)})")
    return found.name


def _fixed(fix: Mapping[str, float | None], model: LatencyModel) -> dict[str, float | None]:
    fixed = {}
    for name, value in fix.items():
        bounds = parameter_in(model, _of_model(name, model))
        if value is not None and not (bounds.lower <= value <= bounds.upper or (value == 0 and bounds.zero)):
            raise CalibrateError(
                f"{bounds.name} = {value:g} is outside its bounds, {bounds.lower:g} to {bounds.upper:g}"
            )
        fixed[bounds.name] = value
    return fixed


def _refuse_request_times(named: set[str]) -> None:
    unseen = [parameter.name for parameter in REQUEST_TIMES if parameter.name in named]
    if unseen:
        raise CalibrateError(
            f"{', '.join(unseen)}: a time around the engine, which no step shows. Go on to serving results with "
            "--serving, or leave it out"
        )


def _kernels_only(estimates: Sequence[KernelEstimate], model: LatencyModel) -> str:
    found = [estimate for estimate in estimates if estimate.parameter in model.parameter_names]
    listed = ", ".join(f"{e.parameter} {e.value:.3g} ({e.source})" for e in found) or "no parameter of this model"
    given = " ".join(f"--spec {e.parameter}={e.value:.3g}" for e in found)
    return (
        f"no step row to fit: the campaigns hold kernels only. They determine {listed}. Measure steps "
        f"(`calibrate plan` says which), and start from these values: {given}"
    )
