"""What a fit to several engines together says of each of them."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from calibrate.fitting.covariance import Covariance
from calibrate.fitting.identifiability import Choice
from calibrate.parameters.own import is_own, own_name, own_values
from calibrate.serving.by_engine import engines_of
from calibrate.serving.engine_rows import all_closed
from calibrate.serving.fit import ServingSolution
from calibrate.serving.summary import ServingSummary, summarise
from sim.steps.batch import Floats


def summarise_each(
    solution: ServingSolution, times: Mapping[str, float]
) -> tuple[ServingSummary, ...]:
    """Each engine's own terms and errors; ``times`` of engines were not tuned, each by its engine's own name."""
    return tuple(
        dataclasses.replace(
            summarise(_of_engine(solution, engine, rows)),
            rows=int(rows.sum()),
            times=own_values(times, engine),
            closed=all_closed(solution.data.points.take(rows)),
        )
        for engine, rows in engines_of(solution.data.points)
    )


def summarise_together(solution: ServingSolution) -> ServingSummary:
    """What the fit says of all engines; its covariance is that of what they share."""
    summary = summarise(solution)
    shared = {name: row for name, row in summary.covariance.items() if not is_own(name)}
    covariance = {name: {other: row[other] for other in shared} for name, row in shared.items()}
    return dataclasses.replace(summary, covariance=covariance)


def _of_engine(solution: ServingSolution, engine: str, rows: NDArray[np.bool_]) -> ServingSolution:
    """The solution as far as it is one engine's: its points, and its own values by the names of the parameters."""
    held_out = {kind: figures[rows] for kind, figures in solution.held_out_ms.items()}
    held = own_values(solution.choice.held, engine)
    return ServingSolution(
        data=solution.data.take(rows),
        choice=Choice(tuple(own_values(solution.values, engine)), held),
        sensitivity=solution.sensitivity,
        hardware=solution.hardware,
        start=own_values(solution.start, engine),
        estimate=dataclasses.replace(solution.estimate, values=own_values(solution.values, engine)),
        joint=_part(solution.joint, engine),
        leverage=solution.leverage[rows],
        before_ms=solution.before_ms[rows],
        after_ms=solution.after_ms[rows],
        held_out_ms={kind: known for kind, known in held_out.items() if _is_known(known)},
    )


def _is_known(figures_ms: Floats) -> bool:
    return not bool(np.isnan(figures_ms).all())


def _part(joint: Covariance, engine: str) -> Covariance:
    """The covariance of an engine's own values."""
    names = list(own_values(joint.stderr, engine))
    places = [list(joint.stderr).index(own_name(name, engine)) for name in names]
    chosen = np.ix_(places, places)
    return Covariance(
        own_values(joint.stderr, engine),
        own_values(joint.half_width, engine),
        joint.matrix[chosen],
        joint.curvature[chosen],
    )
