"""Our own JSON: every value of a GPU by name, with unit, interval and status where a finished fit gives them."""

from typing import Any

from calibrate.exporters.exported import Exported, Source, numbers, yaml_mapping
from calibrate.outcome.result_json import dump_json, to_plain
from calibrate.records.errors import ImportFormatError
from sim.models.registry import PARAMETERS

_VERSION = 1
_FROM_RUN = ("value", "unit", "ci90", "ci90_method", "status")
_OF_RUN = ("latency_model", "created", "software", "data")
_WHAT = "GPU exported as json"


def write(source: Source) -> Exported:
    """Write the values of a run with their intervals, or those of the configuration without."""
    values = {key: {"value": value, **_unit(key)} for key, value in source.hardware.values.items()}
    content: dict[str, Any] = {"format": "calibrate", "version": _VERSION, "gpu": source.gpu}
    if source.run is None:
        notes = ("Without intervals: give the folder of a run with --run.",)
        return Exported(dump_json(content | {"parameters": values}), notes)
    fitted = {p.name: {key: getattr(p, key) for key in _FROM_RUN} for p in source.run.parameters}
    content |= {key: getattr(source.run, key) for key in _OF_RUN}
    content["held_out_mape"] = {name: slices["all"].mape for name, slices in source.run.metrics.held_out.items()}
    content["parameters"] = {**values, **fitted}
    return Exported(dump_json(to_plain(content)))


def read(text: str) -> dict[str, float]:
    """The values by key. Raises ImportFormatError for another text."""
    content = yaml_mapping(text, _WHAT)
    parameters = content.get("parameters")
    if content.get("format") != "calibrate" or content.get("version") != _VERSION or not isinstance(parameters, dict):
        raise ImportFormatError(f"not a {_WHAT}, version {_VERSION}")
    if not all(isinstance(entry, dict) for entry in parameters.values()):
        raise ImportFormatError(f"not a {_WHAT}: every parameter must hold a value")
    return {name: numbers(entry, ("value",), f"{_WHAT} ({name})")["value"] for name, entry in parameters.items()}


def _unit(key: str) -> dict[str, str]:
    return {"unit": PARAMETERS[key].unit} if key in PARAMETERS else {}
