"""What to distrust of a fit to serving results."""

from calibrate.fitting.leverage import leverage_warning, point_names
from calibrate.job.task import Task
from calibrate.serving.engine_rows import all_closed
from calibrate.serving.fit import ServingSolution
from calibrate.serving.summary import ServingSummary

_ONLY_CLOSED = (
    "All loads were closed: part of the wait behind the burst that they begin with may stand in the times of a step, "
    "and TTFT of open loads (--rate) come out far too slow."
)


def serving_warnings(solution: ServingSolution, summary: ServingSummary) -> list[str]:
    """What to distrust of a fit to serving results."""
    found = list(summary.assumptions)
    if not summary.held_out:
        found.append("One run and one model only: no serving error could be held out.")
    if summary.is_worse:
        found.append("Held out, the fit to serving results is worse than nothing tuned.")
    if all_closed(solution.data.points):
        found.append(_ONLY_CLOSED)
    names = point_names(solution.data.points.frame)
    return [*found, *leverage_warning(solution.leverage, names, "load point")]


def options_not_followed(task: Task) -> list[str]:
    """A warning for each option that a fit without steps cannot follow."""
    asked = {
        "--prior": task.options.prior,
        "--bootstrap": task.options.bootstrap,
        "--mcmc": task.options.mcmc,
    }
    return [
        f"{option} was not followed: there are no steps, and serving results alone are fitted without it."
        for option, given in asked.items()
        if given
    ]
