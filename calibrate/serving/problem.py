"""What to fit to serving results: the load points, what may move, and what holds it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from calibrate.fitting.problem import Problem, Pull
from calibrate.fitting.solver import Estimate, least_squares
from calibrate.parameters.own import own_name
from calibrate.parameters.registry import REQUEST_TIME_NAMES, in_order, tuned_names
from calibrate.serving.by_engine import Figures, by_engine, engines_of
from calibrate.serving.figures import Replay
from calibrate.serving.objective import ServingData, ServingObjective
from calibrate.serving.points import ServingPoints
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel


@dataclasses.dataclass(frozen=True, eq=False)
class ServingProblem:
    """What to fit: load points, the model, the configuration to start from, the loss, and steps to hold it by.

    ``fixed`` parameters stay, ``freed`` ones move beside the model's :func:`tuned_names`. ``cv`` are the kinds of
    split to hold out (empty: one model at a time, and runs), ``seed`` draws the folds. ``pulls`` go towards what other
    servers of the engine's kind showed. With ``apart`` each engine of the points has its own terms, and shares what
    else moves with the others.
    """

    points: ServingPoints
    model: LatencyModel
    hardware: Hardware
    loss: str
    floor: float
    steps: Problem | None = None
    fixed: Sequence[str] = ()
    freed: Sequence[str] = ()
    cv: Sequence[str] = ()
    seed: int = 0
    pulls: Mapping[str, Pull] = dataclasses.field(default_factory=dict)
    apart: bool = False

    @property
    def candidates(self) -> tuple[str, ...]:
        """What may move: in the registry's order, then each engine's own where they are apart."""
        movable = in_order({*tuned_names(self.model), *self.freed} - {*self.fixed}, self.model)
        if not self.apart:
            return movable
        own = [name for name in movable if name in self.terms]
        engines = [engine for engine, _ in engines_of(self.points)]
        shared = [name for name in movable if name not in own]
        return (*shared, *(own_name(name, engine) for engine in engines for name in own))

    @property
    def terms(self) -> frozenset[str]:
        """What an engine adds, whatever the steps show: of a whole engine, they show more of it than kernels do."""
        unseen = self.steps is None or self._composed
        return frozenset((*REQUEST_TIME_NAMES, *(tuned_names(self.model) if unseen else ())))

    @property
    def unseen(self) -> frozenset[str]:
        """What holds its value for the steps: composed of kernels, they show nothing of what an engine adds."""
        return frozenset(tuned_names(self.model) if self._composed else REQUEST_TIME_NAMES)

    @property
    def _composed(self) -> bool:
        return self.steps is not None and bool(self.steps.data.frame["composed"].all())

    def has_terms(self, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The points (n,) of which ``rows`` (n,) show what their engine adds."""
        if not self.apart:
            return np.ones(len(self.points), dtype=bool)
        engines = self.points.frame["engine"].to_numpy(dtype=str)
        return np.isin(engines, engines[rows])

    def figures(self, replay: Replay, make: Callable[[Replay], Figures]) -> Figures:
        """What ``make`` computes of some requests of the points, each engine's with its own values."""
        return by_engine(self.points, replay, make) if self.apart else make(replay)

    def simulated(self, replay: Replay) -> Figures:
        """What the simulator says of some requests of the points."""
        return self.figures(replay, lambda requests: requests.figures_ms)

    def objective(
        self, figures: Figures, data: ServingData, only: NDArray[np.bool_] | None = None
    ) -> ServingObjective:
        """The residuals of ``data``, with the steps beside them where something that they see may move."""
        seen = {*self.candidates} & {*self.model.parameter_names} - self.unseen
        return ServingObjective(
            data,
            lambda hardware: figures(self.model, hardware),
            self.hardware,
            self.steps if seen else None,
            self.unseen,
            only,
            self.pulls,
        )

    def minimise(
        self, objective: ServingObjective, start: Mapping[str, float], tolerance: float
    ) -> Estimate:
        """Least squares over an objective of this problem."""
        return least_squares(
            objective.residuals, objective.jacobian, start, objective.loss(self.loss), tolerance
        )
