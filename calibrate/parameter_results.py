"""What a fit says of each parameter, and of what its data can tell apart."""

import dataclasses
from collections.abc import Mapping, Sequence

import pandas as pd

from calibrate.explanation import Informant, why_fitted, why_inert
from calibrate.identifiability import Choice, Sensitivity
from calibrate.parameters import PARAMETERS
from calibrate.result import Directions, GroupSensitivity, Identifiability, ParameterResult, Status
from calibrate.solver import Problem, at_bound
from calibrate.uncertainty import METHOD, sandwich
from sim.hardware import Hardware


def parameter_results(
    problem: Problem,
    before: Hardware,
    after: Hardware,
    choice: Choice,
    fixed: Mapping[str, float],
    informed: Mapping[str, tuple[Informant, ...]],
) -> tuple[ParameterResult, ...]:
    """Every parameter before and after the fit: status and why, interval, and the rows that determine it."""
    old, new = problem.model.parameters(before), problem.model.parameters(after)
    inside = {name: new[name] for name in choice.free if not at_bound(name, new[name])}
    intervals = sandwich(dataclasses.replace(problem, hardware=after), inside)
    results = []
    for name, known in PARAMETERS.items():
        status: Status
        if name in inside:
            status, why = "fitted", why_fitted(informed[name])
        elif name in choice.free:
            status, why = "at-bound", "the data pulls it against its physical bound"
        else:
            text, why = choice.held[name]
            status = text  # type: ignore[assignment]  # identifiability names statuses as plain text
            if text == "inert":
                why = why_inert(name, problem.model, before, problem.data)
        if name in fixed:
            why = f"fixed at {fixed[name]:g} by name"
        ci90 = _interval(new[name], intervals.half_width.get(name), known.lower, known.upper)
        results.append(
            ParameterResult(
                name=name,
                value=new[name],
                start=old[name],
                unit=known.unit,
                lower=known.lower,
                upper=known.upper,
                guide=known.guide,
                stderr=intervals.stderr.get(name),
                ci90=ci90,
                ci90_method=METHOD if ci90 else None,
                intervals={METHOD: ci90} if ci90 else {},
                status=status,
                why=why,
                informed_by=informed.get(name, ()),
            )
        )
    return tuple(results)


def _interval(value: float, half_width: float | None, lower: float, upper: float) -> tuple[float, float] | None:
    if half_width is None:
        return None
    return max(value - half_width, lower), min(value + half_width, upper)


def describe_identifiability(
    at_start: Sensitivity, seen: Sensitivity, choice: Choice, groups: pd.Series
) -> Identifiability:
    """What the data tells apart: of the free parameters at the solution, of all that a row sees at the start."""
    correlations = seen.correlations(choice.free)
    together: dict[str, list[str]] = {}
    for name in (name for name, (status, _) in choice.held.items() if status == "tied"):
        together.setdefault(PARAMETERS[name].tied_to or name, []).append(name)
    sizes = groups.value_counts().sort_index()
    free, first = _directions(seen, choice.free), _directions(at_start, at_start.visible)
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
        start=first,
        sensitivity=GroupSensitivity(tuple(map(str, sizes.index)), tuple(map(int, sizes)), seen.by_group(groups)),
    )


def _directions(seen: Sensitivity, names: Sequence[str]) -> Directions:
    return Directions(
        rank=seen.rank,
        condition_number=seen.condition_number(names),
        collinearity_index=seen.collinearity_index(names),
        singular_values=tuple(float(f"{value:.4g}") for value in seen.singular_values(names)),
    )
