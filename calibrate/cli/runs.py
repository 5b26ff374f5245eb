"""The runs behind configurations: those named with ``--run``, else the one whose values a configuration holds."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from calibrate.cli.console import REPORTS, stderr

if TYPE_CHECKING:
    from calibrate.capacity.uncertainty import ParameterDraws, Uncertainty
    from calibrate.outcome.result import FitResult
    from sim.hardware import Hardware

_LOOKED_AT = 10  # the newest runs
_SAME = 1e-9


def runs_of(
    hardware: "Sequence[Hardware]", given: Sequence[Path], latency_model: str
) -> "dict[str, FitResult]":
    """The run of each GPU that has one, by the name of its configuration.

    Raises CalibrateError for a run that is malformed, of another latency model, or of a GPU that is not among them.
    """
    from calibrate.outcome.run_files import read_run
    from calibrate.records.errors import CalibrateError
    from sim.hardware import find_gpu

    gpus = [one.gpu for one in hardware]
    named = {}
    for folder in given:
        run = read_run(folder)
        gpu = find_gpu(run.gpu, gpus)
        if gpu is None:
            raise CalibrateError(
                f"--run {folder}: is of {run.gpu}, which is no candidate (--gpu gives {', '.join(gpus)})"
            )
        if run.latency_model != latency_model:
            raise CalibrateError(
                f"--run {folder}: was fitted with {run.latency_model}; give --latency-model {run.latency_model}"
            )
        if gpu in named:
            raise CalibrateError(
                f"--run {folder}: a run of {gpu} is given already; give one of each"
            )
        named[gpu] = run
    found = {one.gpu: _found(one, latency_model) for one in hardware if one.gpu not in named}
    return named | {gpu: run for gpu, run in found.items() if run is not None}


def _transferred_to(hardware: "Hardware", number: int, seed: int) -> "ParameterDraws | None":
    """Draws of the values that a configuration has from other GPUs; None where it has none."""
    from calibrate.capacity.uncertainty import transferred_draws
    from sim.configuration import read_config, read_transferred

    if not Path(hardware.source).is_file():
        return None
    block = read_config(hardware.source)[hardware.gpu]
    intervals = read_transferred(block, hardware.gpu, hardware.source)
    return transferred_draws(hardware.values, intervals, number, seed) if intervals else None


def uncertainties(
    hardware: "Sequence[Hardware]",
    runs: "Mapping[str, FitResult]",
    draws: int,
    seed: int,
    engine: str | None,
    model: str,
) -> "dict[str, Uncertainty]":
    """What is not known of each GPU's servers of a model: by its run, else by what other GPUs lent it."""
    from calibrate.capacity.uncertainty import uncertainty_of

    return {
        one.gpu: uncertainty_of(
            one.gpu,
            runs.get(one.gpu),
            draws,
            seed,
            engine,
            _transferred_to(one, draws, seed),
            model,
        )
        for one in hardware
    }


def as_fitted(hardware: "Hardware", run: "FitResult | None") -> "Hardware":
    """The GPU with the values of its run, if there is one, and the terms of the engines that it fitted."""
    from calibrate.job.engines import engine_entries, models_of_engines

    if run is None:
        return hardware
    engines = {**hardware.engines, **engine_entries(run)}
    served = {**hardware.served, **models_of_engines(run)}
    return dataclasses.replace(hardware.with_values(run.values), engines=engines, served=served)


def _found(hardware: "Hardware", latency_model: str) -> "FitResult | None":
    """The newest run in ``reports/`` that a configuration was written by: its values are the run's."""
    from calibrate.outcome.run_files import read_run
    from calibrate.records.errors import CalibrateError

    folder = REPORTS / hardware.gpu
    if not folder.is_dir():
        return None
    for at in sorted(folder.glob("*/result.json"), reverse=True)[:_LOOKED_AT]:
        try:
            run = read_run(at.parent)
        except CalibrateError:
            continue  # one by an older version says nothing of this configuration
        if run.latency_model == latency_model and _holds(hardware, run.values):
            stderr().print(f"run {at.parent}", markup=False, soft_wrap=True)
            return run
    return None


def _holds(hardware: "Hardware", values: dict[str, float]) -> bool:
    return all(
        math.isclose(hardware.values.get(name, math.nan), value, rel_tol=_SAME, abs_tol=_SAME)
        for name, value in values.items()
    )
