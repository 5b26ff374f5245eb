"""Logs in which one parameter moves: whether the alarm names it."""

import itertools

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.watch.misfit import misfit
from benchmarks.watch.noises import correlated
from benchmarks.watch.setting import HARDWARE, new_watch
from calibrate.watch.watched import watched
from sim.models.latency_model import LatencyModel
from sim.models.registry import latency_model, parameter_in
from sim.steps.batch import Floats, StepTable
from tests.watched import traffic, watched_rows


def named(model_name: str, logs: int) -> dict[str, float]:
    """One parameter moves by so much that some phase takes 4% to 12% longer: whether it alone is named, or first."""
    model = latency_model(model_name)
    values = model.parameters(HARDWARE)
    right = first = among = cases = 0
    for seed in itertools.count():
        rng = np.random.default_rng(seed)
        steps = traffic(30_000, seed=seed, phases=(0.5, 0.35, 0.15))
        name = str(rng.choice([p.name for p in model.parameter_set if not p.tied_to]))
        change = _change_of(model, steps, values, name, rng)
        if change is None:
            continue
        cases += 1
        extra = correlated(0.04, 0.3)(rng, len(steps)) + misfit(steps, rng)
        extra[24_000:] += change[24_000:]
        watch = new_watch(window=400, model=model)
        watch.take_in(watched_rows(steps, HARDWARE, log_extra=extra, model=model))
        refits = [one.refit for one in watched(watch, "").changes if one.refit is not None]
        if refits:
            moved = [one.name for one in refits[0].moved]
            first += moved[0] == name
            right += moved == [name] and not refits[0].rivals
            among += name in (*moved, *(one.name for one in refits[0].rivals))
        if cases == logs:
            break
    return {
        "logs": logs,
        "named_first": first / logs,
        "named_alone": right / logs,
        "named_or_rival": among / logs,
    }


def _change_of(
    model: LatencyModel,
    steps: pd.DataFrame,
    values: dict[str, float],
    name: str,
    rng: np.random.Generator,
) -> Floats | None:
    """ln of the times at another value over those before; None where no value makes a phase so much slower."""
    table = StepTable.from_columns(steps)
    wanted = rng.uniform(0.04, 0.12)
    before = model.predict_us(table, HARDWARE)
    parameter = parameter_in(model, name)
    factors = np.geomspace(1.02, 8.0, 40)
    for value in np.stack([values[name] / factors, values[name] * factors], axis=1).ravel():
        if parameter.lower < value < parameter.upper:
            after = model.predict_us(table, HARDWARE.with_values({name: float(value)}))
            change = np.log(after / before)
            slower = max(float(change[rows].mean()) for rows in _phases(steps))
            if wanted <= slower <= 2 * wanted:
                return np.asarray(change)
    return None


def _phases(steps: pd.DataFrame) -> tuple[NDArray[np.bool_], ...]:
    prompts = (steps["num_prefill_requests"] > 0).to_numpy()
    decodes = (steps["num_decode_requests"] > 0).to_numpy()
    return decodes & ~prompts, prompts & ~decodes, decodes & prompts
