"""What ``calibrate`` offers to Python beside loading campaigns, plans and evaluations: fit, predict, export.

Each takes one campaign, several, or a frame of steps; and a configuration, or the path of a file of them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from calibrate.campaign.inputs import CampaignsLike, HardwareLike, as_campaigns, as_hardware, gpu_of
from calibrate.campaign.step_rows import read_steps
from calibrate.exporters import export as make_export
from calibrate.exporters import write_exported
from calibrate.exporters.exported import Exported, Source
from calibrate.exporters.step_times import Serving
from calibrate.job import calibration
from calibrate.job.fitted import Fit
from calibrate.job.options import Options
from calibrate.parameters.start import starting_hardware
from calibrate.records.errors import CalibrateError, CampaignError
from calibrate.records.schema import STEPS_TO_PREDICT
from calibrate.records.tables import check_table
from sim.database.table import MfuTable
from sim.hardware import Hardware
from sim.models.registry import latency_model

_DEFAULTS = Options()


def fit(
    campaigns: CampaignsLike,
    hardware: HardwareLike,
    options: Options = _DEFAULTS,
    *,
    gpu: str | None = None,
    mfu_table: MfuTable | None = None,
    progress: Callable[[str], None] = lambda _: None,
    **changes: Any,
) -> Fit:
    """Fit a latency model's parameters to the rows of campaigns, and judge the fit. Nothing is written.

    Args:
        campaigns: One campaign, several, or a frame with the columns of a steps table.
        hardware: Where to start: a configuration, or the path of a ``hardware_config.json``, whose block of the
            campaigns' GPU is taken (of a new GPU: the registry's peaks).
        options: What the command line has as options, see :class:`calibrate.Options`.
        gpu: Which GPU of a file is meant, where ``campaigns`` is a frame.
        mfu_table: The benchmark database of a model that needs one.
        progress: Told the name of each part of the work.
        changes: Options by name: ``latency_model="roofline-v3"``, ``fix={"mfuDecode": 0.3}``, ``serving=True`` …

    Raises:
        CampaignError: If a campaign has errors (unless ``skip_bad_rows``).
        CalibrateError: If nothing can be fitted, or an option is not known or out of range.
        HardwareError: If the configuration lacks what the model needs.

    """
    options = options.changed(changes)
    start, notes = _start(hardware, gpu or gpu_of(campaigns), options.latency_model)
    rows = as_campaigns(campaigns, start)
    result = calibration.fit(
        rows, start, options, mfu_table=mfu_table, notes=notes, progress=progress
    )
    return Fit.of(result, start)


def predict(
    steps: pd.DataFrame,
    hardware: HardwareLike,
    *,
    model: str = "roofline-v1",
    mfu_table: MfuTable | None = None,
) -> pd.DataFrame:
    """The rows of a steps table (n of them) with the column ``predicted_us``; ``latency_us`` is not needed.

    Raises CampaignError, naming row and column, for a row that is no step, and HardwareError if the configuration
    lacks what the model needs.
    """
    source = check_table(Path("steps"), steps, STEPS_TO_PREDICT)
    rows, table, problems = read_steps(source)
    bad = [problem for problem in (*source.problems, *problems) if problem.severity == "error"]
    if bad:
        raise CampaignError(bad)
    chosen = latency_model(model, mfu_table=mfu_table)
    predicted_us = chosen.predict_us(table, as_hardware(hardware))
    return rows.drop(columns="line").assign(predicted_us=predicted_us).set_axis(steps.index)


def export(
    name: str,
    source: Fit | HardwareLike,
    path: str | Path | None = None,
    *,
    ground_truth: str | Path = "ground_truth",
    serving: Serving | None = None,
    force: bool = False,
) -> Exported:
    """A fit, or a configuration, in another tool's format (``calibrate show formats`` lists them).

    Written to ``path`` where one is given. Some formats are fitted anew, to the campaigns in ``ground_truth``; some
    describe served models, which ``serving`` names with their degrees and latency model. Raises
    CalibrateError for an unknown format, a file that is there (unless ``force``), or what the format cannot hold.
    """
    run = source if isinstance(source, Fit) else None
    known = source.hardware if isinstance(source, Fit) else as_hardware(source)
    exported = make_export(name, Source(known, Path(ground_truth), (), run, serving or Serving()))
    if path is not None:
        write_exported(exported, Path(path), force=force)
    return exported


def _start(hardware: HardwareLike, gpu: str | None, model: str) -> tuple[Hardware, list[str]]:
    """The configuration to start from, and notes on what did not come from the file."""
    if not isinstance(hardware, str | Path):
        return as_hardware(hardware, gpu), []
    if gpu is None:
        gpu = as_hardware(hardware).gpu
    if model == "auto":
        raise CalibrateError(
            "latency_model='auto' tries several models: fit each, and compare their held-out errors"
        )
    return starting_hardware(Path(hardware), gpu, None, model)
