"""The main job: from campaigns and a starting configuration to a judged fit."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from calibrate.campaign.campaign import Campaign
from calibrate.fitting.objective import check_loss
from calibrate.job.engines import fit_with_engines, travelling, with_lent_engines
from calibrate.job.options import Options
from calibrate.job.partition_fit import fit_all_steps
from calibrate.job.priors import Prior
from calibrate.job.serving_alone import fit_serving
from calibrate.job.task import Task
from calibrate.job.tuning import add_serving
from calibrate.outcome.kernels import KernelEstimate, kernel_estimates
from calibrate.outcome.result import FitResult
from calibrate.parameters.registry import find_parameter
from calibrate.records.errors import CalibrateError, CampaignError
from calibrate.records.workers import workers
from calibrate.trust.crossval import number_of_folds
from sim.database.table import MfuTable
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.models.registry import latency_model, parameter_in
from sim.models.request_times import REQUEST_TIMES

_DEFAULTS = Options()
_NOTHING_LENT: Mapping[str, Mapping[str, float]] = {}
_NOTHING_KNOWN: Mapping[str, Prior] = {}


def fit(
    campaigns: Sequence[Campaign],
    hardware: Hardware,
    options: Options = _DEFAULTS,
    *,
    mfu_table: MfuTable | None = None,
    checkpoint: Path | None = None,
    command: str = "",
    notes: Sequence[str] = (),
    lent: Mapping[str, Mapping[str, float]] = _NOTHING_LENT,
    known: Mapping[str, Prior] = _NOTHING_KNOWN,
    progress: Callable[[str], None] = lambda _: None,
    **changes: Any,
) -> FitResult:
    """Fit a latency model's parameters to the rows of some campaigns, and judge the fit.

    ``hardware`` is the starting configuration, ``mfu_table`` the database of a model that needs one. ``changes`` are
    ``options`` by name (see :class:`Options`): ``fit(campaigns, hardware, latency_model="roofline-v3")``.
    ``checkpoint`` is a file that keeps finished samples of a bootstrap. ``notes`` on the start lead the warnings;
    ``progress`` is told the name of each part of the work. ``lent`` are terms of engines, by name, as another GPU's
    servers showed them: they hold where no serving result of the campaigns says them, and pull where some does.
    ``known`` are priors by parameter, in the place of ``options.prior``.
    Raises CampaignError if a campaign has errors (unless ``skip_bad_rows``), CalibrateError if nothing can be
    fitted, HardwareError if the configuration lacks what the model needs. The same seed gives the same result.
    """
    options = options.changed(changes)
    _refuse_errors(campaigns, options.skip_bad_rows)
    model = latency_model(options.latency_model, mfu_table=mfu_table)
    fixed = _fixed(options.fix, model)
    check_loss(options.loss)
    number_of_folds(options.cv)
    freed = [_of_model(name, model) for name in options.free]
    if set(freed) & set(fixed):
        raise CalibrateError(
            f"{', '.join(sorted(set(freed) & set(fixed)))}: cannot be both fixed and free"
        )
    task = Task(
        campaigns=campaigns,
        hardware=hardware,
        model=model,
        options=options,
        fixed=fixed,
        freed=freed,
        estimates=kernel_estimates(campaigns, hardware),
        checkpoint=checkpoint,
        command=command,
        notes=notes,
        progress=progress,
        lent=travelling(lent),
        known=known,
    )
    _check_rows(task)
    # Small matrices: threads would only wait for one another
    with (
        threadpool_limits(limits=1, user_api="blas"),
        workers(options.jobs, options.scheduler),
    ):
        if not task.has_steps and task.has_serving and options.serving is not False:
            return fit_serving(task)
        if options.serving is None and task.has_serving:
            result = fit_with_engines(task)
        else:
            result, solved = fit_all_steps(task)
            result = add_serving(result, task, solved) if options.serving else result
    return with_lent_engines(result, task.lent)


def _check_rows(task: Task) -> None:
    """Raise CalibrateError if the campaigns lack the rows that were asked for."""
    if task.estimates and not (task.has_steps or task.has_serving):
        raise CalibrateError(_kernels_only(task.estimates, task.model))
    if task.options.serving and not task.has_serving:
        raise CalibrateError(
            "no serving row to fit to: the campaigns hold no good row of a serving table"
        )
    if task.options.serving is False and task.options.engine:
        raise CalibrateError("--engine chooses among serving results: leave out --no-serving")
    if task.has_steps and not task.options.serving:
        _refuse_request_times({*task.freed, *task.fixed})


def _refuse_errors(campaigns: Sequence[Campaign], skip_bad_rows: bool) -> None:
    bad = [
        problem
        for campaign in campaigns
        for problem in campaign.problems
        if problem.severity == "error"
    ]
    if bad and not skip_bad_rows:
        raise CampaignError(
            bad, "Correct these, or leave the rows out with --skip-bad-rows; nothing was fitted."
        )


def _of_model(name: str, model: LatencyModel) -> str:
    found = find_parameter(name)
    if found.name not in model.parameter_names and found not in REQUEST_TIMES:
        raise CalibrateError(
            f"{model.name} does not read {found.name} (it reads {', '.join(model.parameter_names)})"
        )
    return found.name


def _fixed(fix: Mapping[str, float | None], model: LatencyModel) -> dict[str, float | None]:
    fixed = {}
    for name, value in fix.items():
        bounds = parameter_in(model, _of_model(name, model))
        if value is not None and not (
            bounds.lower <= value <= bounds.upper or (value == 0 and bounds.zero)
        ):
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
    listed = (
        ", ".join(f"{e.parameter} {e.value:.3g} ({e.source})" for e in found)
        or "no parameter of this model"
    )
    given = " ".join(f"--spec {e.parameter}={e.value:.3g}" for e in found)
    return (
        f"no step row to fit: the campaigns hold kernels only. They determine {listed}. Measure steps "
        f"(`calibrate plan` says which), and start from these values: {given}"
    )
