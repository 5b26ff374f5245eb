"""What a fit says of each parameter, and of what its data can tell apart."""

from collections.abc import Mapping, Sequence

import pandas as pd

from calibrate.fitting.identifiability import Sensitivity
from calibrate.job.solution import Solution
from calibrate.outcome.identifiability import Directions, GroupSensitivity, Identifiability
from calibrate.outcome.result import ParameterResult, Status
from calibrate.trust.explanation import Informant, informants, row_groups, why_fitted, why_inert
from calibrate.trust.intervals import Intervals
from sim.hardware import Hardware
from sim.models.registry import PARAMETERS


def parameter_results(
    solution: Solution, before: Hardware, fixed: Mapping[str, float], spread: Intervals
) -> tuple[ParameterResult, ...]:
    """Every parameter before and after the fit: status and why, intervals, and the rows that determine it."""
    model, free = solution.problem.model, solution.choice.free
    old = model.parameters(before)
    new = model.parameters(solution.hardware)
    informed = informants(solution.sensitivity, _groups(solution), free)
    results = []
    for name in model.parameter_names:
        known = PARAMETERS[name]
        status, why = _status(name, solution, before, informed)
        intervals = spread.of(name)
        method = next(iter(intervals), None)
        results.append(
            ParameterResult(
                name=name,
                value=new[name],
                start=old[name],
                unit=known.unit,
                lower=known.lower,
                upper=known.upper,
                guide=known.guide,
                stderr=solution.joint.stderr.get(name),
                ci90=intervals[method] if method else None,
                ci90_method=method,
                intervals=intervals,
                status=status,
                why=f"fixed at {fixed[name]:g} by name" if name in fixed else why,
                informed_by=informed.get(name, ()),
                prior=solution.priors.get(name),
            )
        )
    return tuple(results)


def _status(
    name: str, solution: Solution, before: Hardware, informed: Mapping[str, Sequence[Informant]]
) -> tuple[Status, str]:
    problem = solution.problem
    if name in solution.inside:
        return "fitted", why_fitted(informed[name])
    if name in problem.free:
        return "at-bound", "the data pulls it against its physical bound"
    status, why = solution.choice.held[name]
    if status == "inert":
        return "inert", why_inert(name, problem.model, before, problem.data)
    return status, why


def describe_identifiability(solution: Solution) -> Identifiability:
    """What the data tells apart: of the free parameters at the solution, of all that a row sees at the start."""
    seen = solution.sensitivity
    choice = solution.choice
    groups = _groups(solution)
    correlations = seen.correlations(choice.free)
    together: dict[str, list[str]] = {}
    for name in (name for name, (status, _) in choice.held.items() if status == "tied"):
        together.setdefault(PARAMETERS[name].tied_to or name, []).append(name)
    sizes = groups.value_counts().sort_index()
    free = _directions(seen, choice.free)
    return Identifiability(
        rank=seen.rank,
        n_free=len(choice.free),
        condition_number=free.condition_number,
        collinearity_index=free.collinearity_index,
        singular_values=free.singular_values,
        inert=seen.inert,
        groups=tuple((partner, *names) for partner, names in together.items()),
        correlations={
            a: {b: round(float(correlations[i, j]), 4) for j, b in enumerate(choice.free)}
            for i, a in enumerate(choice.free)
        },
        start=_directions(solution.sensitivity_at_start, solution.sensitivity_at_start.visible),
        sensitivity=GroupSensitivity(
            tuple(map(str, sizes.index)), tuple(map(int, sizes)), seen.by_group(groups)
        ),
    )


def _groups(solution: Solution) -> pd.Series:
    return row_groups(solution.problem.model, solution.hardware, solution.problem.data)


def _directions(seen: Sensitivity, names: Sequence[str]) -> Directions:
    return Directions(
        rank=seen.rank,
        condition_number=seen.condition_number(names),
        collinearity_index=seen.collinearity_index(names),
        singular_values=tuple(float(f"{value:.4g}") for value in seen.singular_values(names)),
    )
