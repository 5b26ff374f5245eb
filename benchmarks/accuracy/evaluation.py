"""One latency model on one data set: its errors with the guide's values, fitted, and on rows left out of the fit."""

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.accuracy.datasets import StepData
from calibrate.campaign.campaign import Campaign
from calibrate.exporters import export, write_exported
from calibrate.exporters.exported import Source
from calibrate.fitting.objective import build_dataset, leave_out_incomputable
from calibrate.job.calibration import fit
from calibrate.outcome.kernels import kernel_estimates
from calibrate.outcome.result import FitResult
from calibrate.parameters.start import guide_hardware as guide_start
from calibrate.records.errors import CalibrateError
from calibrate.trust.metrics import Errors, errors_by_slice
from sim.database.files import load_mfu_table
from sim.database.table import MfuTable
from sim.errors import SimError
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.models.registry import latency_model, needs_mfu_table

MODELS = ("roofline-v1", "roofline-v3", "roofline-v2", "roofline-v2-interp")
TREATMENTS = {
    "guide": "guide",
    "kernels": "kernels",
    "fitted": "fitted",
    "run": "by run",
    "model": "model out",
    "tp": "TP out",
}
"""What the parameters come from, by the key in files, as the tables' columns say it."""

SliceErrors = dict[str, Errors]


@dataclasses.dataclass(frozen=True)
class Contender:
    """A latency model, with the benchmark database it looks MFUs up in if it needs one."""

    label: str
    model: str
    mfu_table: MfuTable | None = None

    @property
    def latency_model(self) -> LatencyModel:
        """The model itself."""
        return latency_model(self.model, mfu_table=self.mfu_table)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Errors by treatment and slice; ``result`` is None, and ``failure`` says why, where nothing could be fitted."""

    data: StepData
    contender: Contender
    errors: Mapping[str, SliceErrors]
    result: FitResult | None = None
    failure: str = ""

    def error(self, treatment: str, where: str = "all") -> float | None:
        """The mean absolute relative error of a slice; None where there is none."""
        found = self.errors.get(treatment, {}).get(where)
        return None if found is None else found.mape

    @property
    def hardest(self) -> str:
        """The first of one model, one TP and runs that could be left out; empty where nothing could."""
        return next((how for how in ("model", "tp", "run") if how in self.errors), "")

    @property
    def rows(self) -> int:
        """The steps that the model can compute."""
        return self.errors["guide"]["all"].n if "guide" in self.errors else 0


def contenders(data: StepData, reference: Path | None = None) -> Iterator[Contender]:
    """Every latency model, those with a database with one of the GPU's own kernels, and with the ``reference`` one."""
    own = _own_database(data)
    given = None if reference is None or data.gpu != "H100" else load_mfu_table(reference, data.gpu)
    for model in MODELS:
        yield Contender(model, model, own if needs_mfu_table(model) else None)
    for model in filter(needs_mfu_table, MODELS if given is not None else ()):
        yield Contender(f"{model}, reference database", model, given)


def evaluate(data: StepData, contender: Contender) -> Evaluation:
    """Fit the model to the data with the defaults of ``calibrate fit``, rows that validation refuses left out."""
    start = guide_hardware(data.gpu, contender.model)
    campaign = data.load(start)
    try:
        result = fit(
            [campaign],
            start,
            latency_model=contender.model,
            mfu_table=contender.mfu_table,
            skip_bad_rows=True,
        )
    except (CalibrateError, SimError) as error:
        return Evaluation(data, contender, {}, failure=str(error))
    metrics = result.metrics
    found = {"guide": metrics.before, "fitted": metrics.after, **metrics.held_out}
    found["run"] = found.pop("folds", found.get("run", {}))
    if by_kernels := _by_kernels(campaign, start, contender):
        found["kernels"] = by_kernels
    return Evaluation(
        data, contender, {name: found[name] for name in TREATMENTS if found.get(name)}, result
    )


def guide_hardware(gpu: str, model: str) -> Hardware:
    """What the calibration guide starts from; a GPU it does not know, from the vendor's peaks and H100's values."""
    return guide_start(gpu, model=model)[0]


def predict_errors(campaign: Campaign, contender: Contender, hardware: Hardware) -> SliceErrors:
    """The errors of predictions with given values, by slice."""
    model = contender.latency_model
    data, _ = leave_out_incomputable(model, build_dataset([campaign]))
    return errors_by_slice(model.predict_us(data.table, hardware), data.frame)


def _by_kernels(campaign: Campaign, start: Hardware, contender: Contender) -> SliceErrors:
    """With what the campaign's kernel tables say of parameters by themselves, the others as they start."""
    names = contender.latency_model.parameter_names
    known = {
        k.parameter: k.value for k in kernel_estimates([campaign], start) if k.parameter in names
    }
    return predict_errors(campaign, contender, start.with_values(known)) if known else {}


def _own_database(data: StepData) -> MfuTable | None:
    """The database that the kernel tables of the GPU make; None where they lack what one needs."""
    source = Source(guide_hardware(data.gpu, MODELS[0]), data.kernels)
    with tempfile.TemporaryDirectory() as folder:
        try:
            write_exported(export("bench-data", source), Path(folder))
        except CalibrateError:
            return None
        return load_mfu_table(folder, data.gpu)
