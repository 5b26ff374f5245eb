"""What is not known of a server: parameters drawn from their fit, and how far such fits are off on other servers."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd

from calibrate.capacity.server_errors import (
    ServerErrors,
    errors_as_stated,
    server_errors,
    untuned_errors,
)
from calibrate.capacity.thresholds import UNTUNED_ITL, UNTUNED_TTFT
from calibrate.outcome.result import FitResult
from calibrate.records.errors import CalibrateError
from calibrate.records.interval import Z90
from calibrate.serving.summary import ServingSummary
from sim.configuration import Interval
from sim.hardware import engines_named
from sim.models.parameter import Parameter
from sim.models.registry import PARAMETERS
from sim.steps.batch import Floats


@dataclasses.dataclass(frozen=True, eq=False)
class ParameterDraws:
    """``values`` (n, p) that the parameters ``names`` may have, one set as likely as another; ``source`` in words."""

    names: tuple[str, ...]
    values: Floats
    source: str

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        """One set."""
        if not self.names:
            return {}
        row = self.values[rng.integers(len(self.values))]
        return dict(zip(self.names, row.tolist(), strict=True))


@dataclasses.dataclass(frozen=True)
class Draw:
    """One server that could be: parameters, by how much its steps take longer, its first tokens, and its requests."""

    values: Mapping[str, float]
    slower: float
    first_token_slower: float
    seed: int


@dataclasses.dataclass(frozen=True, eq=False)
class Uncertainty:
    """What is not known of one GPU's servers, and ``notes`` on what is not even known to be unknown."""

    parameters: ParameterDraws
    errors: ServerErrors
    notes: tuple[str, ...]

    def draws(self, number: int, seed: int, tp: int) -> list[Draw]:
        """So many servers; parameters and requests are the same for every ``tp`` (common random numbers)."""
        streams = np.random.default_rng(seed).spawn(number)
        return [self._draw(rng, tp, seed + 1 + i) for i, rng in enumerate(streams)]

    def _draw(self, rng: np.random.Generator, tp: int, seed: int) -> Draw:
        values = self.parameters.draw(rng)
        itl, ttft = self.errors.draw(rng, tp)
        return Draw(values, itl, ttft, seed)


def uncertainty_of(
    gpu: str,
    run: FitResult | None,
    number: int,
    seed: int,
    engine: str | None = None,
    transferred: ParameterDraws | None = None,
    model: str = "",
) -> Uncertainty:
    """What a run says of a GPU and an ``engine``; without a run, what was ``transferred`` to it, or no spread at all.

    Errors are those of untuned parameters where no fit to servers says how far it is off, or none on a ``model`` that
    they did not serve.
    """
    if run is None and transferred is not None:
        return Uncertainty(transferred, untuned_errors(seed), (_untuned_note(gpu),))
    if run is None:
        note = (
            f"{gpu}: the configuration stores no covariance and no run of it was found: its bands hold the error on "
            "servers and chance, and not what the parameters are unsure of; give its run with --run"
        )
        nothing = ParameterDraws((), np.zeros((1, 0)), "none")
        return Uncertainty(nothing, untuned_errors(seed), (note, _untuned_note(gpu)))
    servers = as_for(servers_of(run, engine), run, model)
    parameters = parameter_draws(run, number, seed, servers)
    errors = server_errors(run)
    if errors is None and servers is not None:
        errors = errors_as_stated(servers, seed)
    notes = [] if parameters.names else [f"{gpu}: its run gives no spread of its parameters"]
    if errors is None or servers is None:
        return Uncertainty(parameters, untuned_errors(seed), (*notes, _untuned_note(gpu)))
    if model and "model" not in servers.held_out and model not in servers.models:
        return Uncertainty(
            parameters, untuned_errors(seed), (*notes, _unseen_note(gpu, model, servers))
        )
    return Uncertainty(parameters, errors, tuple(notes))


def as_for(servers: ServingSummary | None, run: FitResult, model: str) -> ServingSummary | None:
    """What an engine's servers say of a ``model``: of one that they did not serve, nothing of shares of peaks."""
    if servers is None or servers is run.serving:
        return servers
    if not model or not servers.models or model in servers.models:
        return servers
    tuned = [one for one in servers.tuned if not PARAMETERS[one.name].of_engines]
    names = [one.name for one in tuned if one.name in servers.covariance]
    covariance = {
        name: {other: servers.covariance[name][other] for other in names} for name in names
    }
    return dataclasses.replace(servers, tuned=tuple(tuned), covariance=covariance)


def transferred_draws(
    values: Mapping[str, float], intervals: Mapping[str, Interval], number: int, seed: int
) -> ParameterDraws:
    """Sets of values with 90% ``intervals`` of other GPUs, each normal on its parameter's scale about its value."""
    rng = np.random.default_rng(seed)
    columns = {
        name: _about(PARAMETERS[name], values[name], ends, rng.standard_normal(number))
        for name, ends in intervals.items()
        if name in values
    }
    table = np.column_stack([*columns.values()]) if columns else np.zeros((number, 0))
    return ParameterDraws(tuple(columns), table, "other GPUs")


def _about(parameter: Parameter, value: float, ends: Interval, normal: Floats) -> Floats:
    """Values so many standard deviations off; of an interval that a bound cuts, the longer side says how many."""
    low, centre, high = (
        parameter.point(min(max(one, parameter.lower), parameter.upper))
        for one in (ends[0], value, ends[1])
    )
    sd = max(abs(centre - low), abs(high - centre)) / Z90
    return np.array([parameter.value_at(centre + sd * one) for one in normal])


def servers_of(run: FitResult, engine: str | None) -> ServingSummary | None:
    """What the run's servers say: of all, else of an engine, named with or without its version; None of neither."""
    if run.serving is not None or engine is None:
        return run.serving
    used = {one.engine: one for one in run.engines if not one.is_worse}
    found = engines_named(engine, used)
    return used[found[0]] if len(found) == 1 else None


def parameter_draws(
    run: FitResult, number: int, seed: int, servers: ServingSummary | None = None
) -> ParameterDraws:
    """Sets of values from a bootstrap, else a chain, else ``number`` of the covariance; what ``servers`` tuned beside.

    What serving results tuned on top of steps is drawn from the covariance of that fit, whatever the steps' values.
    Raises CalibrateError for a run whose draws or covariance are not those of its parameters.
    """
    rng = np.random.default_rng(seed)
    joint, source = _joint(run, number, rng)
    tuned = _tuned(servers if run.has_steps else None, len(joint), rng)
    drawn = joint[[name for name in joint if name not in tuned]].join(tuned)
    columns = {str(name): drawn[name].to_numpy(np.float64) for name in drawn}
    bounds = {one.name: (one.lower, one.upper) for one in run.parameters}
    bounds = {**_bounds_of(servers), **bounds}
    unknown = next((name for name in columns if name not in bounds), None)
    if unknown is not None:
        raise CalibrateError(_damaged(source, f"{unknown} is no parameter of the run"))
    inside = [np.clip(column, *bounds[name]) for name, column in columns.items()]
    values = np.column_stack(inside) if inside else np.zeros((len(drawn), 0))
    if not np.isfinite(values).all():
        raise CalibrateError(_damaged(source, "a value is no number"))
    return ParameterDraws(tuple(columns), values, source)


def _damaged(source: str, what: str) -> str:
    return f"the run's {source} cannot be drawn from: {what}; was result.json edited? Run the fit again"


def _joint(run: FitResult, number: int, rng: np.random.Generator) -> tuple[pd.DataFrame, str]:
    """A column a parameter that the fit itself moved, a row a set, and where they come from."""
    for kept, source in ((run.bootstrap, "bootstrap"), (run.mcmc, "chain")):
        if kept is not None and kept.values:
            if len({len(column) for column in kept.values.values()}) > 1:
                raise CalibrateError(_damaged(source, "its columns differ in length"))
            whole = pd.DataFrame(kept.values).astype(float).dropna(ignore_index=True)
            if len(whole) > 1:
                return whole, source
    return _normal(run.fit.covariance, run.values, number, rng), "covariance"


def _tuned(servers: ServingSummary | None, number: int, rng: np.random.Generator) -> pd.DataFrame:
    """What serving results moved after steps, drawn of that fit's covariance: a column a parameter."""
    if servers is None:
        return pd.DataFrame(index=range(number))
    values = {one.name: one.value for one in servers.tuned}
    return _normal(servers.covariance, values, number, rng)


def _bounds_of(servers: ServingSummary | None) -> dict[str, tuple[float, float]]:
    tuned = () if servers is None else servers.tuned
    known = [PARAMETERS[one.name] for one in tuned if one.name in PARAMETERS]
    return {one.name: (one.lower, one.upper) for one in known}


def _normal(
    covariance: Mapping[str, Mapping[str, float]],
    centre: Mapping[str, float],
    number: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """So many rows of a normal distribution, a column a parameter; none where nothing is known of any.

    Raises CalibrateError where the covariance is not that of the values.
    """
    names = [name for name in covariance if name in centre]
    matrix = pd.DataFrame(covariance).reindex(index=names, columns=names).to_numpy(float)
    if len(names) < len(covariance) or not np.isfinite(matrix).all():
        raise CalibrateError(_damaged("covariance", "it is not that of the run's parameters"))
    if not names:
        return pd.DataFrame(index=range(number))
    means = [centre[name] for name in names]
    drawn = rng.multivariate_normal(means, matrix, number, check_valid="ignore")
    return pd.DataFrame(drawn, columns=names)


def _untuned_note(gpu: str) -> str:
    return (
        f"{gpu}: no server tuned its parameters: errors of ITL {UNTUNED_ITL:.0%} and TTFT {UNTUNED_TTFT:.0%} are "
        "taken, to either side, though servers are mostly slower than kernels; calibrate fit --serving tunes them"
    )


def _unseen_note(gpu: str, model: str, servers: ServingSummary) -> str:
    return (
        f"{gpu}: its servers served {', '.join(servers.models) or 'other models'} only, and say nothing of how far off "
        f"{model} is: errors of ITL {UNTUNED_ITL:.0%} and TTFT {UNTUNED_TTFT:.0%} are taken, to either side"
    )
