"""Our own JSON: every value of a GPU by name, with unit, interval and status where a finished fit gives them."""

from typing import Any

from calibrate.exporters.exported import Exported, Source, numbers, yaml_mapping
from calibrate.outcome.result import FitResult
from calibrate.outcome.result_json import dump_json, to_plain
from calibrate.records.errors import ImportFormatError
from sim.models.registry import PARAMETERS

_VERSION = 1
_FROM_RUN = (
    "value",
    "unit",
    "ci90",
    "ci90_method",
    "status",
)
_OF_RUN = (
    "latency_model",
    "created",
    "software",
    "data",
)
_WHAT = "GPU exported as json"


def write(source: Source) -> Exported:
    """Write the values of a run with their intervals, or those of the configuration without."""
    content: dict[str, Any] = {
        "format": "calibrate",
        "version": _VERSION,
        "gpu": source.gpu,
    }
    configured = _configured(source)

    if source.run is None:
        content["parameters"] = configured
        text = dump_json(content)
        note = "Without intervals: give the folder of a run with --run."
        return Exported(text, (note,))

    for key in _OF_RUN:
        content[key] = getattr(source.run, key)

    content["held_out_mape"] = _held_out_mape(source.run)
    content["parameters"] = configured | _fitted(source.run)
    text = dump_json(to_plain(content))
    return Exported(text)


def read(text: str) -> dict[str, float]:
    """The values by key. Raises ImportFormatError for another text."""
    content = yaml_mapping(text, _WHAT)
    parameters = content.get("parameters")
    ours = content.get("format") == "calibrate"
    current = content.get("version") == _VERSION
    if not (ours and current and isinstance(parameters, dict)):
        raise ImportFormatError(f"not a {_WHAT}, version {_VERSION}")

    for entry in parameters.values():
        if not isinstance(entry, dict):
            raise ImportFormatError(f"not a {_WHAT}: every parameter must hold a value")

    values = {}
    for name, entry in parameters.items():
        where = f"{_WHAT} ({name})"
        number = numbers(entry, ("value",), where)
        values[name] = number["value"]
    return values


def _configured(source: Source) -> dict[str, dict[str, Any]]:
    """Value and unit of every parameter in the GPU's configuration."""
    entries = {}
    for key, value in source.hardware.values.items():
        entry: dict[str, Any] = {"value": value}
        if key in PARAMETERS:
            entry["unit"] = PARAMETERS[key].unit
        entries[key] = entry
    return entries


def _fitted(run: FitResult) -> dict[str, dict[str, Any]]:
    """What the run says of every parameter that it fitted."""
    entries = {}
    for parameter in run.parameters:
        entry = {key: getattr(parameter, key) for key in _FROM_RUN}
        entries[parameter.name] = entry
    return entries


def _held_out_mape(run: FitResult) -> dict[str, float]:
    """The error on unseen data by kind of split."""
    errors = {}
    for name, slices in run.metrics.held_out.items():
        errors[name] = slices["all"].mape
    return errors
