"""``hardware_config.json`` of BLIS up to August 2026: its roofline's two efficiencies, fitted to that roofline.

Keys, their exact case, and the rule that both node bandwidths stand there or neither: docs/reference/configuration.md
of github.com/inference-sim/inference-sim (2026). ``_comment`` is a key that it passes over.
"""

import numpy as np

from calibrate.exporters.exported import RETIRED_BLIS, Exported, Source, held_out_name, own_error
from calibrate.fitting.identifiability import sensitivity
from calibrate.fitting.objective import Dataset, leave_out_incomputable
from calibrate.fitting.problem import Problem
from calibrate.fitting.search import search
from calibrate.outcome.result_json import dump_json
from calibrate.parameters.start import guided_start
from calibrate.trust.crossval import predict_held_out, splits
from calibrate.trust.metrics import errors
from sim.hardware import Hardware
from sim.models.blis.roofline import BlisRoofline
from sim.steps.batch import Floats

_KEYS = (
    "TFlopsPeak",
    "TFlopsFP8",
    "BwPeakTBs",
    "mfuPrefill",
    "mfuDecode",
    "MemoryGiB",
)
_NODE = (
    "IntraNodeBwGBps",
    "InterNodeBwGBps",
)
_LOSS = "soft_l1"
_STARTS = 8
_SEED = 0


def write(source: Source) -> Exported:
    """Fit, and write one GPU's block. Raises HardwareError without MemoryGiB, CalibrateError without a step to fit."""
    memory = source.peaks.positive("MemoryGiB")
    fitted, fit_notes = fit_efficiencies(source.peaks, source.data)
    values = {"MemoryGiB": memory, **fitted.values}
    keys = [key for key in _KEYS if key in values]
    notes = list(fit_notes)
    if all(values.get(key, 0) > 0 for key in _NODE):
        keys += _NODE
    else:
        names = " and ".join(_NODE)
        notes.append(f"{names} go together, and the configuration has not both: left out.")

    block: dict[str, str | float] = {"_comment": " ".join((f"For {RETIRED_BLIS}.", *fit_notes))}
    block |= {key: values[key] for key in keys}
    return Exported(dump_json({source.gpu: block}), tuple(notes))


def fit_efficiencies(hardware: Hardware, data: Dataset) -> tuple[Hardware, tuple[str, ...]]:
    """The hardware with the two efficiencies that fit BLIS's roofline to the steps; and in words, how well.

    What the configuration has under these names belongs to another model and does not matter to the fit.
    """
    model = BlisRoofline()
    data, left_out = leave_out_incomputable(model, data)
    start = hardware.with_values(guided_start(model))
    problem = Problem(model, start, data, model.parameter_names, _LOSS)
    best = search(problem, _STARTS, _SEED).best
    fitted = hardware.with_values(best.values)

    notes = [_fit_note(problem, fitted, best.values)]
    for name in sensitivity(model, fitted, data).inert:
        value = best.values[name]
        notes.append(f"No step shows {name}: at {value:.3g}, memory bounds them all.")
    notes += _copied_notes(hardware, data)
    notes += left_out
    return fitted, tuple(notes)


def _fit_note(problem: Problem, fitted: Hardware, values: dict[str, float]) -> str:
    data = problem.data
    error = _mape(BlisRoofline().predict_us(data.table, fitted), data)
    held_out = []
    for split in splits(data, _SEED):
        predicted = predict_held_out(problem, values, split, _SEED)
        held_out.append(f"{held_out_name(split.name)} {_mape(predicted, data):.1%}")
    unseen = f"; left out {', '.join(held_out)}" if held_out else ""
    return (
        f"mfuPrefill and mfuDecode are fitted to this simulator's roofline on {len(data):,} steps: "
        f"mean error {error:.1%}{unseen}."
    )


def _copied_notes(hardware: Hardware, data: Dataset) -> list[str]:
    """How far roofline-v1 gets on the same steps, and its efficiencies in BLIS's roofline: why they are not copied."""
    own = own_error(hardware, data)
    if own is None:
        return []
    copied = _mape(BlisRoofline().predict_us(data.table, hardware), data)
    return [
        f"roofline-v1's, copied, would err by {copied:.1%} (in roofline-v1 itself by {own:.1%})."
    ]


def _mape(predicted: Floats, data: Dataset) -> float:
    known = ~np.isnan(predicted)
    return errors(predicted[known], data.measured_us[known]).mape
