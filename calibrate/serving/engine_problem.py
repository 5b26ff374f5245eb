"""What is fitted to the draw of one engine's rows: its own terms, pulled to what engines of its kind showed."""

from collections.abc import Mapping, Sequence

from calibrate.fitting.problem import Pull
from calibrate.serving.engine_rows import EngineRows, all_closed
from calibrate.serving.problem import ServingProblem
from calibrate.serving.thresholds import LENT
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.serving.engine_kinds import Shown, engine_kind

_OF_A_BURST = "prefillLayerMicros"  # closed loads cannot tell it from the wait behind their burst; open ones show it


def engine_problem(
    rows: EngineRows,
    model: LatencyModel,
    hardware: Hardware,
    loss: str,
    floor: float,
    *,
    fixed: Sequence[str] = (),
    cv: Sequence[str] = (),
    seed: int = 0,
    lent: Mapping[str, float] | None = None,
) -> ServingProblem:
    """The fit to ``rows`` from ``hardware``, whose values kernels showed; ``lent`` are another GPU's of this engine.

    Beside times of the engine, shares of peaks move in which engines differ, for they bring kernels of their own.
    """
    of_kind = engine_kind(rows.engine).shown
    if not all_closed(rows.points):
        of_kind = {name: one for name, one in of_kind.items() if name != _OF_A_BURST}
    shares = {p.name: p.of_engines for p in model.parameter_set if p.of_engines}
    known = model.parameters(hardware)
    shown = {
        **of_kind,
        **{name: Shown(known[name], known[name] * share) for name, share in shares.items()},
        **{name: Shown(value, LENT * value) for name, value in (lent or {}).items() if value},
    }
    return ServingProblem(
        rows.points,
        model,
        hardware,
        loss,
        floor,
        fixed=fixed,
        freed=tuple(shares),
        cv=cv,
        seed=seed,
        pulls={name: Pull(one.value, one.deviation**-2) for name, one in shown.items()},
    )
