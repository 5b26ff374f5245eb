"""What steps are held against: a configuration, a run or a profile, with its own residuals where it has any."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from calibrate.outcome.profiles import find_profile
from calibrate.outcome.result import FitResult
from calibrate.outcome.run_files import read_run
from calibrate.records.errors import CalibrateError
from calibrate.watch.reference import Reference, learn
from calibrate.watch.served import Served
from sim.configuration import load_hardware
from sim.hardware import Hardware, canonical_gpu
from sim.steps.batch import Floats


@dataclasses.dataclass(frozen=True, eq=False)
class Calibrated:
    """A calibration by its ``name``: the GPU's values, its latency model where it says one, and a run's result."""

    name: str
    hardware: Hardware
    latency_model: str | None
    run: FitResult | None

    @property
    def biases(self) -> dict[str, float]:
        """The run's own mean ln(measured/predicted) by phase; empty without a run of steps."""
        rows = self._rows
        if rows is None:
            return {}
        return {str(phase): float(part.mean()) for phase, part in rows.groupby("phase")["ln"]}

    def references(self, served: Served) -> dict[str, Reference]:
        """The run's own residuals as references by phase. Raises CalibrateError without a run of steps."""
        rows = self._rows
        if rows is None:
            raise CalibrateError(
                f"--reference run: {self.name} is no run with predictions of steps; give --against the run's folder"
            )
        return {
            str(phase): learn(part["ln"].to_numpy(), _octaves(part), _numbers(part, served))
            for phase, part in rows.groupby("phase")
        }

    @property
    def _rows(self) -> pd.DataFrame | None:
        if self.run is None or not len(self.run.predictions):
            return None
        rows = self.run.predictions
        return rows.assign(ln=np.log(rows["measured_us"] / rows["after_us"]))


def read_calibrated(against: Path, gpu: str) -> Calibrated:
    """The calibration at a path. Raises CalibrateError or HardwareError for what is none, or of another GPU."""
    if not against.is_dir():
        return Calibrated(str(against), load_hardware(against, gpu), None, None)
    if not (against / "result.json").exists():
        profile = find_profile(against)
        hardware = load_hardware(profile.configuration, gpu)
        return Calibrated(str(profile.folder), hardware, profile.latency_model, None)
    run = read_run(against)
    if canonical_gpu(run.gpu).lower() != canonical_gpu(gpu).lower():
        raise CalibrateError(
            f"{against}: is a run of {run.gpu}, not of {gpu}: give --gpu {run.gpu}"
        )
    hardware = Hardware(run.gpu, {**run.values, **run.peaks}, str(against))
    return Calibrated(str(against), hardware, run.latency_model, run)


def _octaves(rows: pd.DataFrame) -> Floats:
    batch = np.maximum(rows["batch"].to_numpy(dtype=np.float64), 1.0)
    context, prompt = (
        rows[name].to_numpy(dtype=np.float64) for name in ("context_tokens", "prefill_tokens")
    )
    octaves: Floats = np.log2(np.stack([batch, context + 1.0, prompt + 1.0]))
    return octaves


def _numbers(rows: pd.DataFrame, served: Served) -> "np.ndarray[tuple[int], np.dtype[np.intp]]":
    labels: Mapping[str, pd.Series[str]] = {n: rows[n].astype(str) for n in ("model", "dtype")}
    keys = zip(labels["model"], labels["dtype"], rows["tp"].astype(int), strict=True)
    return np.array(
        [served.number((model, dtype, "", "", 1, tp)) for model, dtype, tp in keys], dtype=np.intp
    )
